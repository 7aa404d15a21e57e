"""Crops of pictures made smaller, without making all of the picture smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Filter = Literal["bilinear", "area", "antialiased"]
"""bilinear: between the two nearest pixels, whatever the scale (OpenCV's INTER_LINEAR); area: the mean of the pixels
covered (INTER_AREA); antialiased: a triangle as wide as the scale (`F.interpolate` with `antialias=True`)."""

Window = Tensor | NDArray[Any]
"""Frames `[N, 3, H, W]`: a tensor, or an array such as a view of a memory map; any strides, uint8 or floating."""


def resampled_crops(
    window: Window, size: tuple[int, int], corners: Sequence[tuple[int, int]], crop: tuple[int, int], kind: Filter
) -> Tensor:
    """Cut a crop out of each frame as if the whole frame had been resized to `size` (height, width) before.

    window: `[N, 3, H, W]`, at least as large as `size`. corners: top and left of each frame's crop in the resized
    frame. crop: height and width. Returns floats `[N, 3, h, w]` on the window's device.

    A resized row is a weighted sum of rows, so each axis is a product with a matrix of which only a band is not zero.
    """
    (top, bottom), rows = _bands(window.shape[-2], size[0], [corner[0] for corner in corners], crop[0], kind, window)
    (left, right), columns = _bands(window.shape[-1], size[1], [corner[1] for corner in corners], crop[1], kind, window)
    region = floating(window[:, :, top:bottom, left:right])
    if region.stride(1) == 1:  # channels-last: the product is taken as the pixels lie
        flat = region.permute(0, 2, 3, 1).flatten(2)
        low = torch.cat([band @ flat[:, span] for span, band in rows], 1)
        low = low.view(len(low), crop[0], right - left, -1).permute(0, 3, 1, 2)
    else:
        low = torch.cat([band[:, None] @ region[:, :, span] for span, band in rows], 2)
    low = low.contiguous()
    return torch.cat([low[..., span] @ band[:, None].transpose(-1, -2) for span, band in columns], 3)


def plain_crops(window: Window, corners: Sequence[tuple[int, int]], crop: tuple[int, int]) -> Tensor:
    """Cut a crop out of each frame as it is: `[N, 3, h, w]` of the window's type."""
    height, width = crop
    return torch.stack([_tensor(window[k, :, y : y + height, x : x + width]) for k, (y, x) in enumerate(corners)])


def floating(pixels: Window) -> Tensor:
    """The same numbers, in the floating type they have or in float32, on the device where they are."""
    tensor = _tensor(pixels)
    return tensor if tensor.is_floating_point() else tensor.float()


def _tensor(pixels: Window) -> Tensor:
    return torch.from_numpy(np.array(pixels)) if isinstance(pixels, np.ndarray) else pixels


_BLOCK = 32
"""Rows of a crop that are worked out by one product on a processor: the fewer, the fewer zeros are multiplied."""


def _bands(
    source: int, target: int, starts: Sequence[int], count: int, kind: Filter, like: Window
) -> tuple[tuple[int, int], list[tuple[slice, Tensor]]]:
    """Where the sources of `count` resized pixels from `starts` on lie, and the weights of blocks of these.

    Each block has the slice of its sources, counted from the first one of all, and weights `[N, b, span]`, in the type
    and on the device of `like`. Positions are pixel centres; what lies beyond the edge has no weight.
    """
    pixels = floating(like[:0, 0, 0, 0])
    scale = source / target
    reach = max(scale, 1.0)
    block = _BLOCK if pixels.device.type == "cpu" else count
    first, bands = 0, []
    for start in range(0, count, block):
        stop = min(start + block, count)
        begin = max(0, math.floor((min(starts) + start + 0.5) * scale - reach))
        end = min(source, math.ceil((max(starts) + stop - 0.5) * scale + reach))
        first = first if start else begin
        # Counted from `begin`, so that float32 holds positions to a ten-thousandth of a pixel.
        centres = [[(at + k + 0.5) * scale - begin for k in range(start, stop)] for at in starts]
        centre = pixels.new_tensor(centres)[..., None]
        weights = _weights(centre, end - begin, scale, kind, (0.5 - begin, source - 0.5 - begin))
        bands.append((slice(begin - first, end - first), weights))
    return (first, first + bands[-1][0].stop), bands


def _weights(centre: Tensor, span: int, scale: float, kind: Filter, edges: tuple[float, float]) -> Tensor:
    """Weights of pixels 0..span-1 (centres at a half) about each `centre` `[..., 1]`; they add up to 1."""
    pixel = torch.arange(span, device=centre.device, dtype=centre.dtype) + 0.5
    if kind == "bilinear":
        weight = 1 - (pixel - centre.clamp(*edges)).abs()
    elif kind == "antialiased":
        weight = 1 - (pixel - centre).abs() / max(scale, 1.0)
    else:
        weight = (pixel + 0.5).minimum(centre + scale / 2) - (pixel - 0.5).maximum(centre - scale / 2)
    weight = weight.clamp_min(0)
    return weight / weight.sum(-1, keepdim=True)
