"""Steps of an alignment: what finds motion between two frames without learning, seen from a time between them.

Where there is motion, frames are maps of one channel `[2B, 1, H, W]`, all firsts before all seconds; motion is
`[B, 2, H, W]`, (x, y) in their pixels; time `[B]`. With u the motion at p, first(p − 2t u) and second(p + 2(1−t) u) are
what it says to be one: so u is half of the motion between the frames, and frames are brought to the time by `warp` with
these. All work is done, and given back, in float32 (float64 where the first tensor is that). There are no gradients:
results do not require any, whatever the inputs do. What is not finite makes the motion around it meaningless, and
another on each backend.

backend: `auto`, `reference`, `halide` (CPU) or `torch`. All raise `SettingError` for shapes and types that do not fit,
and what `backends.choose` raises.
"""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.flow.steps import op as registration
from midframe.flow.steps.reference import (
    correct_motion_reference,
    difference,
    frames_motion,
    half_luma_reference,
    median_motion_reference,
    normalise_contrast_reference,
    propagate_motion_reference,
)
from midframe.ops.dispatch import choose
from midframe.ops.warp import warp

__all__ = [
    "correct_motion",
    "half_luma",
    "median_motion",
    "motion_difference",
    "normalise_contrast",
    "propagate_motion",
]


@torch.no_grad()
def half_luma(frames: Tensor, *, backend: str = "auto") -> Tensor:
    """0.299 R + 0.587 G + 0.114 B of frames `[N, 3, H, W]`, averaged over 2 x 2 pixels: `[N, 1, H / 2, W / 2]`.

    Of odd sizes, the last row or column does not count.
    """
    if frames.dim() != 4 or frames.shape[1] != 3 or not frames.is_floating_point():
        raise SettingError(f"half_luma takes floats [N, 3, H, W]; got {frames.dtype} {list(frames.shape)}")
    if min(frames.shape[-2:]) < 2 or not len(frames):
        raise SettingError(f"half_luma takes one frame or more, of 2 x 2 pixels or more; got {list(frames.shape)}")
    (frames,) = _working(frames)
    if choose("half_luma", backend, (frames,), offered=("halide", "torch")) == "halide":
        made: Tensor = registration.half_luma(frames)
        return made
    return half_luma_reference(frames)


@torch.no_grad()
def normalise_contrast(frames: Tensor, *, backend: str = "auto") -> Tensor:
    """Maps `[N, 1, H, W]` in 0..1 brought to local mean 0 and contrast 1: light and shade do not count.

    a = frames − S(frames),  out = a / sqrt(S(a²) + noise)

    S averages over boxes of 7 x 7, twice; beyond the borders, the nearest pixel. Where there is nothing but noise, of
    variance 4e-4 or less, it stays small.
    """
    if frames.dim() != 4 or frames.shape[1] != 1 or 0 in frames.shape or not frames.is_floating_point():
        raise SettingError(f"normalise_contrast takes floats [N, 1, H, W]; got {frames.dtype} {list(frames.shape)}")
    (frames,) = _working(frames)
    if choose("normalise_contrast", backend, (frames,), offered=("halide", "torch")) == "halide":
        made: Tensor = registration.normalise_contrast(frames)
        return made
    return normalise_contrast_reference(frames)


@torch.no_grad()
def propagate_motion(frames: Tensor, motion: Tensor, time: Tensor, *, backend: str = "auto") -> Tensor:
    """The motion, at every pixel its own or that of a neighbour by which frames of contrast 1 agree better.

    With d the difference of the frames brought to the time by a motion, its cost at a pixel is the mean of
    d² / (d² + 0.6) over the 5 x 5 pixels around: 0..1, whatever is covered in one frame counts little more than what is
    merely off. Tried are the motions of the pixels 3 to the left, right, above and below, then, of what came out, those
    9 away. All but the pixel's own at the beginning cost 0.02 more; of equal ones the earliest is kept.
    Source: Barnes et al., PatchMatch, SIGGRAPH 2009, done for all pixels at once.
    """
    frames, motion, time = _checked("propagate_motion", frames, motion, time)
    if choose("propagate_motion", backend, (frames,), offered=("halide", "torch")) == "halide":
        made: Tensor = registration.propagate_motion(frames, motion, time)
        return made
    return propagate_motion_reference(frames, motion, time)


