"""Estimate intermediate flow from coarse to fine, then apply a separable convolution to each warped frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midframe.errors import SettingError
from midframe.flow import estimate_flow
from midframe.networks.base import (
    NO_HINTS,
    FrameWindow,
    Hints,
    InterpolationNetwork,
    MapName,
    Prediction,
    PreparedPair,
    pad,
    unpad,
)
from midframe.networks.guided.kernels import adaptive_kernels
from midframe.networks.guided.layers import LEARNING_RATE_MULTIPLIER, LevelDecoder, LevelEncoder
from midframe.networks.guided.state import (
    STATE_CHANNELS,
    initial_state,
    separate_frames,
    state_flow,
    state_visibility,
    upsample_state,
)
from midframe.ops import cost_volume, separable_convolution, warp

LEVELS = 4
"""Levels of the pyramid with weights of their own: 1/2, 1/4, 1/8 and 1/16 of the picture's size."""

DIFFERENCE_SCALE = 4.0
"""Factor on the difference of the warped frames, which brings it to the magnitude of the features."""


class Guided(InterpolationNetwork):
    """Motion-guided network: intermediate flow by bilateral cost volumes, then adaptive separable convolution.

    **Pyramid.** The same encoder turns each frame into features at 1/2, 1/4, 1/8 and 1/16 of its size, levels 0 to 3.
    For coarser levels the frame itself is halved and encoded again, so that one set of weights serves pictures and
    motion of any size.

    **Initial flow.** `midframe.flow.estimate_flow` estimates the intermediate flow at 1/2 without a trained model. The
    flow is multiplied by a learnt parameter, `initial_flow_scale`.

    **Decoders.** From the coarsest level to the finest, the features are warped by the current flow and compared in a
    cost volume. A decoder reads the costs, the current state (flow and visibility, see `state.py`), the time and the
    hidden maps of the coarser decoder, and its output is added to the state. The features are normalised and carry no
    brightness, so the finest decoder also reads the difference of the warped frames. `initial_flow_scale` and the last
    convolution of every decoder start at zero, so that the untrained network returns the weighted mean of the frames.

    **Kernels.** The finest decoder also predicts, at 1/2, a vertical and a horizontal kernel for each frame (see
    `kernels.py`). They are applied to the frames, warped by the finest flow; the weights of each pixel sum to 1.

    Example: `Guided()(first, second, time)`; `Guided().predict(first, second, time)` also returns flow and kernels.
    """

    any_time = True

    # Longer than 50 lines because every setting is documented and checked here.
    def __init__(  # noqa: PLR0913 - one parameter for each setting
        self,
        *,
        taps: int = 5,
        feature_channels: Sequence[int] = (32, 64, 96, 128),
        encoder_convolutions: Sequence[int] = (0, 1, 1, 1),
        decoder_channels: Sequence[int] = (32, 80, 128, 192),
        decoder_convolutions: Sequence[int] = (2, 3, 3, 4),
        search_radii: Sequence[int] = (1, 2, 2, 4),
        depth: int | None = None,
        precision: str = "auto",
    ) -> None:
        """Build the untrained network; sequences have one number for each of the levels 1/2, 1/4, 1/8 and 1/16.

        taps: length of the adaptive kernels, odd, 1..51.
        feature_channels: channels of the features.
        encoder_convolutions: convolutions of the encoder at a level, after the one that halves the size.
        decoder_channels: channels of the decoder's hidden maps.
        decoder_convolutions: convolutions of the decoder at a level, between its first and its last.
        search_radii: radius of the cost volume in pixels of the level.
        depth: how many times the coarsest decoder runs (1: at 1/16; 2: also at 1/32; 3: also at 1/64); None: by the
            size of the picture. Not learnt; it may be changed at any time.
        precision: type of the convolutions, `float32`, `bfloat16`, or `auto`: bfloat16 if the device multiplies
            matrices in it. Not learnt; it may be changed at any time.

        Raises `SettingError` for values out of range.
        """
        super().__init__()
        self.settings: dict[str, Any] = {
            "taps": _check_integer("taps", taps, 1, 51),
            "feature_channels": _check_levels("feature_channels", feature_channels, 1, 1024),
            "encoder_convolutions": _check_levels("encoder_convolutions", encoder_convolutions, 0, 16),
            "decoder_channels": _check_levels("decoder_channels", decoder_channels, 1, 1024),
            "decoder_convolutions": _check_levels("decoder_convolutions", decoder_convolutions, 0, 32),
            "search_radii": _check_levels("search_radii", search_radii, 1, 8),
        }
        """The arguments that determine the shapes of the weights; a weights file stores them to rebuild the network."""
        if taps % 2 == 0:
            raise SettingError(f"taps must be odd; got {taps}")
        if precision not in ("auto", "float32", "bfloat16"):
            raise SettingError(f"precision is auto, float32 or bfloat16; got '{precision}'")
        self.taps = taps
        self.depth = None if depth is None else _check_integer("depth", depth, 1, 6)
        self.precision = precision

        input_channels = (3, *feature_channels[:-1])
        # A pixel at 1/2 covers 2x2 pixels of the frame. An even kernel is centred on them, an odd one would be shifted.
        kernel_sizes = (4, 3, 3, 3)
        self.encoders = nn.ModuleList(
            map(LevelEncoder, input_channels, feature_channels, kernel_sizes, encoder_convolutions)
        )
        self.decoders = nn.ModuleList(
            LevelDecoder(
                cost_channels=_input_channels(level, feature_channels[level], search_radii[level]),
                hidden_channels=decoder_channels[level],
                coarser_channels=decoder_channels[min(level + 1, LEVELS - 1)],
                output_channels=STATE_CHANNELS + (4 * taps if level == 0 else 0),
                convolutions=decoder_convolutions[level],
                search_radius=search_radii[level],
            )
            for level in range(LEVELS)
        )
        self.initial_flow_scale = nn.Parameter(torch.zeros(1))
        """How much of the initial flow is used, divided by `LEARNING_RATE_MULTIPLIER`."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def is_untrained_average(self) -> bool:  # type: ignore[override]
        """Whether every parameter that starts at zero still is zero, so that the output is the weighted mean."""
        outputs = [parameter for level in range(LEVELS) for parameter in self.decoder_at(level).output.parameters()]
        return not any(bool(parameter.any()) for parameter in (*outputs, self.initial_flow_scale))

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Predict the frame at `time` between two frames; see `InterpolationNetwork`."""
        return self.predict(first, second, time).frame

    def predict(self, first: Tensor, second: Tensor, time: Tensor, depth: int | None = None) -> GuidedOutput:
        """Predict the frame and return with it the flow, visibility and kernels that it was computed from.

        first, second, time: as for `forward`. depth: replaces the network's own `depth` in this call.
        """
        return self.encode(first, second, depth).decode(time)

    def prepare(self, window: FrameWindow, hints: Hints = NO_HINTS, carried: object | None = None) -> PreparedPair:
        """Compute the features of both frames, which all times share; hints are not used."""
        return self.encode(window.first, window.second)

    def encode(self, first: Tensor, second: Tensor, depth: int | None = None) -> GuidedPair:
        """Compute the feature pyramid of two frames `[B, 3, H, W]`; depth: as for `predict`."""
        size = first.shape[-2:]
        depth = depth or self.depth or default_depth(*size)
        # The two frames of a sample are adjacent in the batch. So the flow [B, 4, ...] to both frames can be viewed as
        # flow [2B, 2, ...] to single frames, and features [2B, ...] as [B, 2, ...], without a copy.
        frames = pad(torch.stack((first, second), 1).flatten(0, 1), 1 << (LEVELS + depth - 1))
        features = self._encode_levels(frames)
        smaller = frames
        for _ in range(depth - 1):
            smaller = F.avg_pool2d(smaller, 2)
            features.append(self._encode_levels(smaller)[-1])
        return GuidedPair(self, frames, features, size)

    def _encode_levels(self, frames: Tensor) -> list[Tensor]:
        """Compute the normalised features of frames `[2B, 3, H, W]` at 1/2, 1/4, 1/8 and 1/16."""
        maps, pyramid = frames.to(self._convolution_type(frames)), []
        for encoder in self.encoders:
            maps, features = encoder(maps)
            pyramid.append(features)
        return pyramid

    def decoder_at(self, level: int) -> LevelDecoder:
        """Return the decoder of a level; level 0 is the finest, and the levels from 3 on share one decoder."""
        decoder = self.decoders[min(level, LEVELS - 1)]
        assert isinstance(decoder, LevelDecoder)
        return decoder

    def _convolution_type(self, frames: Tensor) -> torch.dtype:
        """Return the type that the convolutions compute in."""
        if self.precision == "bfloat16" or (
            self.precision == "auto" and frames.dtype == torch.float32 and _multiplies_bfloat16(frames.device)
        ):
            return torch.bfloat16
        return frames.dtype


