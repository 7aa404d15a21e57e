"""Feature normalisation in plain PyTorch: the definition that the other backends are tested against."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6
"""Added to both mean squares, so that features that are zero do not divide by zero."""


def forward(features: Tensor, centre: Tensor) -> Tensor:
    """Return the normalised features; half precision is computed in float32."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    f, centre = features.to(dtype), centre.to(dtype)
    s = (f.square().mean(1, keepdim=True) + EPSILON).sqrt()
    a = f - s * centre.view(1, -1, 1, 1)
    out: Tensor = a * torch.rsqrt(a.square().mean(1, keepdim=True) + EPSILON)
    return out.to(features.dtype)
