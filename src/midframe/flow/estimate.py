"""Motion between two frames without learning: where the guided network begins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.flow.steps import (
    correct_motion,
    half_luma,
    median_motion,
    motion_difference,
    normalise_contrast,
    propagate_motion,
)

STEP = 2
"""Pixels of the frames to a pixel of the motion, a side."""
LEAST = 6
"""The pyramid ends before a side would fall below this."""
ROUNDS, LAST_ROUNDS = 4, 2
"""Corrections at each level, and at the finest; no one moves a pixel by more than one."""
PREFERENCE = 0.025
"""How much better the motion of the colours must be, in the units of `motion_difference`, 0..1."""


@torch.no_grad()
def align(first: Tensor, second: Tensor, time: Tensor, *, backend: str = "auto") -> Tensor:
    """The motion `[B, 2, h, w]` at the times `[B]` between frames `[B, 3, H, W]` in 0..1: half of that between them.

    With u the motion (x, y) at p, in pixels of the result, first(p − 2t u) and second(p + 2(1−t) u) look alike: so u is
    in the scale of the middle, and belongs to the pixels of the wanted frame. H and W are even, h = H / 2,
    w = W / 2. There are no gradients: it is where learning begins. backend: of the operators, as in `ops.alignment`.

    It is sought in the luma, and at half of that size in red less green, which shows what differs from its background
    in colour alone; at every pixel, that of colour is taken where both maps agree better by it. A median takes outliers
    away. Symmetric in time: with frames swapped, −u comes out.
    """
    frames = torch.cat((first, second))
    luma = half_luma(frames, backend=backend)
    colour = F.avg_pool2d((frames[:, :1] - frames[:, 1:2]).to(luma.dtype) / 2, 2)
    motion, seen = _sought(luma, time, backend)
    other, _ = _sought(F.avg_pool2d(colour, 2, ceil_mode=True), time, backend)
    other = _resized(other, motion.shape[-2:])
    maps = torch.cat((seen, normalise_contrast(colour, backend=backend)), 1)
    kept, tried = (motion_difference(maps, each, time, backend=backend) for each in (motion, other))
    return median_motion(torch.where(tried + PREFERENCE < kept, other, motion), backend=backend)


def _sought(frames: Tensor, time: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """The motion `[B, 2, H, W]` between maps `[2B, 1, H, W]`, all firsts before all seconds; and these with contrast 1.

    They are brought to one local mean and contrast, then from the coarsest level of a pyramid to the finest: every
    pixel takes over a neighbour's motion where maps warped by that agree better; then, some rounds, both are warped by
    u, and in the neighbourhood of every pixel the u is sought that takes away what differs, in least squares; a median
    takes outliers away. What was corrected is passed on once more before the next level.
    Sources: Lucas and Kanade, IJCAI 1981, seen from between the frames; for the propagation, which is done for all
    pixels at once, Barnes et al., PatchMatch, SIGGRAPH 2009.
    """
    pyramid = [frames]
    while min(pyramid[-1].shape[-2:]) // 2 >= LEAST:
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    motion = pyramid[-1].new_zeros(len(frames) // 2, 2, *pyramid[-1].shape[-2:])
    while pyramid:
        frames = normalise_contrast(pyramid.pop(), backend=backend)
        motion = propagate_motion(frames, _resized(motion, frames.shape[-2:]), time, backend=backend)
        for turn in range(ROUNDS if pyramid else LAST_ROUNDS):
            motion = correct_motion(frames, motion, time, backend=backend)
            if turn % 2:
                motion = median_motion(motion, backend=backend)
        if pyramid:
            motion = propagate_motion(frames, motion, time, backend=backend)
    return median_motion(motion, backend=backend), frames


def _resized(motion: Tensor, size: torch.Size) -> Tensor:
    """Motion maps of another size, in its pixels."""
    gain = motion.new_tensor((size[1] / motion.shape[3], size[0] / motion.shape[2])).view(1, 2, 1, 1)
    return F.interpolate(motion, size=size, mode="bilinear", align_corners=False) * gain
