"""Parts that the references of several flow operators share: warping to time t, the robust cost and box filters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops import warp

WINDOW_RADIUS = 2
"""Radius, in pixels, of the box filters of the photometric cost and of the Lucas-Kanade window (5x5)."""
ROBUST_SCALE = 0.6
"""Squared residual, in units of the local variance, at which the robust cost and the robust weight are 1/2."""


def warp_to_time(frames: Tensor, flow: Tensor, time: Tensor) -> Tensor:
    """Return the warped frames `[2B, C, H, W]`: I1 of all samples, then I2 of all samples."""
    return warp(frames, flow_to_each_frame(flow, time), backend="torch")


def flow_to_each_frame(flow: Tensor, time: Tensor) -> Tensor:
    """Return the flow to each frame `[2B, 2, H, W]`: −2t u of all samples, then 2(1−t) u of all samples."""
    scale = torch.cat((-2 * time, 2 * (1 - time))).view(-1, 1, 1, 1)
    return flow.repeat(2, 1, 1, 1) * scale


def robust_cost(warped: Tensor) -> Tensor:
    """Return the window mean of the Geman-McClure cost It² / (It² + s) for warped frames `[2B, C, H, W]`.

    The result `[B, C, H, W]` is in 0..1; channels stay separate.
    """
    first, second = warped.chunk(2)
    squares = (second - first).square()
    return box_filter(squares / (squares + ROBUST_SCALE), WINDOW_RADIUS)


def box_filter(maps: Tensor, radius: int) -> Tensor:
    """Return the mean of the square window around each pixel, with border pixels repeated."""
    padded = F.pad(maps, (radius, radius, radius, radius), mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def box_filter_twice(maps: Tensor, radius: int) -> Tensor:
    """Return the result of two box filters, which weight the window approximately like a Gaussian."""
    return box_filter(box_filter(maps, radius), radius)
