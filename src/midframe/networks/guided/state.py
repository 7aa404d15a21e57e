"""The state of the network `guided`: intermediate flow and visibility, refined from level to level.

For every pixel of the interpolated frame at time t the state has 5 channels: the flow u0 to the first frame (x, y), the
flow u1 to the second frame (x, y), and the logit of visibility. They are stored independently of the time:

    flow to the first frame  = 2 t · u0            flow to the second frame = 2 (1 − t) · u1
    visibility = sigmoid(logit + log((1 − t) / t))      weight of the first frame, 1 − t for a logit of 0

A pixel in uniform motion thus has the same state at every time. The channels of the cost volume are displacements
between the two frames, which do not depend on the time either. So what is learnt at t = 1/2 also holds at other times.
Flow is in pixels of the level that a map belongs to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STATE_CHANNELS = 5
"""u0 (x, y), u1 (x, y) and the logit of visibility."""


def initial_state(flow: Tensor, size: torch.Size) -> Tensor:
    """Return the state `[B, 5, h, w]` of uniform motion at the size of a level: u0 = −u, u1 = u, logit 0.

    flow: u, `[B, 2, H, W]` at another size or the same; sizes differ by powers of two.
    """
    flow = _resize_flow(flow, size)
    return torch.cat((-flow, flow, torch.zeros_like(flow[:, :1])), 1)


def upsample_state(state: Tensor) -> Tensor:
    """Return a state at twice the size; flow doubles, because pixels are half as large."""
    factors = state.new_tensor((2, 2, 2, 2, 1)).view(1, STATE_CHANNELS, 1, 1)
    return F.interpolate(state, scale_factor=2.0, mode="bilinear", align_corners=False) * factors


def state_flow(state: Tensor, time: Tensor) -> Tensor:
    """Return the flow `[B, 4, h, w]` at the times `[B]`: to the first frame (x, y), then to the second (x, y)."""
    factors = torch.stack((time, time, 1 - time, 1 - time), 1).mul(2).view(-1, 4, 1, 1)
    return state[:, :4] * factors


def state_visibility(state: Tensor, time: Tensor) -> Tensor:
    """Return the weight of the first frame `[B, 1, h, w]`, 0..1, at the times `[B]`."""
    return torch.sigmoid(state[:, 4:] + torch.logit(1 - time).view(-1, 1, 1, 1))


def separate_frames(flow: Tensor) -> Tensor:
    """View flow to both frames `[B, 4, h, w]` as `[2B, 2, h, w]`, with the two flows of a sample adjacent."""
    return flow.reshape(-1, 2, *flow.shape[2:])


def _resize_flow(flow: Tensor, size: torch.Size) -> Tensor:
    """Return flow `[B, 2, h, w]` at another size, in pixels of that size."""
    ratio = size[0] / flow.shape[2]
    if ratio < 1:
        return F.avg_pool2d(flow, round(1 / ratio)) * ratio
    return flow if ratio == 1 else F.interpolate(flow, tuple(size), mode="bilinear", align_corners=False) * ratio
