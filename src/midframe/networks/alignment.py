"""Motion between two frames without learning: where the guided network begins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops import warp

STEP = 2
"""Pixels of the frames to a pixel of the motion, a side."""
LUMA = (0.299, 0.587, 0.114)
LEAST = 12
"""The pyramid ends before a side would fall below this."""
ROUNDS, LAST_ROUNDS = 4, 2
"""Corrections at each level, and at the finest; no one moves a pixel by more than one."""
HOPS = (3, 9)
"""How far away, in a level's pixels, the neighbours are whose motions are tried."""
PREFERENCE = 0.02
"""How much of what differs another motion must take away, in the units of `_apart`, 0..1."""
NEIGHBOURHOOD, CONTRAST = 2, 3
"""Radii, of boxes applied twice: of the pixels that a correction is agreed on by, and that contrast is measured in."""
DOUBT = 0.6
"""Squared difference, in units of contrast, at which a pixel's say is halved: it may be covered in the other frame."""
DAMPING = 0.02
NOISE = 4e-4
"""Variance of frames in 0..1 below which there is nothing but noise."""


@torch.no_grad()
def align(first: Tensor, second: Tensor, time: Tensor) -> Tensor:
    """The motion `[B, 2, h, w]` at the times `[B]` between frames `[B, 3, H, W]` in 0..1: half of that between them.

    With u the motion (x, y) at p, in pixels of the result, first(p − 2t u) and second(p + 2(1−t) u) look alike: so u is
    in the scale of the middle, and belongs to the pixels of the wanted frame. H and W are even, h = H / 2,
    w = W / 2. There are no gradients: it is where learning begins.

    Their luma is brought to one local mean and contrast, then from the coarsest level of a pyramid to the finest: every
    pixel takes over a neighbour's motion where frames warped by that agree better; then, some rounds, both are warped
    by u, and in the neighbourhood of every pixel the u is sought that takes away what differs, in least squares; a
    median takes outliers away. Symmetric in time: with frames swapped, −u comes out.
    Sources: Lucas and Kanade, IJCAI 1981, seen from between the frames; for the propagation, which is done for all
    pixels at once, Barnes et al., PatchMatch, SIGGRAPH 2009.
    """
    kind = torch.promote_types(first.dtype, torch.float32)
    luma = first.new_tensor(LUMA, dtype=kind).view(1, 3, 1, 1)
    level = F.avg_pool2d((torch.cat((first, second)).to(kind) * luma).sum(1, keepdim=True), STEP)
    pyramid = [level]
    while min(level.shape[-2:]) // 2 >= LEAST:
        level = F.avg_pool2d(level, 2)
        pyramid.append(level)
    scale = torch.cat((-2 * time, 2 * (1 - time))).to(kind).view(-1, 1, 1, 1)
    motion = level.new_zeros(len(first), 2, *level.shape[-2:])
    while pyramid:
        frames = _levelled(pyramid.pop())
        size = frames.shape[-2:]
        gain = motion.new_tensor((size[1] / motion.shape[3], size[0] / motion.shape[2])).view(1, 2, 1, 1)
        motion = F.interpolate(motion, size=size, mode="bilinear", align_corners=False) * gain
        motion = _propagated(frames, motion, scale)
        for turn in range(ROUNDS if pyramid else LAST_ROUNDS):
            motion = motion + _correction(_moved(frames, motion, scale)).clamp(-1, 1)
            if turn % 2:
                motion = _median(motion)
    return motion


def _moved(frames: Tensor, motion: Tensor, scale: Tensor) -> Tensor:
    """Frames `[2B, 1, h, w]`, all firsts before all seconds, brought to the wanted time by the motion `[B, 2, h, w]`."""
    return warp(frames, motion.repeat(2, 1, 1, 1) * scale)


def _propagated(frames: Tensor, motion: Tensor, scale: Tensor) -> Tensor:
    """The motion, at every pixel its own or that of a neighbour by which the frames agree better."""
    height, width = motion.shape[-2:]
    best = _apart(_moved(frames, motion, scale))
    for hop in HOPS:
        around = F.pad(motion, (hop, hop, hop, hop), mode="replicate")
        for y, x in ((hop, 0), (hop, 2 * hop), (0, hop), (2 * hop, hop)):
            other = around[..., y : y + height, x : x + width]
            apart = _apart(_moved(frames, other, scale)) + PREFERENCE
            better = apart < best
            best, motion = torch.where(better, apart, best), torch.where(better, other, motion)
    return motion


def _apart(frames: Tensor) -> Tensor:
    """How much the frames differ around every pixel, `[B, 1, h, w]`: 0..1, large differences count little more."""
    first, second = frames.chunk(2)
    squares = (second - first).square()
    return _boxed(squares / (squares + DOUBT), NEIGHBOURHOOD)


def _correction(frames: Tensor) -> Tensor:
    """What is to be added to the motion for frames `[2B, 1, h, w]` to agree."""
    first, second = frames.chunk(2)
    apart = second - first
    mean = F.pad((first + second) / 2, (1, 1, 1, 1), mode="replicate")
    across = (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2]) / 2
    down = (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1]) / 2
    say = 1 / (1 + apart.square().mean(1, keepdim=True) / DOUBT)
    products = (across * across, across * down, down * down, across * apart, down * apart)
    sums = _smoothed(torch.stack([(product * say).sum(1) for product in products], 1), NEIGHBOURHOOD)
    xx, xy, yy, xt, yt = sums.unbind(1)
    damping = 1e-4 + DAMPING * (xx + yy)
    xx, yy = xx + damping, yy + damping
    # The difference changes by twice the mean's slope with the motion: once for either frame.
    return torch.stack((xy * yt - yy * xt, xy * xt - xx * yt), 1) / (2 * (xx * yy - xy * xy)).unsqueeze(1)


def _levelled(frames: Tensor) -> Tensor:
    """Frames of local mean 0 and contrast 1."""
    apart = frames - _smoothed(frames, CONTRAST)
    variance = _smoothed(apart.square().mean(1, keepdim=True), CONTRAST)
    return apart * torch.rsqrt(variance + NOISE)


def _smoothed(maps: Tensor, radius: int) -> Tensor:
    """Maps averaged over boxes, twice."""
    return _boxed(_boxed(maps, radius), radius)


def _boxed(maps: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(F.pad(maps, (radius, radius, radius, radius), mode="replicate"), 2 * radius + 1, stride=1)


def _median(motion: Tensor) -> Tensor:
    """The median of each number and those within two pixels of it."""
    height, width = motion.shape[-2:]
    padded = F.pad(motion, (2, 2, 2, 2), mode="replicate")
    around = [padded[..., y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return torch.stack(around).median(0).values
