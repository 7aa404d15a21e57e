"""What the shader sees and decides, as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from midframe.errors import OutputError
from midframe.shader import DEFAULT, ShaderPreset, _blur, _difference, _processed, made_share


@dataclass(frozen=True)
class ShaderMaps:
    """The maps between two frames and the shader's answer, each `[B, 1, H, W]`."""

    difference: Tensor
    """Mean absolute difference of the frames over the channels, 0..255."""
    processed: Tensor
    """The same clipped and amplified, 0..255 (preset `paper`: unchanged)."""
    blend: Tensor
    """The blend map: `processed` blurred, 0..255."""
    share: Tensor
    """Share of the made frame in the output, 0..1."""


def shader_maps(first: Tensor, second: Tensor, preset: ShaderPreset = DEFAULT) -> ShaderMaps:
    """Give all maps of two frames `[B, 3, H, W]` in 0..1; `blend` is that of `blend_map`."""
    difference = _difference(first, second)
    processed = _processed(difference, preset)
    blend = _blur(processed, preset)
    return ShaderMaps(difference, processed, blend, made_share(blend, preset))


def write_maps(maps: ShaderMaps, folder: Path, name: str, preset: ShaderPreset = DEFAULT) -> list[Path]:
    """Write the maps of one pair (B = 1) as 8-bit PNGs `NAME-difference.png`, `-processed`, `-blend`, `-share`.

    Difference and processed are written as they are; blend is stretched so that `preset.high` is white; the share is
    white where the made frame is shown. The folder is made if need be. Returns the paths. Raises `OutputError` where
    they cannot be written.
    """
    from PIL import Image

    pictures = {
        "difference": maps.difference,
        "processed": maps.processed,
        "blend": maps.blend * (255.0 / preset.high),
        "share": maps.share * 255.0,
    }
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, picture in pictures.items():
            path = folder / f"{name}-{kind}.png"
            pixels = picture[0, 0].clamp(0.0, 255.0).round().to(torch.uint8).cpu()
            Image.fromarray(pixels.numpy()).save(path)
            paths.append(path)
    except OSError as error:
        raise OutputError(f"the shader maps cannot be written to {folder}: {error.strerror or error}") from error
    return paths
