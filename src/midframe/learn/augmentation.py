"""The report's augmentation: pure functions of a window of frames and a generator, on any device.

A window is `[B, N, 3, H, W]`: N consecutive frames (3, 5, 7), the first and the last being what the network sees. Every
function draws one decision for each sample from its own generator, so that what is drawn for a sample does not depend
on its batch: see `generator_for`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = (1280, 720)
SMALLEST = (327, 184)
"""Width and height between which frames are resized (the report's)."""

CROP = 160
OFFSET = 12
"""Side of the crop, and how far the outer frames are moved at most on each axis (the author's code: 24)."""


def generator_for(seed: int, epoch: int, sample: int) -> torch.Generator:
    """The generator of sample `sample` in epoch `epoch`, the same whatever workers and ranks there are."""
    generator = torch.Generator()
    generator.manual_seed((seed * 1_000_003 + epoch) * 4_294_967_291 + sample & 0x7FFF_FFFF_FFFF_FFFF)
    return generator


def augment(window: Tensor, generator: torch.Generator, *, crop: int = CROP, offset: int = OFFSET) -> Tensor:
    """All steps in the report's order on one window `[N, 3, H, W]`; returns `[N, 3, crop, crop]`."""
    window = resize(window, generator, crop=crop, offset=offset)
    window = crop_with_offset(window, generator, crop=crop, offset=offset)
    window = flip(window, generator)
    return swap(window, generator)


def augment_batch(
    windows: Tensor, generators: Sequence[torch.Generator], *, crop: int = CROP, offset: int = OFFSET
) -> Tensor:
    """`augment` of each window `[B, N, 3, H, W]` with its own generator; returns `[B, N, 3, crop, crop]`."""
    pairs = zip(windows, generators, strict=True)
    return torch.stack([augment(window, generator, crop=crop, offset=offset) for window, generator in pairs])


def resize(
    window: Tensor,
    generator: torch.Generator,
    *,
    crop: int = CROP,
    offset: int = OFFSET,
    smallest: tuple[int, int] = SMALLEST,
) -> Tensor:
    """Scale a window `[N, 3, H, W]` down by a random factor, keeping its shape; bilinear, with the pixels averaged.

    The height becomes anything from `smallest`'s (or what crop and offset need) to the one it has.
    """
    height, width = window.shape[-2:]
    needed = crop + 2 * offset
    least = max(smallest[1], needed, -(-needed * height // width))
    target = height if least >= height else least + _below(height - least + 1, generator)
    if target == height:
        return window
    size = (target, max(needed, round(width * target / height)))
    return F.interpolate(window.float(), size=size, mode="bilinear", antialias=True, align_corners=False).to(
        window.dtype
    )


def crop_with_offset(window: Tensor, generator: torch.Generator, *, crop: int = CROP, offset: int = OFFSET) -> Tensor:
    """Cut `crop` x `crop` out of each frame, frame k of N moved by an offset that grows evenly from -d to d.

    d is drawn from 0..offset on each axis, with one sign for both. Frame k lies at d * (2k / (N-1) - 1), rounded: so
    the outer frames move by opposite offsets, the middle one not at all, and motion between neighbours grows evenly.
    """
    frames = window.shape[0]
    height, width = window.shape[-2:]
    dx, dy = _below(offset + 1, generator), _below(offset + 1, generator)
    sign = 1 - 2 * _below(2, generator)
    left = dx + _below(width - crop - 2 * dx + 1, generator)
    top = dy + _below(height - crop - 2 * dy + 1, generator)
    cut = []
    for k in range(frames):
        share = 2 * k / (frames - 1) - 1
        x, y = left + round(sign * dx * share), top + round(sign * dy * share)
        cut.append(window[k, :, y : y + crop, x : x + crop])
    return torch.stack(cut)


def flip(window: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror a window left to right or upside down, one or the other."""
    return window.flip(-1 if _below(2, generator) else -2)


def swap(window: Tensor, generator: torch.Generator) -> Tensor:
    """Turn time around, with probability one half."""
    return window.flip(0) if _below(2, generator) else window


def _below(limit: int, generator: torch.Generator) -> int:
    """A whole number from 0 to limit - 1."""
    return int(torch.randint(max(limit, 1), (), generator=generator))