@torch.no_grad()
def correct_motion(frames: Tensor, motion: Tensor, time: Tensor, *, backend: str = "auto") -> Tensor:
    """The motion plus what makes frames of contrast 1 agree in the neighbourhood of every pixel, in least squares.

    Of the frames brought to the time, d is the difference and (a, b) the slopes of the mean. In the sums over the
    neighbourhood, boxes of 5 x 5 applied twice, a pixel counts 1 / (1 + d² / 0.6). The means of a² and of b² are raised
    by 2 % of both and 1e-4: where there is nothing to see, nothing moves. No pixel's correction is more than 1 along
    either axis.
    Source: Lucas and Kanade, IJCAI 1981, seen from between the frames.
    """
    frames, motion, time = _checked("correct_motion", frames, motion, time)
    if choose("correct_motion", backend, (frames,), offered=("halide", "torch")) == "halide":
        made: Tensor = registration.correct_motion(frames, motion, time)
        return made
    return correct_motion_reference(frames, motion, time)


@torch.no_grad()
def median_motion(motion: Tensor, *, backend: str = "auto") -> Tensor:
    """The median of each number `[B, C, H, W]` and those within two pixels of it; beyond borders, the nearest pixel."""
    if motion.dim() != 4 or 0 in motion.shape or not motion.is_floating_point():
        raise SettingError(f"median_motion takes floats [B, C, H, W]; got {motion.dtype} {list(motion.shape)}")
    (motion,) = _working(motion)
    if choose("median_motion", backend, (motion,), offered=("halide", "torch")) == "halide":
        made: Tensor = registration.median_motion(motion)
        return made
    return median_motion_reference(motion)


@torch.no_grad()
def motion_difference(frames: Tensor, motion: Tensor, time: Tensor, *, backend: str = "auto") -> Tensor:
    """How much frames of contrast 1 differ around every pixel when brought to the time by a motion: `[B, 1, H, W]`.

    The cost of `propagate_motion`, 0..1, where frames `[2B, C, H, W]` may have several channels: then their mean.
    """
    channels = frames.shape[1] if frames.dim() == 4 and frames.shape[1] else 1
    frames, motion, time = _checked("motion_difference", frames, motion, time, channels)
    return difference(warp(frames, frames_motion(motion, time), backend=backend)).mean(1, keepdim=True)


def _checked(
    name: str, frames: Tensor, motion: Tensor, time: Tensor, channels: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    found = f"got {list(frames.shape)}, {list(motion.shape)} and {list(time.shape)}"
    if motion.dim() != 4 or motion.shape[1] != 2 or 0 in motion.shape:
        raise SettingError(f"{name} takes motion [B, 2, H, W]; {found}")
    batch, _, height, width = motion.shape
    if frames.shape != (2 * batch, channels, height, width) or time.shape != (batch,):
        raise SettingError(f"{name} takes frames [2B, {channels}, H, W], motion [B, 2, H, W] and time [B]; {found}")
    if not all(given.is_floating_point() for given in (frames, motion, time)):
        raise SettingError(f"{name} takes floating point tensors; got {frames.dtype}, {motion.dtype} and {time.dtype}")
    if not frames.device == motion.device == time.device:
        raise SettingError(f"the inputs of {name} must be on one device")
    frames, motion, time = _working(frames, motion, time)
    return frames, motion, time


def _working(*given: Tensor) -> tuple[Tensor, ...]:
    """In float32, or float64 where the first is that."""
    kind = torch.promote_types(given[0].dtype, torch.float32)
    return tuple(tensor.to(kind) for tensor in given)
