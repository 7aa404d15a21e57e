"""`guided`: short kernels on frames that motion has brought together. The network Midframe is meant to be used with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midframe.errors import SettingError
from midframe.flow import estimate_flow
from midframe.networks.base import InterpolationNetwork, pad, unpad
from midframe.ops import cost_volume, separable_convolution, warp
from midframe.ops.feature_normalisation import normalise_features

SLOPE = 0.2
"""Of every leaky ReLU, the paper's."""
FASTER = 25.0
"""What numbers that rule a whole level are multiplied by: Adam moves all weights alike, which is too slow for them."""
GAIN = 0.1
"""Of the decoders' answers: one step of Adam changes all weights alike, and what a thousand of them say together would
throw motions out of the picture, where they have no gradient to come back by."""
CONTRAST = 4.0
"""What differences of the moved frames, 0..1, are multiplied by to be of the features' size."""


@dataclass(frozen=True)
class Levels:
    """A made frame and what it was made of, for training and for looking inside.

    Maps belong to the padded picture, whose size is a multiple of the coarsest level's pixel; levels run from the
    coarsest to the finest, which is half the picture's size.
    """

    frame: Tensor
    """`[B, 3, H, W]`, the frame at the wanted time, not clipped, of the size of the frames given."""
    motions: tuple[Tensor, ...]
    """One a level, `[B, 4, h, w]`: from a pixel of the wanted frame to the first frame (x, y), then to the second, in
    pixels of that level."""
    blends: tuple[Tensor, ...]
    """One a level, `[B, 1, h, w]`: the share of the first frame, 0..1."""
    warped: Tensor
    """`[B, 2, 3, H, W]`: both frames brought to the wanted time, padded, before any kernel."""
    vertical: Tensor
    """`[B, 2, T, H / 2, W / 2]`: the vertical kernels for each frame; the sums of both add up to 1."""
    horizontal: Tensor
    """`[B, 2, T, H / 2, W / 2]`: the horizontal kernels; the sum of each is 1."""


