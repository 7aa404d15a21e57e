"""Estimate the optical flow between two frames without a trained model; the guided network starts from it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.flow.operators import (
    downsampled_luma,
    lucas_kanade_update,
    median_filter,
    normalise_local_contrast,
    photometric_cost,
    propagate_flow,
)

MIN_PYRAMID_SIDE = 6
"""The pyramid ends before a side, in pixels, would be shorter than this."""
UPDATES_PER_LEVEL = 4
"""Lucas-Kanade updates at each pyramid level except the finest."""
UPDATES_AT_FINEST_LEVEL = 2
"""Lucas-Kanade updates at the finest pyramid level; fewer, because this level takes most of the time."""
OPPONENT_FLOW_MARGIN = 0.025
"""Reduction of the photometric cost, 0..1, above which the flow of the opponent channel replaces that of the luma."""


@torch.no_grad()
def estimate_flow(first: Tensor, second: Tensor, time: Tensor, *, backend: str = "auto") -> Tensor:
    """Estimate the optical flow between two frames, on the pixel grid of the frame at a time between them.

        first(p − 2t u(p))  ≈  second(p + 2(1−t) u(p))

    p is a pixel of the frame at time t, at half of the resolution. u(p) = (horizontal, vertical) is half of the
    displacement from the first to the second frame. The displacement is thus 2u in pixels of half the resolution, and
    4u in pixels of the given frames. The flow from the frame at t is −2t u to the first frame, 2(1−t) u to the second.

    first, second: `[B, 3, H, W]`, RGB in 0..1, H and W even.
    time: `[B]`, in (0, 1), one per sample.
    backend: of the flow operators, `auto`, `reference`, `halide` (CPU) or `torch`.
    Returns `[B, 2, H / 2, W / 2]`, float32 (float64 if `first` is float64), without gradients.
    Raises `SettingError` for shapes and types that do not fit, `DeviceError` if a named backend cannot run.

    The flow is estimated twice, coarse to fine: from the luma at half resolution, and from the red-green opponent
    channel at quarter resolution, which shows objects that have the same luma as their background. Each pixel takes the
    flow of the luma, unless the photometric cost of the other flow is lower by more than `OPPONENT_FLOW_MARGIN`. A
    median filter then removes outliers. The method is symmetric in time: exchanging the frames and replacing t by 1−t
    gives −u, apart from rounding.
    """
    frames = torch.cat((first, second))
    luma = downsampled_luma(frames, backend=backend)
    opponent = F.avg_pool2d((frames[:, :1] - frames[:, 1:2]).to(luma.dtype) / 2, 2)

    luma_flow, normalised_luma = _estimate_coarse_to_fine(luma, time, backend)
    small_opponent = F.avg_pool2d(opponent, 2, ceil_mode=True)
    opponent_flow, _ = _estimate_coarse_to_fine(small_opponent, time, backend)
    opponent_flow = _resize_flow(opponent_flow, luma_flow.shape[-2:])

    channels = torch.cat((normalised_luma, normalise_local_contrast(opponent, backend=backend)), 1)
    luma_cost = photometric_cost(channels, luma_flow, time, backend=backend)
    opponent_cost = photometric_cost(channels, opponent_flow, time, backend=backend)
    flow = torch.where(opponent_cost + OPPONENT_FLOW_MARGIN < luma_cost, opponent_flow, luma_flow)
    return median_filter(flow, backend=backend)


def _estimate_coarse_to_fine(frames: Tensor, time: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Estimate the flow of one-channel frames `[2B, 1, H, W]`, the B first frames before the B second frames.

    Returns the flow u `[B, 2, H, W]` in pixels of these frames, and the frames with normalised local contrast.

    The flow starts at zero at the coarsest level of an image pyramid. At each level it is upsampled and improved by
    PatchMatch propagation, Lucas-Kanade updates (a median filter after every second one) and, at all levels except
    the finest, a second propagation.
    Sources: Lucas and Kanade, IJCAI 1981; Barnes et al., PatchMatch, SIGGRAPH 2009.
    """
    pyramid = [frames]
    while min(pyramid[-1].shape[-2:]) // 2 >= MIN_PYRAMID_SIDE:
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    flow = frames.new_zeros(len(frames) // 2, 2, *pyramid[-1].shape[-2:])
    for level in reversed(range(len(pyramid))):
        is_finest = level == 0
        normalised = normalise_local_contrast(pyramid[level], backend=backend)
        flow = propagate_flow(normalised, _resize_flow(flow, normalised.shape[-2:]), time, backend=backend)
        for update in range(UPDATES_AT_FINEST_LEVEL if is_finest else UPDATES_PER_LEVEL):
            flow = lucas_kanade_update(normalised, flow, time, backend=backend)
            if update % 2:
                flow = median_filter(flow, backend=backend)
        if not is_finest:
            flow = propagate_flow(normalised, flow, time, backend=backend)
    return median_filter(flow, backend=backend), normalised


def _resize_flow(flow: Tensor, size: torch.Size) -> Tensor:
    """Resample flow `[B, 2, h, w]` bilinearly to a size (H, W), and scale its vectors to pixels of that size."""
    scale = flow.new_tensor((size[1] / flow.shape[3], size[0] / flow.shape[2])).view(1, 2, 1, 1)
    return F.interpolate(flow, size=size, mode="bilinear", align_corners=False) * scale
