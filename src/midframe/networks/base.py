"""What every interpolation network is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InterpolationNetwork(nn.Module):
    """A network that makes the frame at a time between two frames.

    `forward(first, second, time)` takes two frames `[B, 3, H, W]`, RGB in 0..1, gamma-encoded as in the film, of any
    size from 16x16, and the time of the new frame in (0, 1), one for each sample `[B]`. It returns the frame
    `[B, 3, H, W]`, not clipped. Untrained it returns the weighted mean `(1 - t) * first + t * second`.
    """

    any_time: ClassVar[bool] = True
    """Whether `time` may be anything in (0, 1); otherwise only 0.5 is made, and other times come by recursion."""

    averages: bool = False
    """Whether the frames are only mixed and nothing is moved (`convert` says so)."""

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        raise NotImplementedError


def mean_at(first: Tensor, second: Tensor, time: Tensor) -> Tensor:
    """The weighted mean `(1 - t) * first + t * second` of two frames `[B, C, H, W]` at the times `[B]`."""
    return torch.lerp(first, second, time.to(first.dtype).view(-1, 1, 1, 1))


def pad(frames: Tensor, multiple: int) -> Tensor:
    """Frames `[B, C, H, W]` with their last row and column repeated until both sizes are multiples of a number."""
    height, width = frames.shape[-2:]
    below, right = -height % multiple, -width % multiple
    return F.pad(frames, (0, right, 0, below), mode="replicate") if below or right else frames


def unpad(frames: Tensor, size: Sequence[int]) -> Tensor:
    """Undo `pad`: the part of the frames that has the size (height, width) they had before."""
    return frames[..., : size[0], : size[1]]
