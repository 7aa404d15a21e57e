"""Adaptive separable convolution in plain torch: the definition that every backend is held against.

Gradients, of any order, are those of torch's autograd. It keeps every tap's product for them: not for large pictures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.taps import TapPattern


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    """Sum over all taps of the shifted picture times both kernel values.

    Shapes as in `midframe.ops.separable`. Returns the picture `[B, C, H, W]` in the type of `image`, and the sum of the
    weights that were used `[B, 1, H, W]` (the same sum over a picture of ones) in the type it was computed in: float64
    for float64, else float32.
    """
    working = torch.promote_types(image.dtype, torch.float32)
    height, width = image.shape[-2:]
    reach = taps.reach
    ones = image.new_ones((image.shape[0], 1, height, width))
    padded = F.pad(torch.cat([image, ones], 1).to(working), [reach] * 4, mode="replicate" if replicate else "constant")
    vertical, horizontal = vertical.to(working), horizontal.to(working)

    total = torch.zeros_like(padded[:, :, :height, :width])
    for i, row in _by_row(taps):
        across = torch.zeros_like(total)
        for j, dy, dx in row:
            top, left = reach + dy, reach + dx
            across = across + padded[:, :, top : top + height, left : left + width] * horizontal[:, j : j + 1]
        total = total + across * vertical[:, i : i + 1]
    return total[:, :-1].to(image.dtype), total[:, -1:]


def _by_row(taps: TapPattern) -> list[tuple[int, list[tuple[int, int, int]]]]:
    """The taps `(j, dy, dx)` of each row i."""
    rows: list[tuple[int, list[tuple[int, int, int]]]] = [(i, []) for i in range(taps.size)]
    for i, j, dy, dx in taps.taps():
        rows[i][1].append((j, dy, dx))
    return rows
