"""One iteration of the Lucas-Kanade method, on frames that are warped symmetrically to the time between them."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.checks import check_frames_flow_time
from midframe.flow.operators.lucas_kanade_update import op


@torch.no_grad()
def lucas_kanade_update(frames: Tensor, flow: Tensor, time: Tensor, *, backend: str = "auto") -> Tensor:
    """Return the flow u + δ: δ minimises the linearised residual around each pixel by damped, weighted least squares.

        minimise S(w (It + 2 (Ix, Iy)·δ)²),   w = 1 / (1 + It² / s),   s = 0.6
        δ = −½ (A + λ 1)⁻¹ b,   A = S(w [Ix², Ix Iy; Ix Iy, Iy²]),   b = S(w (Ix It, Iy It)),   λ = 0.02 tr A + 1e-4

    (Ix, Iy) is the gradient of the mean of both warped frames, by central differences. S is the window: a box filter of
    5x5 pixels applied twice. A is the structure tensor. The robust weight w reduces the influence of occluded pixels.
    The damping λ keeps the flow where the frames have no detail. Each component of δ is clamped to ±1 pixel.

    frames: `[2B, 1, H, W]` with normalised local contrast. Returns flow `[B, 2, H, W]`.
    Conventions and errors: see `midframe.flow.operators`.
    Source: Lucas and Kanade, IJCAI 1981.
    """
    frames, flow, time = check_frames_flow_time("lucas_kanade_update", frames, flow, time)
    return op.run(frames, flow, time, backend=backend)
