"""The Lucas-Kanade update in plain PyTorch: the definition that the other backends are tested against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.flow.operators.reference import ROBUST_SCALE, WINDOW_RADIUS, box_filter_twice, warp_to_time

RELATIVE_DAMPING = 0.02
"""Damping of the normal equations, relative to the trace of the structure tensor."""
ABSOLUTE_DAMPING = 1e-4
"""Damping of the normal equations where the structure tensor is zero, in flat areas."""
MAX_UPDATE = 1.0
"""Largest change of each component of the flow in one update, in pixels."""


def forward(frames: Tensor, flow: Tensor, time: Tensor) -> Tensor:
    """Return the updated flow `[B, 2, H, W]`."""
    first, second = warp_to_time(frames, flow, time).chunk(2)
    it = second - first
    mean = F.pad((first + second) / 2, (1, 1, 1, 1), mode="replicate")
    ix = (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2]) / 2
    iy = (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1]) / 2
    weight = 1 / (1 + it.square() / ROBUST_SCALE)
    products = torch.cat([product * weight for product in (ix * ix, ix * iy, iy * iy, ix * it, iy * it)], 1)
    xx, xy, yy, xt, yt = box_filter_twice(products, WINDOW_RADIUS).unbind(1)
    damping = ABSOLUTE_DAMPING + RELATIVE_DAMPING * (xx + yy)
    xx, yy = xx + damping, yy + damping
    # The factor 2 is from ∂It/∂u = 2(1−t) ∇I2 + 2t ∇I1 ≈ 2 (Ix, Iy).
    update = torch.stack((xy * yt - yy * xt, xy * xt - xx * yt), 1) / (2 * (xx * yy - xy * xy)).unsqueeze(1)
    return flow + update.clamp(-MAX_UPDATE, MAX_UPDATE)
