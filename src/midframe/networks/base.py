"""Define the interface that every interpolation network implements.

A network implements `forward`. It may also implement `prepare`, if it can compute something once that all frames
between two source frames share. `midframe.synthesis` calls `prepare`; training and evaluation call `forward`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MapName = Literal["flow", "visibility", "confidence"]
"""An optional output of a prediction, a field of `Prediction`."""


@dataclass(frozen=True)
class FrameWindow:
    """Consecutive source frames; the interpolated frames lie between `first` and `second`.

    Each frame is `[B, 3, H, W]`, RGB, gamma-encoded as in the film. Values are nominally 0..1; colours outside the RGB
    gamut, which a YUV film can hold, lie outside this range.
    """

    first: Tensor
    """The source frame before the interpolated frames."""
    second: Tensor
    """The source frame after the interpolated frames."""
    earlier: tuple[Tensor, ...] = ()
    """Source frames before `first`, in order of time; empty if they are unknown. No network reads them yet."""
    later: tuple[Tensor, ...] = ()
    """Source frames after `second`, in order of time; empty if they are unknown. No network reads them yet."""


@dataclass(frozen=True)
class Hints:
    """Knowledge about two source frames that does not come from their pixels.

    A network may ignore every hint, and none reads one yet.
    """

    motion_vectors: Tensor | None = None
    """Motion vectors of the codec, `[B, 2, H, W]`: displacement (x, y) in pixels from each pixel of the second frame to
    its match in the first frame; NaN where the codec has no vector."""
    static_mask: Tensor | None = None
    """`[B, 1, H, W]`: 1 where the picture is known to be static, such as a logo or a subtitle, else 0."""


NO_HINTS = Hints()
"""Nothing but the pixels is known."""


@dataclass(frozen=True)
class Prediction:
    """An interpolated frame and, on request, the maps that explain it."""

    frame: Tensor
    """The frame `[B, 3, H, W]`, RGB, nominally 0..1."""
    flow: Tensor | None = None
    """Intermediate optical flow `[B, 4, H, W]`: displacement in pixels from each pixel of the interpolated frame to the
    first frame (x, y), then to the second (x, y). None if it was not requested or the network does not estimate it."""
    visibility: Tensor | None = None
    """Weight of the first frame `[B, 1, H, W]`, 0..1; the second frame has 1 minus this weight. None if it was not
    requested or the network does not estimate it."""
    confidence: Tensor | None = None
    """Expected reliability of each pixel `[B, 1, H, W]`, 0..1. None, because no network estimates it yet."""


class PreparedPair(ABC):
    """Two source frames and what a network computed once for all frames between them."""

    carried: object | None = None
    """Data that `prepare` of the next pair may reuse, such as features of the second frame; None if there is none."""

    @abstractmethod
    def at(self, time: Tensor, maps: Collection[MapName] = ()) -> Prediction:
        """Predict the frame at `time` `[B]` in (0, 1), not clipped, and those of `maps` that the network estimates."""


class InterpolationNetwork(nn.Module):
    """A network that predicts the frame at a time between two source frames.

    `forward(first, second, time)` takes two frames `[B, 3, H, W]`, RGB in 0..1, gamma-encoded as in the film, of any
    size from 16x16, and the time of the new frame in (0, 1) for each sample, `[B]`. It returns the frame
    `[B, 3, H, W]`, not clipped. An untrained network returns the weighted mean `(1 - t) * first + t * second`.
    """

    any_time: ClassVar[bool] = True
    """Whether the network predicts any time in (0, 1); if not, it predicts 0.5 and other times come by recursion."""

    is_untrained_average: bool = False
    """Whether the output is only the weighted mean of the two frames; callers then warn, and skip the shader."""

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Predict the frame at `time` between two frames; see the class."""
        raise NotImplementedError

    def prepare(self, window: FrameWindow, hints: Hints = NO_HINTS, carried: object | None = None) -> PreparedPair:
        """Compute what all frames between `window.first` and `window.second` share.

        carried: `PreparedPair.carried` of the previous pair if its second frame is the first of this window, else None.
        By default nothing is shared: `forward` runs for each frame and gives no maps.
        """
        return _ForwardPair(self, window)


class _ForwardPair(PreparedPair):
    """Two source frames of a network that implements only `forward`."""

    def __init__(self, network: InterpolationNetwork, window: FrameWindow) -> None:
        self._network, self._window = network, window

    def at(self, time: Tensor, maps: Collection[MapName] = ()) -> Prediction:
        """Predict the frame by `forward`; no maps can be requested."""
        return Prediction(self._network(self._window.first, self._window.second, time))


def weighted_mean(first: Tensor, second: Tensor, time: Tensor) -> Tensor:
    """Return the weighted mean `(1 - t) * first + t * second` of two frames `[B, C, H, W]` at the times `[B]`."""
    return torch.lerp(first, second, time.to(first.dtype).view(-1, 1, 1, 1))


def pad(frames: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of frames `[B, C, H, W]` until height and width are multiples of `multiple`."""
    height, width = frames.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(frames, (0, right, 0, bottom), mode="replicate") if bottom or right else frames


def unpad(frames: Tensor, size: Sequence[int]) -> Tensor:
    """Undo `pad`: crop the frames to the size (height, width) that they had before."""
    return frames[..., : size[0], : size[1]]
