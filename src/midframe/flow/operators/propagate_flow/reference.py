"""PatchMatch propagation in plain PyTorch: the definition that the other backends are tested against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.flow.operators.reference import robust_cost, warp_to_time

NEIGHBOUR_OFFSETS = (3, 9)
"""Distances, in pixels, to the neighbours whose flow is tried: one pass for each distance."""
NEIGHBOUR_PENALTY = 0.02
"""Photometric cost, 0..1, added to that of a neighbour's flow; with a higher value fewer pixels change their flow."""


def forward(frames: Tensor, flow: Tensor, time: Tensor) -> Tensor:
    """Return the flow `[B, 2, H, W]` after both passes."""
    height, width = flow.shape[-2:]
    lowest_cost = robust_cost(warp_to_time(frames, flow, time))
    for offset in NEIGHBOUR_OFFSETS:
        padded = F.pad(flow, (offset, offset, offset, offset), mode="replicate")
        for dx, dy in ((-offset, 0), (offset, 0), (0, -offset), (0, offset)):
            top, left = offset + dy, offset + dx
            candidate = padded[..., top : top + height, left : left + width]
            cost = robust_cost(warp_to_time(frames, candidate, time)) + NEIGHBOUR_PENALTY
            better = cost < lowest_cost
            lowest_cost, flow = torch.where(better, cost, lowest_cost), torch.where(better, candidate, flow)
    return flow
