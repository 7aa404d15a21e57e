"""Adaptive separable convolution in plain torch: the definition that every backend is held against."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def separable_convolution_reference(image: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Sum over all taps (i, j) of the shifted picture times vertical[i] times horizontal[j]; zero border."""
    height, width = image.shape[-2:]
    taps = vertical.shape[1]
    half = taps // 2
    padded = F.pad(image, (half, half, half, half))
    out = image.new_zeros(image.shape)
    for i in range(taps):
        row = image.new_zeros(image.shape)
        for j in range(taps):
            row = row + padded[:, :, i : i + height, j : j + width] * horizontal[:, j : j + 1]
        out = out + row * vertical[:, i : i + 1]
    return out
