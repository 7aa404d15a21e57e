"""Crops of resized pictures, computed without resizing the whole picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ResizeFilter = Literal["bilinear", "area", "antialiased"]
"""bilinear: interpolate between the two nearest pixels of an axis at any scale (OpenCV's INTER_LINEAR).
area: average over the covered pixels (INTER_AREA).
antialiased: a triangle filter as wide as the scale (`F.interpolate` with `antialias=True`)."""

Window = Tensor | NDArray[Any]
"""Frames `[N, 3, H, W]`: a tensor, or an array such as a view of a memory map; any strides, uint8 or floating."""

BLOCK_ROWS = 32
"""Rows (or columns) of a crop per matrix product on a CPU; smaller blocks multiply fewer zeros of the band matrix."""


def resized_crops(
    window: Window,
    size: tuple[int, int],
    corners: Sequence[tuple[int, int]],
    crop_size: tuple[int, int],
    resize_filter: ResizeFilter,
) -> Tensor:
    """Return a crop of each frame as if the whole frame had been resized before.

    window: `[N, 3, H, W]`. size: (height, width) after the resize, not larger than the frames. corners: the top-left
    corner (y, x) of each frame's crop in the resized frame. crop_size: (height, width). Returns floats `[N, 3, h, w]`
    on the window's device.

    A resized row is a weighted sum of rows, so resizing an axis is a product with a band matrix. Only the rows and
    columns of the crops are computed, block by block.
    """
    tops, lefts = zip(*corners, strict=True)
    rows = _resize_bands(window.shape[-2], size[0], tops, crop_size[0], resize_filter, window)
    columns = _resize_bands(window.shape[-1], size[1], lefts, crop_size[1], resize_filter, window)
    region = to_floating(window[:, :, rows.start : rows.stop, columns.start : columns.stop])
    if region.stride(1) == 1:  # channels-last: multiplied in its own memory layout
        flat = region.permute(0, 2, 3, 1).flatten(2)
        resized = torch.cat([band.weights @ flat[:, band.sources] for band in rows.bands], 1)
        resized = resized.view(len(resized), crop_size[0], columns.stop - columns.start, -1).permute(0, 3, 1, 2)
    else:
        resized = torch.cat([band.weights[:, None] @ region[:, :, band.sources] for band in rows.bands], 2)
    resized = resized.contiguous()
    return torch.cat(
        [resized[..., band.sources] @ band.weights[:, None].transpose(-1, -2) for band in columns.bands], 3
    )


def crop_frames(window: Window, corners: Sequence[tuple[int, int]], crop_size: tuple[int, int]) -> Tensor:
    """Return a crop (height, width) of each frame without a resize: `[N, 3, h, w]` of the window's type."""
    height, width = crop_size
    return torch.stack([_to_tensor(window[k, :, y : y + height, x : x + width]) for k, (y, x) in enumerate(corners)])


def to_floating(pixels: Window) -> Tensor:
    """Return pixels as a tensor of their own floating-point type, or float32 for integers, on their device."""
    tensor = _to_tensor(pixels)
    return tensor if tensor.is_floating_point() else tensor.float()


def _to_tensor(pixels: Window) -> Tensor:
    return torch.from_numpy(np.array(pixels)) if isinstance(pixels, np.ndarray) else pixels


@dataclass(frozen=True)
class _Band:
    """The weights of one block of resized rows (or columns)."""

    sources: slice
    """The source rows with non-zero weights, counted from `_Bands.start`."""
    weights: Tensor
    """`[N, rows of the block, source rows]`: one matrix per frame."""


@dataclass(frozen=True)
class _Bands:
    """The weights of all resized rows (or columns) of the crops."""

    start: int
    """First source row that is needed."""
    stop: int
    """Row after the last one that is needed."""
    bands: list[_Band]


def _resize_bands(
    source_length: int,
    target_length: int,
    starts: Sequence[int],
    count: int,
    resize_filter: ResizeFilter,
    like: Window,
) -> _Bands:
    """Return the resize weights of `count` rows (or columns) from each frame's start on.

    source_length, target_length: length of the axis before and after the resize. starts: index of the first resized row
    of each frame's crop. like: gives the weights' type and device. Positions are those of pixel centres; source rows
    outside the picture have no weight.
    """
    like_tensor = to_floating(like[:0, 0, 0, 0])
    scale = source_length / target_length
    radius = max(scale, 1.0)
    block = BLOCK_ROWS if like_tensor.device.type == "cpu" else count
    first_source, bands = 0, []
    for start in range(0, count, block):
        stop = min(start + block, count)
        begin = max(0, math.floor((min(starts) + start + 0.5) * scale - radius))
        end = min(source_length, math.ceil((max(starts) + stop - 0.5) * scale + radius))
        first_source = first_source if start else begin
        # Relative to `begin`, so that float32 represents positions to a ten-thousandth of a pixel.
        centres = [[(first + k + 0.5) * scale - begin for k in range(start, stop)] for first in starts]
        centre = like_tensor.new_tensor(centres)[..., None]
        picture_edges = (0.5 - begin, source_length - 0.5 - begin)
        weights = _filter_weights(centre, end - begin, scale, resize_filter, picture_edges)
        bands.append(_Band(slice(begin - first_source, end - first_source), weights))
    return _Bands(first_source, first_source + bands[-1].sources.stop, bands)


def _filter_weights(
    centre: Tensor, count: int, scale: float, resize_filter: ResizeFilter, picture_edges: tuple[float, float]
) -> Tensor:
    """Return the weights `[..., count]` of source pixels 0..count−1, whose centres are at ½, 1½, ..., summing to 1.

    centre: the position of each resized pixel in the source, `[..., 1]`. picture_edges: positions of the centres of the
    picture's first and last pixel.
    """
    pixel = torch.arange(count, device=centre.device, dtype=centre.dtype) + 0.5
    if resize_filter == "bilinear":
        weight = 1 - (pixel - centre.clamp(*picture_edges)).abs()
    elif resize_filter == "antialiased":
        weight = 1 - (pixel - centre).abs() / max(scale, 1.0)
    else:
        weight = (pixel + 0.5).minimum(centre + scale / 2) - (pixel - 0.5).maximum(centre - scale / 2)
    weight = weight.clamp_min(0)
    return weight / weight.sum(-1, keepdim=True)