class GuidedPair(PreparedPair):
    """Two frames with their feature pyramid; created by `Guided.encode`."""

    def __init__(self, network: Guided, frames: Tensor, features: list[Tensor], size: torch.Size) -> None:
        self.network = network
        self.frames = frames
        """Both frames of each sample, one after the other, padded: `[2B, 3, H', W']`."""
        self.features = features
        """Normalised features of the frames `[2B, C, h, w]` by level; level 0 is at 1/2, the last is the coarsest."""
        self.size = size
        """Height and width of the frames before they were padded."""

    def at(self, time: Tensor, maps: Collection[MapName] = ()) -> Prediction:
        """Predict the frame at `time`; the maps that can be requested are flow and visibility."""
        output = self.decode(time)
        return Prediction(
            output.frame,
            flow=self._to_full_size(output.flows[-1] * 2) if "flow" in maps else None,
            visibility=self._to_full_size(output.visibilities[-1]) if "visibility" in maps else None,
        )

    def decode(self, time: Tensor) -> GuidedOutput:
        """Refine flow and visibility from the coarsest level to the finest, then apply the adaptive kernels.

        time: in (0, 1), one for each sample `[B]` or one for all. At each level, the state is the initial flow plus a
        correction: the sum of the decoders' outputs so far.
        """
        batch, coarsest = len(self.frames) // 2, len(self.features) - 1
        time = time.to(self.frames.dtype).expand(batch)
        initial_flow = self._initial_flow(time)
        correction = self.frames.new_zeros(batch, STATE_CHANNELS, *self.features[coarsest].shape[-2:])
        hidden: Tensor | None = None
        flows, visibilities = [], []
        for level in range(coarsest, -1, -1):
            if level < coarsest:
                correction = upsample_state(correction)
            state = correction + initial_state(initial_flow, correction.shape[-2:])
            hidden, output = self.network.decoder_at(level)(self._decoder_input(level, state, time), hidden)
            output = output.to(self.frames.dtype, memory_format=torch.contiguous_format)
            change, free_taps = output.split([STATE_CHANNELS, output.shape[1] - STATE_CHANNELS], 1)
            correction, state = correction + change, state + change
            flows.append(state_flow(state, time))
            visibilities.append(state_visibility(state, time))
        vertical, horizontal = adaptive_kernels(free_taps, visibilities[-1])
        warped = warp(self.frames, separate_frames(flows[-1] * 2))
        weighted = separable_convolution(
            warped, vertical.flatten(0, 1), horizontal.flatten(0, 1), border="replicate", scale=2
        )
        frame = unpad(torch.unflatten(weighted, 0, (batch, 2)).sum(1), self.size)
        warped = torch.unflatten(warped, 0, (batch, 2))
        return GuidedOutput(frame, tuple(flows), tuple(visibilities), warped, vertical, horizontal)

    def _initial_flow(self, time: Tensor) -> Tensor:
        """Estimate the intermediate flow u `[B, 2, H'/2, W'/2]` without a trained model, and scale it."""
        flow = estimate_flow(self.frames[0::2], self.frames[1::2], time)
        return flow * (LEARNING_RATE_MULTIPLIER * self.network.initial_flow_scale)

    def _decoder_input(self, level: int, state: Tensor, time: Tensor) -> Tensor:
        """Compute what a decoder reads: costs, warped features, state, time; at level 0 also the warped difference."""
        features, flow = self.features[level], state_flow(state, time)
        times = time.view(-1, 1, 1, 1).expand(-1, 1, *features.shape[-2:])
        context = [state, times, _warped_difference(self.frames, flow)] if level == 0 else [state, times]
        warped = warp(features, separate_frames(flow))
        return cost_volume(
            torch.unflatten(warped, 0, (len(time), 2)),
            radius=self.network.decoder_at(level).search_radius,
            time=time,
            context=torch.cat(context, 1),
        )

    def _to_full_size(self, maps: Tensor) -> Tensor:
        """Upsample maps at 1/2 to the size of the frames."""
        return unpad(F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False), self.size)


