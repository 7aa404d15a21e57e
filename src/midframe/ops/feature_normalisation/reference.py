"""Comparable features in plain torch: the definition that Halide is held against, and what runs where it cannot."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6
"""Added to mean squares: pixels without features stay without."""


def comparable_reference(features: Tensor, centre: Tensor) -> Tensor:
    """Less the centre, then divided by the root of the mean square, in float32 for half precision."""
    working = torch.promote_types(features.dtype, torch.float32)
    wide, centre = features.to(working), centre.to(working)
    scale = (wide.square().mean(1, keepdim=True) + EPSILON).sqrt()
    apart = wide - scale * centre.view(1, -1, 1, 1)
    unit: Tensor = apart * torch.rsqrt(apart.square().mean(1, keepdim=True) + EPSILON)
    return unit.to(features.dtype)
