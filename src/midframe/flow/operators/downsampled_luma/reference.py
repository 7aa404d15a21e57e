"""The downsampled luma in plain PyTorch: the definition that the other backends are tested against."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma (BT.601)."""


def forward(frames: Tensor) -> Tensor:
    """Return the downsampled luma `[N, 1, H // 2, W // 2]`."""
    weights = frames.new_tensor(LUMA_WEIGHTS).view(1, 3, 1, 1)
    return F.avg_pool2d((frames * weights).sum(1, keepdim=True), 2)