@dataclass(frozen=True)
class GuidedOutput:
    """A predicted frame and what it was computed from, for training and for analysis.

    H' and W' are the height and width of the padded frames. Tuples have one map for each level, from the coarsest to
    the finest, which is half the padded size.
    """

    frame: Tensor
    """The predicted frame `[B, 3, H, W]`, not clipped, of the size of the source frames."""
    flows: tuple[Tensor, ...]
    """Intermediate flow at each level `[B, 4, h, w]`: displacement in pixels of that level from each pixel of the
    predicted frame to the first frame (x, y), then to the second (x, y)."""
    visibilities: tuple[Tensor, ...]
    """Weight of the first frame at each level `[B, 1, h, w]`, 0..1."""
    warped: Tensor
    """Both frames warped by the finest flow, before the kernels: `[B, 2, 3, H', W']`."""
    vertical: Tensor
    """Vertical kernels for each frame `[B, 2, T, H'/2, W'/2]`; those of both frames together sum to 1."""
    horizontal: Tensor
    """Horizontal kernels for each frame `[B, 2, T, H'/2, W'/2]`; each sums to 1."""


def default_depth(height: int, width: int) -> int:
    """Return how many times the coarsest decoder runs on a picture of this size: larger pictures have larger motion."""
    shorter_side = min(height, width)
    return 1 if shorter_side < 1080 else 2 if shorter_side < 2160 else 3


