"""Motion between two frames without learning: where the guided network begins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops import warp

STEP = 4
"""Pixels of the frames to a pixel of the motion, a side."""
LEAST = 12
"""The pyramid ends before a side would fall below this."""
ROUNDS = 4
"""Corrections at each level; no one moves a pixel by more than one."""
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
    in the scale of the middle, and belongs to the pixels of the wanted frame. H and W are multiples of 4, h = H / 4,
    w = W / 4. There are no gradients: it is where learning begins.

    Frames are brought to one local mean and contrast, then from the coarsest level of a pyramid to the finest, some
    rounds at each: both are warped by u, and in the neighbourhood of every pixel the u is sought that takes away what
    differs, in least squares; a median takes outliers away. Symmetric in time: with frames swapped, −u comes out.
    Source: Lucas and Kanade, IJCAI 1981; seen from between the frames.
    """
    kind = torch.promote_types(first.dtype, torch.float32)
    level = F.avg_pool2d(torch.cat((first, second)).to(kind), STEP)
    pyramid = [level]
    while min(level.shape[-2:]) // 2 >= LEAST:
        level = F.avg_pool2d(level, 2)
        pyramid.append(level)
    scale = torch.cat((-2 * time, 2 * (1 - time))).to(kind).view(-1, 1, 1, 1)
    motion: Tensor | None = None
    for level in pyramid[::-1]:
        frames, size = _levelled(level), level.shape[-2:]
        if motion is None:
            motion = level.new_zeros(len(first), 2, *size)
        else:
            finer = F.interpolate(motion, size=size, mode="bilinear", align_corners=False)
            motion = finer * finer.new_tensor((size[1] / motion.shape[3], size[0] / motion.shape[2])).view(1, 2, 1, 1)
        for turn in range(ROUNDS):
            motion = motion + _correction(warp(frames, motion.repeat(2, 1, 1, 1) * scale)).clamp(-1, 1)
            if turn % 2:
                motion = _median(motion)
    assert motion is not None
    return motion


def _correction(frames: Tensor) -> Tensor:
    """What is to be added to the motion for frames `[2B, 3, h, w]`, all firsts before all seconds, to agree."""
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
    for _ in range(2):
        maps = F.avg_pool2d(F.pad(maps, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)
    return maps


def _median(motion: Tensor) -> Tensor:
    """The median of each number and those within two pixels of it."""
    height, width = motion.shape[-2:]
    padded = F.pad(motion, (2, 2, 2, 2), mode="replicate")
    around = [padded[..., y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return torch.stack(around).median(0).values