class Guided(InterpolationNetwork):
    """Motion coarse to fine by bilateral cost volumes, then a separable convolution of each moved frame.

    taps: of the kernels, odd, 1..51. features: channels of the frames' pyramid at 1/2, 1/4, 1/8 and 1/16. inner: the
    convolutions at each of these sizes after the one that halves. hidden, blocks: channels and inner convolutions of
    the decoders there; radii: of their cost volumes. Most weights sit where there are few pixels.
    depth: how many times the coarsest decoder runs (1: at 1/16; 2: from 1/32; 3: from 1/64); None: by the size of the
    picture. precision: of the convolutions, `float32`, `bfloat16`, or `auto`, which is bfloat16 where the device
    multiplies matrices in it. These two may be changed at any time, they are no part of what is learnt.

    **Pyramid.** Each frame goes through the same encoder. For levels below 1/16 the whole frame is halved and encoded
    again, so one set of weights serves pictures and motions of any size.

    **State.** What is refined from level to level is, for every pixel of the wanted frame, the motion u0 to the first
    frame and u1 to the second, in the scale of the middle (the motions at time t are 2t * u0 and 2(1-t) * u1), and the
    logit of the first frame's share, less logit(1-t). Straight motion has the same state at every time, and the cost
    volume too is indexed by displacement alone: what is learnt at the middle holds at the other times.

    **Alignment.** Where motion begins is not learnt: `estimate_flow` finds it by least squares, at half size. A learnt
    number, `alignment`, says how much of it is taken; what the levels add is what it missed.

    **Decoder.** At each level both features are warped by the state, matched by a cost volume, and read together with
    the state, the time and the coarser decoder's hidden maps; the answer is added to the state. Features have one
    length, so the finest decoder also reads how far the moved frames' pixels are apart. Inner convolutions start near
    the identity, a residual connection inside the weights: there are no additions to make. `alignment` and
    the decoders' last convolutions start at zero, so the untrained network returns the weighted mean.

    **Kernels.** The finest decoder also gives, at half size, a vertical and a horizontal kernel for each frame: a delta
    plus taps whose sum is zero, the vertical ones times the frame's share. All weights of a pixel add up to 1 by
    construction, also between the pixels of the half-size maps, so nothing is divided; the border is `replicate`.
    """

    any_time = True

    def __init__(
        self,
        *,
        taps: int = 5,
        features: Sequence[int] = (32, 64, 96, 128),
        inner: Sequence[int] = (0, 1, 1, 1),
        hidden: Sequence[int] = (32, 80, 128, 192),
        blocks: Sequence[int] = (2, 3, 3, 4),
        radii: Sequence[int] = (1, 2, 2, 4),
        depth: int | None = None,
        precision: str = "auto",
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "taps": _whole("taps", taps, 1, 51),
            "features": _each_level("features", features, 1, 1024),
            "inner": _each_level("inner", inner, 0, 16),
            "hidden": _each_level("hidden", hidden, 1, 1024),
            "blocks": _each_level("blocks", blocks, 0, 32),
            "radii": _each_level("radii", radii, 1, 8),
        }
        if taps % 2 == 0:
            raise SettingError(f"taps must be odd; got {taps}")
        if precision not in ("auto", "float32", "bfloat16"):
            raise SettingError(f"precision is auto, float32 or bfloat16; got '{precision}'")
        self.depth = None if depth is None else _whole("depth", depth, 1, 6)
        self.precision = precision
        self.taps = taps

        kernels = (4, 3, 3, 3)  # pixels of 1/2 lie between four of the frame's
        self.encoders = nn.ModuleList(map(_Encoder, (3, *features[:-1]), features, kernels, inner))
        matched = [(2 * radius + 1) ** 2 + 2 * channels + 6 for radius, channels in zip(radii, features, strict=True)]
        matched[0] += 12
        answers = (5 + 4 * taps, 5, 5, 5)
        coarser = (*hidden[1:], hidden[-1])
        self.decoders = nn.ModuleList(map(_Decoder, matched, hidden, blocks, coarser, answers, radii))
        self.alignment = nn.Parameter(torch.zeros(1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def averages(self) -> bool:  # type: ignore[override]
        """Whether it is still untrained: its answer is then the weighted mean."""
        parts = [part for part in self.modules() if isinstance(part, _Decoder)]
        answers = [parameter for part in parts for parameter in part.head.parameters()]
        return not any(bool(parameter.any()) for parameter in (*answers, self.alignment))

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        return self.forward_levels(first, second, time).frame

    def forward_levels(self, first: Tensor, second: Tensor, time: Tensor, depth: int | None = None) -> Levels:
        """Make the frame and keep what it was made of. depth: as in the class, for this call."""
        batch, _, *size = first.shape
        depth = depth or self.depth or depth_for(*size)
        time = time.to(first.dtype).expand(batch)
        # Both frames of a sample lie side by side in the batch: the maps [B, 4, ...] of a decoder are then the frames'
        # own maps [2B, 2, ...] without a copy, and either frame's features are a view.
        pair = pad(torch.stack((first, second), 1).flatten(0, 1), 16 << (depth - 1))
        scale = torch.stack((time, time, 1 - time, 1 - time), 1).mul(2).view(batch, 4, 1, 1)

        aligned = estimate_flow(pair[0::2], pair[1::2], time) * (FASTER * self.alignment)
        learnt, hidden = None, None
        motions, blends = [], []
        for features, decoder in self._pyramid(pair, depth):
            place = (batch, 1, *features.shape[-2:])
            if learnt is None:
                learnt = first.new_zeros(batch, 5, *features.shape[-2:])
            else:
                gain = learnt.new_tensor((2, 2, 2, 2, 1)).view(1, 5, 1, 1)
                learnt = F.interpolate(learnt, scale_factor=2.0, mode="bilinear", align_corners=False) * gain
            state = learnt + _as_state(_resized(aligned, features.shape[-2:]))
            motion = state[:, :4] * scale
            moved = warp(features, _each(motion))
            context = [state, time.view(batch, 1, 1, 1).expand(place)]
            if decoder is self.decoders[0]:
                context.append(_apart(pair, motion))
            matched = cost_volume(
                torch.unflatten(moved, 0, (batch, 2)), radius=decoder.radius, time=time, context=torch.cat(context, 1)
            )
            hidden, answer = decoder(matched, hidden)
            answer = answer.to(first.dtype, memory_format=torch.contiguous_format)
            change, free = answer.split([5, answer.shape[1] - 5], 1)
            learnt, state = learnt + change, state + change
            motions.append(state[:, :4] * scale)
            blends.append(torch.sigmoid(state[:, 4:] + torch.logit(1 - time).view(batch, 1, 1, 1)))

        kernels = _sum_to_one(free.reshape(batch, 2, 2, self.taps, *answer.shape[2:]))
        shares = torch.stack((blends[-1], 1 - blends[-1]), 1)
        upright, horizontal = kernels.unbind(2)
        vertical = upright * shares.to(upright.dtype)
        warped = warp(pair, _each(motions[-1] * 2))
        parts = separable_convolution(
            warped, vertical.flatten(0, 1), horizontal.flatten(0, 1), border="replicate", scale=2
        )
        frame = unpad(torch.unflatten(parts, 0, (batch, 2)).sum(1), size)
        warped = warped.view(batch, 2, *warped.shape[1:])
        return Levels(frame, tuple(motions), tuple(blends), warped, vertical, horizontal)

    def _pyramid(self, pair: Tensor, depth: int) -> list[tuple[Tensor, _Decoder]]:
        """The features of both frames and the decoder that reads them, coarsest first."""
        decoders = [part for part in self.decoders if isinstance(part, _Decoder)]
        levels = list(zip(self._encode(pair), decoders, strict=True))
        for _ in range(depth - 1):
            pair = F.avg_pool2d(pair, 2)
            levels.append((self._encode(pair)[-1], decoders[-1]))
        return levels[::-1]

    def _encode(self, pair: Tensor) -> list[Tensor]:
        """The features of frames `[2B, 3, H, W]` at 1/2, 1/4, 1/8 and 1/16."""
        maps, pyramid = pair.to(self._working_type(pair)), []
        for encoder in [part for part in self.encoders if isinstance(part, _Encoder)]:
            maps = encoder(maps)
            pyramid.append(normalise_features(maps, encoder.centre * FASTER))
        return pyramid

    def _working_type(self, frames: Tensor) -> torch.dtype:
        if self.precision == "bfloat16" or (
            self.precision == "auto" and frames.dtype == torch.float32 and _multiplies_bfloat16(frames.device)
        ):
            return torch.bfloat16
        return frames.dtype


def depth_for(height: int, width: int) -> int:
    """How many times the coarsest decoder runs on a picture of this size: motion grows with the picture."""
    short = min(height, width)
    return 1 if short < 1080 else 2 if short < 2160 else 3


class _Convolution(nn.Conv2d):
    """A convolution that runs in the type of its input. gain: what weights and bias are multiplied by."""

    bias: nn.Parameter
    gain = 1.0

    def forward(self, maps: Tensor) -> Tensor:
        weight, bias = (self.weight, self.bias) if self.gain == 1 else (self.weight * self.gain, self.bias * self.gain)
        return F.conv2d(maps, weight.to(maps.dtype), bias.to(maps.dtype), self.stride, self.padding)


def _convolution(channels: int, out: int, kernel: int = 3, stride: int = 1) -> _Convolution:
    made = _Convolution(channels, out, kernel, stride, padding=(kernel - 1) // 2)
    nn.init.kaiming_normal_(made.weight, SLOPE)
    nn.init.zeros_(made.bias)
    return made


def _inner(channels: int) -> _Convolution:
    """A convolution that starts as the identity plus noise of the same size: a residual connection in its weights."""
    made = _convolution(channels, channels)
    identity = nn.init.dirac_(torch.empty_like(made.weight))
    with torch.no_grad():
        made.weight.mul_(((1 + SLOPE**2) / 2) ** 0.5).add_(identity)
    return made


def _activated(maps: Tensor) -> Tensor:
    return F.leaky_relu(maps, SLOPE, inplace=True)


class _Encoder(nn.Module):
    """One level of the frames' pyramid: half the size, then inner convolutions."""

    def __init__(self, channels: int, out: int, kernel: int, inner: int) -> None:
        super().__init__()
        self.enter = _convolution(channels, out, kernel, stride=2)
        with torch.no_grad():  # filters of no sum tell textures apart, not brightness
            self.enter.weight -= self.enter.weight.mean((1, 2, 3), keepdim=True)
        self.inner = nn.ModuleList(_inner(out) for _ in range(inner))
        self.centre = nn.Parameter(torch.zeros(out))

    def forward(self, maps: Tensor) -> Tensor:
        maps = _activated(self.enter(maps))
        for convolution in self.inner:
            maps = _activated(convolution(maps))
        return maps


class _Decoder(nn.Module):
    """One level of the decoder: matched features and the coarser level's hidden maps in, hidden maps and answer out."""

    def __init__(self, channels: int, hidden: int, blocks: int, coarser: int, out: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        self.enter = _convolution(channels, hidden)
        self.carry = _convolution(coarser, hidden, kernel=1)
        self.inner = nn.ModuleList(_inner(hidden) for _ in range(blocks))
        self.head = _convolution(hidden, out)
        self.head.gain = GAIN
        nn.init.zeros_(self.head.weight)

    def forward(self, matched: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        maps = self.enter(matched)
        if coarser is not None:
            maps = maps + F.interpolate(self.carry(coarser), scale_factor=2.0, mode="nearest")
        maps = _activated(maps)
        for convolution in self.inner:
            maps = _activated(convolution(maps))
        return maps, self.head(maps)


@torch.no_grad()
def _apart(pair: Tensor, motion: Tensor) -> Tensor:
    """What differs between the frames `[2B, 3, H, W]` moved by half-size maps `[B, 4, h, w]`: `[B, 12, h, w]`."""
    moved = warp(pair, _each(motion * 2))
    return F.pixel_unshuffle(moved[0::2] - moved[1::2], 2) * CONTRAST


def _as_state(motion: Tensor) -> Tensor:
    """The state `[B, 5, h, w]` of motion `[B, 2, h, w]`: itself to the second frame, its opposite to the first."""
    return torch.cat((-motion, motion, torch.zeros_like(motion[:, :1])), 1)


def _resized(motion: Tensor, size: Sequence[int]) -> Tensor:
    """Motion `[B, 2, h, w]` at another level's size, in its pixels; sizes differ by powers of two."""
    ratio = size[0] / motion.shape[2]
    if ratio < 1:
        return F.avg_pool2d(motion, round(1 / ratio)) * ratio
    return motion if ratio == 1 else F.interpolate(motion, tuple(size), mode="bilinear", align_corners=False) * ratio


def _sum_to_one(taps: Tensor) -> Tensor:
    """Kernels `[B, 2, 2, T, h, w]` out of free taps: less their mean, plus a delta."""
    delta = torch.zeros(taps.shape[3], dtype=taps.dtype, device=taps.device)
    delta[taps.shape[3] // 2] = 1
    return taps - taps.mean(3, keepdim=True) + delta.view(-1, 1, 1)


def _each(maps: Tensor) -> Tensor:
    """Maps `[B, 4, h, w]` of both frames as the frames' own `[2B, 2, h, w]`."""
    return maps.reshape(-1, 2, *maps.shape[2:])


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SettingError(f"{name} is a whole number from {low} to {high}; got {value!r}")
    return value


def _each_level(name: str, values: Any, low: int, high: int) -> list[int]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 4:
        raise SettingError(f"{name} is four whole numbers, for 1/2, 1/4, 1/8 and 1/16; got {values!r}")
    return [_whole(name, value, low, high) for value in values]
