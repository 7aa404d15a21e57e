"""The report's network: an encoder and decoder, and four sub-networks that predict the kernels of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midframe.errors import SettingError
from midframe.networks.base import InterpolationNetwork
from midframe.networks.initialisation import Initialisation, initialise
from midframe.ops import separable_convolution
from midframe.ops.taps import TapPattern

CHANNELS = (32, 64, 128, 256, 512)
"""Channels of the encoder's levels, from full resolution to 1/16."""
HEAD_CHANNELS = 64
TAPS = TapPattern.dense(51)
DILATED_TAPS = TapPattern.composite(11, 10)
"""The report's future work: 21 kernel values a side over a square of side 31."""
SLOPE = 0.2

Precision = Literal["float32", "bfloat16"]


class Paper(InterpolationNetwork):
    """The middle frame as the sum of two adaptive separable convolutions, one of each frame.

    Both frames go, concatenated, through an encoder of five levels and back up to half resolution; four sub-networks
    (vertical and horizontal, for each frame) turn that into kernels of `taps.size` values a pixel at full size. Levels
    halve a size rounding up, so any size from 16x16 goes through without padding. 21,675,452 parameters.

    taps: which pixels the kernels read; `DILATED_TAPS` is the report's composite dilation. Also as a weights file has
    it: inner, outer, variant.
    initialisation: of all convolutions (`convolution-aware`, as the report cites, or `glorot`).
    centre_tap: the last convolution of each sub-network starts with weight 0 and a bias of sqrt(1/2) at its centre tap,
    so that the untrained network is the mean of the frames; False, with `glorot`, is the author's code
    (`Paper.repository()`).

    precision: of the convolutions and kernels, `float32` (whatever the weights are) or `bfloat16`, faster on processors
    with units for it; frames stay in their own type. It may be changed at any time.

    It makes only the middle: `time` is not read. Raises `SettingError` for a setting that it does not know.
    Source: the report's section 2; where it is silent, its author's code.
    """

    any_time = False

    def __init__(
        self,
        *,
        taps: TapPattern | Sequence[int | str] = TAPS,
        initialisation: Initialisation = "convolution-aware",
        centre_tap: bool = True,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        if precision not in get_args(Precision):
            raise SettingError(f"precision is {' or '.join(get_args(Precision))}; got '{precision}'")
        self.taps = taps if isinstance(taps, TapPattern) else _pattern(taps)
        taps = self.taps
        self.settings: dict[str, Any] = {"taps": [taps.inner, taps.outer, taps.variant]}
        self.precision = precision
        self.encoder = nn.ModuleList(_block(before, channels) for before, channels in pairwise((6, *CHANNELS)))
        upwards = CHANNELS[:0:-1]
        self.decoder = nn.ModuleList(_block(before, here) for before, here in pairwise((CHANNELS[-1], *upwards)))
        self.after_upsampling = nn.ModuleList(_convolution(channels, channels) for channels in upwards)
        self.vertical_first, self.horizontal_first = Head(taps.size), Head(taps.size)
        self.vertical_second, self.horizontal_second = Head(taps.size), Head(taps.size)
        initialise(self, initialisation)
        if centre_tap:
            for part in self.modules():
                if isinstance(part, Head):
                    part.start_at_centre()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def repository(cls) -> Paper:
        """The network as the report's author trained it: Glorot initialisation, nothing else set."""
        return cls(initialisation="glorot", centre_tap=False)

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        size = first.shape[-2:]
        with self._in_precision(first.device):
            features = self.features(torch.cat((first, second), 1))
            kernels = self.vertical_first(features, size), self.horizontal_first(features, size)
        made = separable_convolution(first, *kernels, taps=self.taps)
        with self._in_precision(first.device):
            kernels = self.vertical_second(features, size), self.horizontal_second(features, size)
        return made + separable_convolution(second, *kernels, taps=self.taps)

    def features(self, frames: Tensor) -> Tensor:
        """Both frames `[B, 6, H, W]` to what the sub-networks read, `[B, 64, ceil(H / 2), ceil(W / 2)]`."""
        skips = []
        x = frames
        for level in self.encoder:
            x = level(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        for level, after, skip in zip(self.decoder, self.after_upsampling, skips[:0:-1], strict=True):
            x = after(_upsampled(level(x), skip.shape[-2:])) + skip
        return x

    @property
    def averages(self) -> bool:  # type: ignore[override]
        """Whether it is still untrained and its answer the mean of the frames."""
        return not any(bool(part.kernels.weight.any()) for part in self.modules() if isinstance(part, Head))

    def _in_precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()


class Head(nn.Module):
    """A sub-network: features at half resolution to one kernel a pixel at full resolution."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(HEAD_CHANNELS, HEAD_CHANNELS),
            _convolution(HEAD_CHANNELS, HEAD_CHANNELS),
            _convolution(HEAD_CHANNELS, values),
        )
        self.kernels = nn.Conv2d(values, values, 3, padding=1)

    def forward(self, features: Tensor, size: torch.Size) -> Tensor:
        kernels: Tensor = self.kernels(_upsampled(self.body(features), size))
        return kernels

    def start_at_centre(self) -> None:
        """Predict sqrt(1/2) at the centre tap and 0 elsewhere, whatever the features are."""
        assert self.kernels.bias is not None
        nn.init.zeros_(self.kernels.weight)
        nn.init.zeros_(self.kernels.bias)
        with torch.no_grad():
            self.kernels.bias[len(self.kernels.bias) // 2] = 0.5**0.5


def _block(before: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        *(layer for inputs in (before, channels, channels) for layer in _convolution(inputs, channels))
    )


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True))


def _upsampled(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _pattern(setting: Sequence[int | str]) -> TapPattern:
    match list(setting):
        case [int(inner), int(outer), "rings" | "axes" | "literal" as variant] if inner + outer <= 255:
            return TapPattern(inner, outer, variant)
    raise SettingError(f"taps is inner, outer and a variant (rings, axes, literal); got {setting!r}")
