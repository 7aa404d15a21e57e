"""The photometric cost of a flow, by which `estimate_flow` chooses between two flows."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.checks import check_frames_flow_time
from midframe.flow.operators.reference import flow_to_each_frame, robust_cost
from midframe.ops import warp


@torch.no_grad()
def photometric_cost(frames: Tensor, flow: Tensor, time: Tensor, *, backend: str = "auto") -> Tensor:
    """Return the photometric cost of a flow at each pixel: the mean of a robust cost of the residual in a window.

        cost = mean over c and a window of 5x5 pixels of It² / (It² + s),   s = 0.6

    The cost (Geman-McClure) is in 0..1. It saturates, so that a large residual, as of an occluded pixel, costs little
    more than a moderate one.

    frames: `[2B, C, H, W]`, any number of channels, with normalised local contrast. Returns `[B, 1, H, W]`.
    Conventions and errors: see the package.
    """
    channels = frames.shape[1] if frames.dim() == 4 and frames.shape[1] else 1  # 1: the check raises the error
    frames, flow, time = check_frames_flow_time("photometric_cost", frames, flow, time, channels)
    warped = warp(frames, flow_to_each_frame(flow, time), backend=backend)
    return robust_cost(warped).mean(1, keepdim=True)
