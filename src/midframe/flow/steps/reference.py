"""Steps of an alignment in plain torch: the definition that Halide is held against, and what runs where it cannot."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.warp.reference import warp_torch

LUMA = (0.299, 0.587, 0.114)
HOPS = (3, 9)
"""How far away, in pixels, the neighbours are whose motions are tried."""
PREFERENCE = 0.02
"""How much of what differs another motion must take away, in the units of `difference`, 0..1."""
NEIGHBOURHOOD, CONTRAST = 2, 3
"""Radii, of boxes applied twice: of the pixels that a correction is agreed on by, and that contrast is measured in."""
DOUBT = 0.6
"""Squared difference, in units of contrast, at which a pixel's say is halved: it may be covered in the other frame."""
DAMPING, LEAST_DAMPING = 0.02, 1e-4
"""Of the slopes' squares, and in any case: where there is nothing to see, nothing moves."""
NOISE = 4e-4
"""Variance of frames in 0..1 below which there is nothing but noise."""
LARGEST = 1.0
"""Pixels that one correction moves a pixel by at most, along either axis."""


def half_luma_reference(frames: Tensor) -> Tensor:
    luma = frames.new_tensor(LUMA).view(1, 3, 1, 1)
    return F.avg_pool2d((frames * luma).sum(1, keepdim=True), 2)


def normalise_contrast_reference(frames: Tensor) -> Tensor:
    apart = frames - _smoothed(frames, CONTRAST)
    variance = _smoothed(apart.square(), CONTRAST)
    return apart * torch.rsqrt(variance + NOISE)


def propagate_motion_reference(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    height, width = motion.shape[-2:]
    best = difference(_moved(frames, motion, time))
    for hop in HOPS:
        around = F.pad(motion, (hop, hop, hop, hop), mode="replicate")
        for y, x in ((hop, 0), (hop, 2 * hop), (0, hop), (2 * hop, hop)):
            other = around[..., y : y + height, x : x + width]
            cost = difference(_moved(frames, other, time)) + PREFERENCE
            better = cost < best
            best, motion = torch.where(better, cost, best), torch.where(better, other, motion)
    return motion


def correct_motion_reference(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    first, second = _moved(frames, motion, time).chunk(2)
    apart = second - first
    mean = F.pad((first + second) / 2, (1, 1, 1, 1), mode="replicate")
    across = (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2]) / 2
    down = (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1]) / 2
    say = 1 / (1 + apart.square() / DOUBT)
    products = (across * across, across * down, down * down, across * apart, down * apart)
    sums = _smoothed(torch.cat([product * say for product in products], 1), NEIGHBOURHOOD)
    xx, xy, yy, xt, yt = sums.unbind(1)
    damping = LEAST_DAMPING + DAMPING * (xx + yy)
    xx, yy = xx + damping, yy + damping
    # The difference changes by twice the mean's slope with the motion: once for either frame.
    change = torch.stack((xy * yt - yy * xt, xy * xt - xx * yt), 1) / (2 * (xx * yy - xy * xy)).unsqueeze(1)
    return motion + change.clamp(-LARGEST, LARGEST)


def median_motion_reference(motion: Tensor) -> Tensor:
    height, width = motion.shape[-2:]
    padded = F.pad(motion, (2, 2, 2, 2), mode="replicate")
    around = [padded[..., y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return torch.stack(around).median(0).values


def _moved(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    """Both frames brought to the wanted time."""
    return warp_torch(frames, frames_motion(motion, time))


def frames_motion(motion: Tensor, time: Tensor) -> Tensor:
    """What `warp` reads the frames by to bring them to the time: `[2B, 2, H, W]`, all firsts before all seconds."""
    scale = torch.cat((-2 * time, 2 * (1 - time))).view(-1, 1, 1, 1)
    return motion.repeat(2, 1, 1, 1) * scale


def difference(frames: Tensor) -> Tensor:
    """How much frames differ around every pixel, each channel on its own: 0..1, large differences count little more."""
    first, second = frames.chunk(2)
    squares = (second - first).square()
    return _boxed(squares / (squares + DOUBT), NEIGHBOURHOOD)


def _smoothed(maps: Tensor, radius: int) -> Tensor:
    """Maps averaged over boxes, twice."""
    return _boxed(_boxed(maps, radius), radius)


def _boxed(maps: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(F.pad(maps, (radius, radius, radius, radius), mode="replicate"), 2 * radius + 1, stride=1)
