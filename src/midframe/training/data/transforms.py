"""The steps of the augmentation: what each draws, and what it does with what was drawn.

`draw_*` take the numbers of a step and a generator and give a plain tuple; `resample`, `Turn.apply`, `Tint.apply` do
it to a window `[N, 3, H, W]`. So all numbers can be drawn before a pixel is touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from midframe.errors import SettingError
from midframe.training.data.resampling import Filter, Window, floating, plain_crops, resampled_crops

Interpolation = Literal["bilinear", "coin", "antialiased"]
Flips = Literal["paper", "repository", "free"]


class Size(NamedTuple):
    """The size a window is resized to, and by which filter its middle frame and the others."""

    height: int
    width: int
    middle: Filter
    outer: Filter


class Place(NamedTuple):
    """Where the middle frame's crop lies, and how far (y, x) each frame's lies from there."""

    top: int
    left: int
    crop: int
    moves: tuple[tuple[int, int], ...]

    def corners(self) -> list[tuple[int, int]]:
        """Top and left of each frame's crop."""
        return [(self.top + y, self.left + x) for y, x in self.moves]


class Turn(NamedTuple):
    """What is mirrored, in this order, and whether time is reversed."""

    left_right: bool = False
    upside_down: bool = False
    transposed: bool = False
    reversed: bool = False

    def apply(self, window: Tensor) -> Tensor:
        axes = [k for k, wanted in ((-1, self.left_right), (-2, self.upside_down), (0, self.reversed)) if wanted]
        window = window.flip(axes) if axes else window
        return window.transpose(-1, -2) if self.transposed else window

    def shifts(self, moves: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """How far (x, y) the content of each frame is moved, where the crops were moved by these (y, x)."""
        across, down = 1 if self.left_right else -1, 1 if self.upside_down else -1
        found = [(across * x, down * y) for y, x in moves]
        found = [(y, x) for x, y in found] if self.transposed else found
        return found[::-1] if self.reversed else found


class Tint(NamedTuple):
    """What is added (1.0: all of 255), the factor about the middle gray, the exponent, which channel comes where."""

    brightness: float = 0.0
    contrast: float = 1.0
    gamma: float = 1.0
    channels: tuple[int, ...] = (0, 1, 2)

    def apply(self, window: Tensor) -> Tensor:
        if self == Tint():
            return window
        # Contrast and brightness are one straight line.
        changed = (floating(window) / 255).pow_(self.gamma).mul_(255 * self.contrast)
        changed = changed.add_(255 * self.brightness + 127.5 * (1 - self.contrast)).clamp_(0, 255)
        return changed[:, list(self.channels)]


def draw_size(
    height: int,
    width: int,
    generator: Generator,
    *,
    needed: int,
    heights: tuple[float, float],
    interpolation: Interpolation,
) -> Size:
    """Draw a size between two heights (lines, or up to 1.0 shares), neither side less than `needed`, none enlarged."""
    least, largest = (limit * height if limit <= 1 else limit for limit in heights)
    low = max(math.ceil(least), needed, math.ceil(needed * height / width))
    high = min(height, math.floor(largest))
    target = low + below(high - low + 1, generator) if low <= high else min(low, height)
    middle: Filter = "antialiased" if interpolation == "antialiased" else "bilinear"
    outer: Filter = "area" if interpolation == "coin" and below(2, generator) else middle
    return Size(target, max(round(width * target / height), min(needed, width)), middle, outer)


def draw_place(
    frames: int,
    height: int,
    width: int,
    generator: Generator,
    *,
    crop: int,
    offset: int,
    positions: Sequence[int] | None,
) -> Place:
    """Draw a crop for each frame, at most `offset` from the middle frame's on each axis, in step with `positions`."""
    room = min(height, width) - crop
    if room < 0:
        raise SettingError(f"crops of {crop}x{crop} cannot be cut out of frames of {width}x{height}")
    at = tuple(range(frames)) if positions is None else tuple(positions)
    if len(at) != frames:
        raise SettingError(f"a window of {frames} frames needs as many positions; got {len(at)}")
    apart = [k - at[frames // 2] for k in at]
    unit = math.gcd(*apart) or 1
    steps = [k // unit for k in apart]
    before, after = max(0, -min(steps)), max(0, *steps)
    reach = min(offset // max(before, after, 1), room // max(before + after, 1))
    y, x = below(reach + 1, generator), below(reach + 1, generator)
    top = before * y + below(height - crop - (before + after) * y + 1, generator)
    left = before * x + below(width - crop - (before + after) * x + 1, generator)
    return Place(top, left, crop, tuple((step * y, step * x) for step in steps))


def draw_turn(generator: Generator, flips: Flips) -> Turn:
    """Draw mirrors and, in the author's way, whether time is reversed instead (see `Augmentation.flips`)."""
    if flips == "repository":
        which = below(3, generator)
        return Turn(left_right=which == 0, upside_down=which == 1, reversed=which == 2)
    if flips == "free":
        return Turn(*(bool(below(2, generator)) for _ in range(3)))
    left_right = bool(below(2, generator))
    return Turn(left_right, not left_right)


def draw_tint(generator: Generator, *, brightness: float, contrast: float, gamma: float, permute: bool) -> Tint:
    """Draw a change of colour within these limits (see `Augmentation`)."""
    if not (brightness or contrast or gamma or permute):
        return Tint()
    a, b, c = (torch.rand(3, generator=generator, dtype=torch.float64) * 2 - 1).tolist()
    channels = torch.randperm(3, generator=generator).tolist() if permute else (0, 1, 2)
    return Tint(a * brightness, 1 + b * contrast, 2 ** (c * gamma), tuple(channels))


def resample(window: Window, size: Size, corners: Sequence[tuple[int, int]], crop: tuple[int, int]) -> Tensor:
    """A crop (height, width) out of each frame resized to `size`, worked out where the crops lie only; floats."""
    target = (size.height, size.width)
    if target == tuple(window.shape[-2:]):
        return floating(plain_crops(window, corners, crop))
    if size.middle == size.outer:
        return resampled_crops(window, target, corners, crop, size.middle)
    kinds = [size.middle if k == len(window) // 2 else size.outer for k in range(len(window))]
    each = zip(range(len(window)), corners, kinds, strict=True)
    return torch.cat([resampled_crops(window[k : k + 1], target, [at], crop, kind) for k, at, kind in each])


def below(limit: int, generator: Generator) -> int:
    """A whole number from 0 to limit − 1."""
    return int(torch.randint(limit, (), generator=generator))
