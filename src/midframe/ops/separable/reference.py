"""Define adaptive separable convolution in plain torch. Every backend is compared with this definition.

Gradients of any order are those of torch's autograd, which keeps the product of every tap: images have to be small.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.taps import TapPattern


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    """Sum the shifted images, each multiplied by the two kernel values of its tap.

    image: `[B, C, H, W]`; vertical, horizontal: `[B, T, H, W]`. replicate: whether taps outside the image read the
    nearest pixel; otherwise they count as zero. Returns the convolved image in the type of `image`, and the sum of the
    weights used, `[B, 1, H, W]`, which is the same sum for an image of ones. All sums are float32, or float64 for
    float64 inputs.
    """
    working = torch.promote_types(image.dtype, torch.float32)
    height, width = image.shape[-2:]
    reach = taps.reach
    ones = image.new_ones((image.shape[0], 1, height, width))
    padded = F.pad(torch.cat([image, ones], 1).to(working), [reach] * 4, mode="replicate" if replicate else "constant")
    vertical, horizontal = vertical.to(working), horizontal.to(working)

    total = torch.zeros_like(padded[:, :, :height, :width])
    for i, row in _taps_by_row(taps):
        across = torch.zeros_like(total)
        for j, dy, dx in row:
            top, left = reach + dy, reach + dx
            across = across + padded[:, :, top : top + height, left : left + width] * horizontal[:, j : j + 1]
        total = total + across * vertical[:, i : i + 1]
    return total[:, :-1].to(image.dtype), total[:, -1:]


def _taps_by_row(taps: TapPattern) -> list[tuple[int, list[tuple[int, int, int]]]]:
    """Return for each row i of the kernel its taps `(j, dy, dx)`."""
    rows: list[tuple[int, list[tuple[int, int, int]]]] = [(i, []) for i in range(taps.size)]
    for i, j, dy, dx in taps.taps():
        rows[i][1].append((j, dy, dx))
    return rows
