"""The pixel shader: replace the prediction by the mean of the source frames where these hardly differ.

    blend = blend_map(first, second, preset)                                   # once for a pair of source frames
    frame = apply_shader(prediction, first, second, time, blend, preset)       # for each frame between them

Source: the report's section 5 and Algorithm 1; the preset `amplified` comes from its author's code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from midframe.errors import SettingError


@dataclass(frozen=True)
class ShaderPreset:
    """The parameters of the shader; levels are grey levels of 0..255."""

    name: str
    """The name by which users choose the preset."""
    low: float
    """Up to this value of the blend map, the output is the mean of the source frames."""
    high: float
    """From this value of the blend map, the output is the prediction; between `low` and `high` it is a mixture."""
    clip: float = 255.0
    """The absolute difference is clipped to this value before it is amplified."""
    gain: float = 1.0
    """The clipped difference is multiplied by this factor; the product is clipped to 255."""
    radius: int = 10
    """The Gaussian covers (2 * radius + 1) x (2 * radius + 1) pixels."""
    sigma: float = 10.0
    """Standard deviation of the Gaussian in pixels."""


PAPER = ShaderPreset("paper", low=2.0, high=6.0)
"""The preset of the report."""

AMPLIFIED = ShaderPreset("amplified", low=2.0, high=8.1, clip=32.0, gain=8.0)
"""The preset of the author's code: it keeps the prediction where the source frames differ by about one level."""

PRESETS = {preset.name: preset for preset in (PAPER, AMPLIFIED)}
"""All presets by name."""

DEFAULT_PRESET = AMPLIFIED
"""The default, because it does not lower the PSNR of moving regions (docs/shader.md has the measurements)."""


def find_preset(name: str) -> ShaderPreset | None:
    """Return the preset of this name, `DEFAULT_PRESET` for `default`, or None for `off`.

    Raises `SettingError` for any other name.
    """
    if name == "off":
        return None
    if name == "default":
        return DEFAULT_PRESET
    if name not in PRESETS:
        raise SettingError(f"there is no shader preset '{name}'; there are: default, {', '.join(PRESETS)}")
    return PRESETS[name]


def blend_map(first: Tensor, second: Tensor, preset: ShaderPreset = DEFAULT_PRESET) -> Tensor:
    """Measure how much two source frames differ in the neighbourhood of each pixel.

        B = G * min(255, gain · min(clip, mean over channels of |first − second|))

    G is a Gaussian whose weights sum to 1, and `*` is convolution. The picture is mirrored at its border, the edge
    pixel repeated.

    first, second: `[B, 3, H, W]` in 0..1, whatever the bit depth of the film. Returns `[B, 1, H, W]` in 0..255, in
    float32 (float64 for float64). The result is exactly 0 where the frames are equal within the radius.
    """
    return blur(amplify(absolute_difference(first, second), preset), preset)


def apply_shader(
    prediction: Tensor,
    first: Tensor,
    second: Tensor,
    time: Tensor | float,
    blend: Tensor,
    preset: ShaderPreset = DEFAULT_PRESET,
) -> Tensor:
    """Blend a prediction with the weighted mean of the source frames, according to their blend map.

        f = (clamp(blend, low, high) − low) / (high − low)
        out = f · prediction + (1 − f) · ((1 − time) · first + time · second)

    prediction, first, second: `[B, 3, H, W]` in 0..1. time: in (0, 1), a number or one for each sample `[B]`. blend:
    the result of `blend_map` for both source frames with the same preset. Returns `[B, 3, H, W]` of the type of
    `prediction`: the prediction itself where blend >= high, the source frames themselves where these are equal and
    blend <= low.
    """
    weight = time.to(first.dtype).view(-1, 1, 1, 1) if isinstance(time, Tensor) else time
    mean = torch.lerp(first, second, weight)
    return torch.lerp(mean, prediction, prediction_weight(blend, preset).to(prediction.dtype))


def prediction_weight(blend: Tensor, preset: ShaderPreset = DEFAULT_PRESET) -> Tensor:
    """Return f of `apply_shader`, the weight of the prediction at each pixel, 0..1, from the blend map."""
    return blend.sub(preset.low).div_(preset.high - preset.low).clamp_(0.0, 1.0)


def absolute_difference(first: Tensor, second: Tensor) -> Tensor:
    """Return the absolute difference of two frames in 0..1, averaged over channels: `[B, 1, H, W]` in 0..255."""
    dtype = torch.promote_types(first.dtype, torch.float32)
    total = first.new_zeros(first.shape[0], 1, *first.shape[2:], dtype=dtype)
    for channel in range(first.shape[1]):
        index = slice(channel, channel + 1)
        total += (first[:, index].to(dtype) - second[:, index].to(dtype)).abs_()
    return total.mul_(255.0 / first.shape[1])


def amplify(difference: Tensor, preset: ShaderPreset) -> Tensor:
    """Clip a difference map in 0..255, multiply it by the preset's gain and clip the product to 255."""
    return difference.clamp(max=preset.clip).mul_(preset.gain).clamp_(max=255.0)


def blur(image: Tensor, preset: ShaderPreset) -> Tensor:
    """Convolve a map `[B, 1, H, W]` with the preset's Gaussian, mirrored at the border.

    The separable filter is a sum of shifted copies: a convolution of a single channel takes 20 times as long on a CPU.
    """
    weights = [math.exp(-0.5 * (k / preset.sigma) ** 2) for k in range(-preset.radius, preset.radius + 1)]
    weights = [weight / sum(weights) for weight in weights]
    for dim in (-2, -1):
        length = image.shape[dim]
        padded = _mirror(image, dim, preset.radius)
        image = padded.narrow(dim, 0, length) * weights[0]
        for k, weight in enumerate(weights[1:], start=1):
            image.add_(padded.narrow(dim, k, length), alpha=weight)
    return image


def _mirror(image: Tensor, dim: int, radius: int) -> Tensor:
    """Pad an image on both sides of `dim` with its mirror image, the edge repeated: c b a | a b c | c b a."""
    length = image.shape[dim]
    index = torch.arange(-radius, length + radius, device=image.device) % (2 * length)
    return image.index_select(dim, torch.minimum(index, 2 * length - 1 - index))
