"""Conversion of a film's decoded frames to the pictures that a data set stores: upright 8-bit RGB at output size."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from midframe.video.colour import planes_to_rgb, planes_to_tensors
from midframe.video.frame import Frame
from midframe.video.probe import Film

RgbPicture = NDArray[np.uint8]
"""A picture `[H, W, 3]`, RGB, gamma-encoded as in the film."""


def frame_to_rgb(frame: Frame, film: Film, size_limit: tuple[int, int]) -> RgbPicture:
    """Convert a decoded frame to upright 8-bit RGB at the size that `output_size` gives.

    The film's own matrix, range and chroma siting are used. A larger frame is scaled down in float by an antialiased
    bilinear filter; values are rounded once. Non-square pixels are left as they are coded, because a network sees
    them so when it converts a film.
    """
    rgb = rotate_upright(planes_to_rgb(planes_to_tensors(frame.planes), frame.layout, film.colour), film.display_matrix)
    width, height = output_size(rgb.shape[2], rgb.shape[1], size_limit)
    if (height, width) != rgb.shape[1:]:
        rgb = F.interpolate(rgb[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    codes = rgb.mul(255).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)
    return np.ascontiguousarray(codes.permute(1, 2, 0).numpy())


def output_size(width: int, height: int, size_limit: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) at which a film's frames are stored.

    size_limit: (long side, short side). Frames that exceed it are scaled down to fit; others keep their size.
    """
    limit = size_limit if width >= height else size_limit[::-1]
    scale = min(1.0, limit[0] / width, limit[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def rotate_upright(picture: Tensor, matrix: Sequence[int] | None) -> Tensor:
    """Rotate and mirror a picture `[3, H, W]` as a display matrix says, by right angles only.

    matrix: the nine integers of FFmpeg's display matrix, or None for no rotation. The pixel at (x, y) is shown at
    (a·x + c·y, b·x + d·y); a, b, c and d are the integers 0, 1, 3 and 4 of the matrix.
    """
    if matrix is None:
        return picture
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if swaps_axes(matrix):
        picture, a, d = picture.transpose(1, 2), c, b
    mirrored_axes = [axis for axis, factor in ((1, d), (2, a)) if factor < 0]
    return picture.flip(mirrored_axes) if mirrored_axes else picture


def swaps_axes(matrix: Sequence[int] | None) -> bool:
    """Return whether a display matrix rotates by 90° or 270°, so that width and height change places."""
    return matrix is not None and abs(matrix[0]) < abs(matrix[1])


def encode_picture(picture: RgbPicture, quality: int | None) -> bytes:
    """Encode a picture as JPEG of this quality (1..100) without chroma subsampling, or as PNG if quality is None."""
    from PIL import Image

    buffer = io.BytesIO()
    if quality is None:
        Image.fromarray(picture).save(buffer, "PNG")
    else:
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
