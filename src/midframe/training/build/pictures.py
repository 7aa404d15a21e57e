"""A film's frame as a picture of the data set: upright 8-bit RGB at output size, by the film's own colours."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from midframe.video.colour import to_rgb, to_tensors
from midframe.video.frame import Frame
from midframe.video.probe import Film

Picture = NDArray[np.uint8]
"""RGB `[H, W, 3]`, gamma-encoded as in the film."""


def picture_of(frame: Frame, film: Film, size: tuple[int, int]) -> Picture:
    """A decoded frame at the size that `output_size` gives, turned the way up in which it is shown.

    Scaled down bilinearly with all pixels averaged, in float, and rounded once. Pixels stay as they are coded where
    they are not square: that is how a network sees them when a film is converted.
    """
    rgb = upright(to_rgb(to_tensors(frame.planes), frame.layout, film.colour), film.display_matrix)
    width, height = output_size(rgb.shape[2], rgb.shape[1], size)
    if (height, width) != rgb.shape[1:]:
        rgb = F.interpolate(rgb[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    codes = rgb.mul(255).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)
    return np.ascontiguousarray(codes.permute(1, 2, 0).numpy())


def output_size(width: int, height: int, limit: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the pictures of a film: its own, or scaled to fit the limit (long side, short side)."""
    box = limit if width >= height else limit[::-1]
    scale = min(1.0, box[0] / width, box[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def upright(picture: Tensor, matrix: Sequence[int] | None) -> Tensor:
    """`[3, H, W]` turned and mirrored as a display matrix says (FFmpeg's nine integers), by right angles only.

    The pixel at (x, y) is shown at (a x + c y, b x + d y), with a, b, c, d being numbers 0, 1, 3, 4 of the matrix.
    """
    if matrix is None:
        return picture
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if turned(matrix):
        picture, a, d = picture.transpose(1, 2), c, b
    mirrored = [axis for axis, along in ((1, d), (2, a)) if along < 0]
    return picture.flip(mirrored) if mirrored else picture


def turned(matrix: Sequence[int] | None) -> bool:
    """Whether a display matrix makes columns of rows."""
    return matrix is not None and abs(matrix[0]) < abs(matrix[1])


def encode(picture: Picture, quality: int | None) -> bytes:
    """The picture as JPEG of that quality, chroma at full size, or as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    if quality is None:
        Image.fromarray(picture).save(buffer, "PNG")
    else:
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