@torch.no_grad()
def _warped_difference(frames: Tensor, flow: Tensor) -> Tensor:
    """Warp both frames `[2B, 3, H', W']` by the flow `[B, 4, H'/2, W'/2]` and return their difference.

    Returns `[B, 12, H'/2, W'/2]`, without gradient: each block of 2x2 RGB pixels becomes 12 channels.
    """
    warped = warp(frames, separate_frames(flow * 2))
    return F.pixel_unshuffle(warped[0::2] - warped[1::2], 2) * DIFFERENCE_SCALE


def _input_channels(level: int, feature_channels: int, search_radius: int) -> int:
    """Count the channels that the decoder of a level reads; see `GuidedPair._decoder_input`."""
    displacements = (2 * search_radius + 1) ** 2
    difference = 3 * 2 * 2 if level == 0 else 0
    return displacements + 2 * feature_channels + STATE_CHANNELS + 1 + difference


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for products of bfloat16 matrices."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Return a setting that must be an integer in low..high; raise `SettingError` if it is not."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SettingError(f"{name} is a whole number from {low} to {high}; got {value!r}")
    return value


def _check_levels(name: str, values: Any, low: int, high: int) -> list[int]:
    """Return a setting that must be four integers in low..high; raise `SettingError` if it is not."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != LEVELS:
        raise SettingError(f"{name} is four whole numbers, for 1/2, 1/4, 1/8 and 1/16; got {values!r}")
    return [_check_integer(name, value, low, high) for value in values]
