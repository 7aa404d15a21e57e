"""The pixel shader: what stands still in both frames is taken from them, not from the network.

    blend = blend_map(first, second, preset)                  # once a pair of frames
    shown = apply(made, first, second, time, blend, preset)   # for each frame made between them

Source: the report's section 5 and Algorithm 1; the preset `amplified` is that of its author's code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from midframe.errors import SettingError


@dataclass(frozen=True)
class ShaderPreset:
    """The numbers of the shader, in grey levels of 0..255."""

    name: str
    low: float
    """Where the blend map is at most this, the mean of the frames is shown."""
    high: float
    """Where it is at least this, the made frame is shown; between them a mixture."""
    clip: float = 255.0
    """The difference is clipped at this value before it is amplified."""
    gain: float = 1.0
    """The factor of the clipped difference; the product is clipped at 255."""
    radius: int = 10
    """The Gaussian covers (2 radius + 1) squared pixels."""
    sigma: float = 10.0
    """Its standard deviation in pixels."""


PAPER = ShaderPreset("paper", low=2.0, high=6.0)
AMPLIFIED = ShaderPreset("amplified", low=2.0, high=8.1, clip=32.0, gain=8.0)

PRESETS = {preset.name: preset for preset in (PAPER, AMPLIFIED)}
"""The presets by name."""

DEFAULT = AMPLIFIED
"""The preset that does not lower PSNR where things move (docs/shader.md has the figures)."""


def preset_named(name: str) -> ShaderPreset:
    """Give the preset `name`, or the default one for `default`. Raises `SettingError` for any other name."""
    if name == "default":
        return DEFAULT
    if name not in PRESETS:
        raise SettingError(f"there is no shader preset '{name}'; there are: default, {', '.join(PRESETS)}")
    return PRESETS[name]


def blend_map(first: Tensor, second: Tensor, preset: ShaderPreset = DEFAULT) -> Tensor:
    """Measure how much two frames differ around each pixel.

        B = G * min(255, gain * min(clip, mean over channels of |first - second|))

    with G a Gaussian of sum 1 and the picture mirrored at its border, the edge repeated.

    first, second: `[B, 3, H, W]` in 0..1, whatever the bit depth of the film. Returns `[B, 1, H, W]` in 0..255, in
    float32 (float64 for float64). It is exactly 0 where the frames are the same within the radius.
    """
    return _blur(_processed(_difference(first, second), preset), preset)


def apply(
    made: Tensor,
    first: Tensor,
    second: Tensor,
    time: Tensor | float,
    blend: Tensor,
    preset: ShaderPreset = DEFAULT,
) -> Tensor:
    """Show the weighted mean of the two frames where they hardly differ, the made frame where they do.

        f = (clamp(blend, low, high) - low) / (high - low)
        out = f * made + (1 - f) * ((1 - time) * first + time * second)

    made, first, second: `[B, 3, H, W]` in 0..1; time: in (0, 1), a number or one for each sample `[B]`; blend: what
    `blend_map` gave for the two frames with the same preset. Returns `[B, 3, H, W]` of the type of `made`: made
    itself where blend >= high, the frames themselves where they are equal and blend <= low.
    """
    at = time.to(first.dtype).view(-1, 1, 1, 1) if isinstance(time, Tensor) else time
    mean = torch.lerp(first, second, at)
    return torch.lerp(mean, made, made_share(blend, preset).to(made.dtype))


def made_share(blend: Tensor, preset: ShaderPreset = DEFAULT) -> Tensor:
    """Give f, the share of the made frame in each pixel, 0..1, from the blend map."""
    return blend.sub(preset.low).div_(preset.high - preset.low).clamp_(0.0, 1.0)


def _difference(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference over the channels, `[B, 1, H, W]` in 0..255."""
    kind = torch.promote_types(first.dtype, torch.float32)
    total = first.new_zeros(first.shape[0], 1, *first.shape[2:], dtype=kind)
    for channel in range(first.shape[1]):
        part = slice(channel, channel + 1)
        total += (first[:, part].to(kind) - second[:, part].to(kind)).abs_()
    return total.mul_(255.0 / first.shape[1])


def _processed(difference: Tensor, preset: ShaderPreset) -> Tensor:
    return difference.clamp(max=preset.clip).mul_(preset.gain).clamp_(max=255.0)


def _blur(image: Tensor, preset: ShaderPreset) -> Tensor:
    # Sums of shifted pictures: a convolution of one channel takes 20 times as long on a processor.
    weights = [math.exp(-0.5 * (k / preset.sigma) ** 2) for k in range(-preset.radius, preset.radius + 1)]
    weights = [weight / sum(weights) for weight in weights]
    for dim in (-2, -1):
        length = image.shape[dim]
        padded = _mirrored(image, dim, preset.radius)
        image = padded.narrow(dim, 0, length) * weights[0]
        for k, weight in enumerate(weights[1:], start=1):
            image.add_(padded.narrow(dim, k, length), alpha=weight)
    return image


def _mirrored(image: Tensor, dim: int, radius: int) -> Tensor:
    """Continue a picture on both sides of `dim` by its mirror image, the edge repeated: c b a | a b c | c b a."""
    length = image.shape[dim]
    index = torch.arange(-radius, length + radius, device=image.device) % (2 * length)
    return image.index_select(dim, torch.minimum(index, 2 * length - 1 - index))
