"""Write the intermediate maps of the pixel shader as pictures, to see what it decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from midframe.errors import OutputError
from midframe.shader import DEFAULT_PRESET, ShaderPreset, absolute_difference, amplify, blur, prediction_weight


@dataclass(frozen=True)
class ShaderMaps:
    """The steps of the shader between two source frames and its decision, each a map `[B, 1, H, W]`."""

    difference: Tensor
    """Absolute difference of the source frames, averaged over the channels, 0..255."""
    amplified: Tensor
    """The difference, clipped and amplified, 0..255; the preset `paper` does not change it."""
    blend: Tensor
    """The blend map: `amplified`, blurred, 0..255."""
    prediction_weight: Tensor
    """Weight of the prediction in the output, 0..1."""


def shader_maps(first: Tensor, second: Tensor, preset: ShaderPreset = DEFAULT_PRESET) -> ShaderMaps:
    """Return all maps of two source frames `[B, 3, H, W]` in 0..1; the blend map is that of `blend_map`."""
    difference = absolute_difference(first, second)
    amplified = amplify(difference, preset)
    blend = blur(amplified, preset)
    return ShaderMaps(difference, amplified, blend, prediction_weight(blend, preset))


def write_maps(maps: ShaderMaps, folder: Path, name: str, preset: ShaderPreset = DEFAULT_PRESET) -> list[Path]:
    """Write the maps of one pair (B = 1) as 8-bit PNG files and return their paths.

    `NAME-difference.png` and `NAME-processed.png` (the amplified difference) have the values of the maps.
    `NAME-blend.png` is scaled so that `preset.high` is white. `NAME-share.png` is white where the output is the
    prediction. The folder is created if it does not exist. Raises `OutputError` if the files cannot be written.
    """
    from PIL import Image

    pictures = {
        "difference": maps.difference,
        "processed": maps.amplified,
        "blend": maps.blend * (255.0 / preset.high),
        "share": maps.prediction_weight * 255.0,
    }
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, picture in pictures.items():
            path = folder / f"{name}-{suffix}.png"
            pixels = picture[0, 0].clamp(0.0, 255.0).round().to(torch.uint8).cpu()
            Image.fromarray(pixels.numpy()).save(path)
            paths.append(path)
    except OSError as error:
        raise OutputError(f"the shader maps cannot be written to {folder}: {error.strerror or error}") from error
    return paths
