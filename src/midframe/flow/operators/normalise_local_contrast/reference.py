"""Local contrast normalisation in plain PyTorch: the definition that the other backends are tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.reference import box_filter_twice

CONTRAST_RADIUS = 3
"""Radius, in pixels, of the box filters of local mean and variance (7x7)."""
NOISE_VARIANCE = 4e-4
"""Variance of noise in frames in 0..1, added to the local variance; a higher value suppresses more weak detail."""


def forward(frames: Tensor) -> Tensor:
    """Return the frames `[N, 1, H, W]` with normalised local contrast."""
    deviation = frames - box_filter_twice(frames, CONTRAST_RADIUS)
    variance = box_filter_twice(deviation.square(), CONTRAST_RADIUS)
    return deviation * torch.rsqrt(variance + NOISE_VARIANCE)
