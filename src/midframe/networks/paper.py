"""The network `paper`, as the report describes it: an encoder, a decoder and four sub-networks that predict kernels."""

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
"""Channels of the encoder at each level, from full resolution to 1/16."""

FEATURE_CHANNELS = CHANNELS[1]
"""Channels of the decoder's output at half resolution, and of the sub-networks that read it."""

TAPS = TapPattern.dense(51)
"""The dense taps of the report: kernels of 51 values along each axis."""

DILATED_TAPS = TapPattern.composite(11, 10)
"""Dilated taps, which the report proposes as future work: 21 values along each axis, spread over 31 x 31 pixels."""

NEGATIVE_SLOPE = 0.2
"""Slope of every leaky ReLU."""

Precision = Literal["float32", "bfloat16"]


class Paper(InterpolationNetwork):
    """The report's network: the middle frame as the sum of an adaptive separable convolution of each frame.

    Both frames, concatenated, go through an encoder of five levels and a decoder back to half resolution. Four
    sub-networks turn the result into a vertical and a horizontal kernel for each frame: `taps.size` values for each
    pixel at full resolution. Every level halves the size and rounds up, so that any size from 16x16 needs no padding.
    The network has 21,675,452 parameters.

    It predicts only the middle: `time` is not read. Source: the report's section 2; its author's code for what the
    report does not specify.
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
        """Build the untrained network.

        taps: the pixels that a kernel reads: a pattern, or its inner size, outer size and variant, as in a weights
            file.
        initialisation: of all convolutions, `convolution-aware`, which the report cites, or `glorot`.
        centre_tap: if true, the last convolution of each sub-network starts with weight 0 and a bias of sqrt(1/2) at
            the centre tap, so that the untrained network returns the mean of the frames. The author's code does not do
            so; see `Paper.repository`.
        precision: type of convolutions and kernels, `float32` or `bfloat16`; the frames keep their type. It may be
            changed at any time.

        Raises `SettingError` for other values.
        """
        super().__init__()
        if precision not in get_args(Precision):
            raise SettingError(f"precision is {' or '.join(get_args(Precision))}; got '{precision}'")
        self.taps = taps if isinstance(taps, TapPattern) else _parse_taps(taps)
        taps = self.taps
        self.settings: dict[str, Any] = {"taps": [taps.inner, taps.outer, taps.variant]}
        """The arguments that rebuild the network; a weights file stores them."""
        self.precision = precision
        self.encoder = nn.ModuleList(_block(inputs, channels) for inputs, channels in pairwise((6, *CHANNELS)))
        decoder_channels = CHANNELS[:0:-1]
        self.decoder = nn.ModuleList(
            _block(inputs, channels) for inputs, channels in pairwise((CHANNELS[-1], *decoder_channels))
        )
        self.after_upsampling = nn.ModuleList(_convolution(channels, channels) for channels in decoder_channels)
        self.vertical_first, self.horizontal_first = KernelHead(taps.size), KernelHead(taps.size)
        self.vertical_second, self.horizontal_second = KernelHead(taps.size), KernelHead(taps.size)
        initialise(self, initialisation)
        if centre_tap:
            for head in self._heads():
                head.predict_centre_tap()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def repository(cls) -> Paper:
        """Build the untrained network as in the author's repository: Glorot initialisation, no centre tap."""
        return cls(initialisation="glorot", centre_tap=False)

    @property
    def is_untrained_average(self) -> bool:  # type: ignore[override]
        """Whether the network is untrained and its output is the mean of the frames."""
        return not any(bool(head.kernels.weight.any()) for head in self._heads())

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Predict the middle frame between two frames; see `InterpolationNetwork`."""
        size = first.shape[-2:]
        with self._autocast(first.device):
            features = self.features(torch.cat((first, second), 1))
            kernels = self.vertical_first(features, size), self.horizontal_first(features, size)
        first_part = separable_convolution(first, *kernels, taps=self.taps)
        with self._autocast(first.device):
            kernels = self.vertical_second(features, size), self.horizontal_second(features, size)
        return first_part + separable_convolution(second, *kernels, taps=self.taps)

    def features(self, frames: Tensor) -> Tensor:
        """Compute what the sub-networks read, `[B, 64, ceil(H / 2), ceil(W / 2)]`, from both frames `[B, 6, H, W]`."""
        skips = []
        x = frames
        for level in self.encoder:
            x = level(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        for level, after, skip in zip(self.decoder, self.after_upsampling, skips[:0:-1], strict=True):
            x = after(_upsample(level(x), skip.shape[-2:])) + skip
        return x

    def _heads(self) -> tuple[KernelHead, ...]:
        """Return the four sub-networks."""
        return self.vertical_first, self.horizontal_first, self.vertical_second, self.horizontal_second

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return a context in which convolutions run in the network's precision."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()


class KernelHead(nn.Module):
    """A sub-network that turns features at half resolution into one kernel for each pixel at full resolution."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(FEATURE_CHANNELS, FEATURE_CHANNELS),
            _convolution(FEATURE_CHANNELS, FEATURE_CHANNELS),
            _convolution(FEATURE_CHANNELS, kernel_size),
        )
        self.kernels = nn.Conv2d(kernel_size, kernel_size, 3, padding=1)

    def forward(self, features: Tensor, size: torch.Size) -> Tensor:
        """Predict kernels `[B, kernel_size, H, W]` of the given size (H, W) from features `[B, 64, h, w]`."""
        kernels: Tensor = self.kernels(_upsample(self.body(features), size))
        return kernels

    def predict_centre_tap(self) -> None:
        """Make the sub-network predict sqrt(1/2) at the centre tap and 0 at all others, for any features."""
        assert self.kernels.bias is not None
        nn.init.zeros_(self.kernels.weight)
        nn.init.zeros_(self.kernels.bias)
        with torch.no_grad():
            self.kernels.bias[len(self.kernels.bias) // 2] = 0.5**0.5


def _block(input_channels: int, channels: int) -> nn.Sequential:
    """Build three convolutions, each with its leaky ReLU."""
    layers = (layer for inputs in (input_channels, channels, channels) for layer in _convolution(inputs, channels))
    return nn.Sequential(*layers)


def _convolution(input_channels: int, channels: int) -> nn.Sequential:
    """Build a 3x3 convolution with its leaky ReLU."""
    return nn.Sequential(nn.Conv2d(input_channels, channels, 3, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))


def _upsample(x: Tensor, size: torch.Size) -> Tensor:
    """Resize maps bilinearly to the given height and width."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _parse_taps(setting: Sequence[int | str]) -> TapPattern:
    """Return the tap pattern of a setting [inner, outer, variant]; raise `SettingError` if it is none."""
    match list(setting):
        case [int(inner), int(outer), "rings" | "axes" | "literal" as variant] if inner + outer <= 255:
            return TapPattern(inner, outer, variant)
    raise SettingError(f"taps is inner, outer and a variant (rings, axes, literal); got {setting!r}")
