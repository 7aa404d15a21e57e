"""The transforms of the augmentation: resize, crop with offset, flip and colour.

Each transform has a plan, a frozen dataclass of random numbers. `plan_*` draws the plan from a generator;
`resize_and_crop`, `FlipPlan.apply` and `ColourPlan.apply` apply it to a window of frames `[N, 3, H, W]`. All plans of a
sample can thus be drawn before a pixel is touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from midframe.errors import SettingError
from midframe.training.data.resampling import ResizeFilter, Window, crop_frames, resized_crops, to_floating

Interpolation = Literal["bilinear", "bilinear_or_area", "antialiased"]
"""The filter of the resize. bilinear_or_area: bilinear for the middle frame; the outer frames are all bilinear or all
area, at random."""

FlipMode = Literal["one_axis", "one_of_three", "any"]
"""one_axis: mirror left-right or upside-down, and reverse time with probability ½.
one_of_three: mirror left-right, mirror upside-down, or reverse time.
any: each of mirror left-right, mirror upside-down, transpose and reverse time, with probability ½."""


@dataclass(frozen=True)
class ResizePlan:
    """The size that the frames of a window are resized to, and the filters."""

    height: int
    width: int
    middle_filter: ResizeFilter
    """Of the middle frame."""
    outer_filter: ResizeFilter
    """Of all other frames."""


@dataclass(frozen=True)
class CropPlan:
    """A square crop of each frame of a window, in the resized frames."""

    top: int
    """Top row of the middle frame's crop."""
    left: int
    """Left column of the middle frame's crop."""
    side: int
    """Side of the crops in pixels."""
    offsets: tuple[tuple[int, int], ...]
    """Offset (y, x) of each frame's crop from the middle frame's."""

    def corners(self) -> list[tuple[int, int]]:
        """Return the top-left corner (y, x) of each frame's crop."""
        return [(self.top + y, self.left + x) for y, x in self.offsets]


@dataclass(frozen=True)
class FlipPlan:
    """The flips of a window, applied in the order of the fields."""

    left_right: bool = False
    upside_down: bool = False
    transpose: bool = False
    """Whether rows become columns."""
    reverse_time: bool = False

    def apply(self, window: Tensor) -> Tensor:
        """Flip a window."""
        axes = [
            axis
            for axis, is_flipped in ((-1, self.left_right), (-2, self.upside_down), (0, self.reverse_time))
            if is_flipped
        ]
        window = window.flip(axes) if axes else window
        return window.transpose(-1, -2) if self.transpose else window

    def content_shifts(self, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return how far (x, y) the content of each frame of the flipped window is shifted by its crop's offset.

        offsets: (y, x) of each frame's crop before the flip (`CropPlan.offsets`). A crop that moves to the right shifts
        its content to the left.
        """
        sign_x, sign_y = 1 if self.left_right else -1, 1 if self.upside_down else -1
        shifts = [(sign_x * x, sign_y * y) for y, x in offsets]
        shifts = [(y, x) for x, y in shifts] if self.transpose else shifts
        return shifts[::-1] if self.reverse_time else shifts


@dataclass(frozen=True)
class ColourPlan:
    """A change of colour, the same for all frames: gamma, contrast, brightness, clipping, channel order."""

    brightness: float = 0.0
    """Added to all values, as a fraction of 255."""
    contrast: float = 1.0
    """Factor of the distance from mid-grey (127.5)."""
    gamma: float = 1.0
    """Exponent of the values in 0..1."""
    channels: tuple[int, ...] = (0, 1, 2)
    """For each output channel, the number of the input channel it is taken from."""

    def apply(self, window: Tensor) -> Tensor:
        """Change the colour of a window in 0..255; the result is clipped to 0..255."""
        if self == ColourPlan():
            return window
        changed = (to_floating(window) / 255).pow_(self.gamma).mul_(255 * self.contrast)
        changed = changed.add_(255 * self.brightness + 127.5 * (1 - self.contrast)).clamp_(0, 255)
        return changed[:, list(self.channels)]


def plan_resize(
    frame_size: tuple[int, int],
    generator: Generator,
    *,
    min_side: int,
    heights: tuple[float, float],
    interpolation: Interpolation,
) -> ResizePlan:
    """Draw the size that frames are resized to.

    frame_size: (height, width) of the frames. min_side: smallest height and width after the resize. heights: smallest
    and largest height, in pixels, or as a fraction of the frames' height if ≤ 1. Frames are never enlarged; frames
    smaller than a limit keep their size.
    """
    height, width = frame_size
    lowest, highest = (limit * height if limit <= 1 else limit for limit in heights)
    low = max(math.ceil(lowest), min_side, math.ceil(min_side * height / width))
    high = min(height, math.floor(highest))
    target = low + random_below(high - low + 1, generator) if low <= high else min(low, height)
    middle: ResizeFilter = "antialiased" if interpolation == "antialiased" else "bilinear"
    is_area = interpolation == "bilinear_or_area" and random_below(2, generator)
    outer: ResizeFilter = "area" if is_area else middle
    return ResizePlan(target, max(round(width * target / height), min(min_side, width)), middle, outer)


def plan_crops(
    frame_size: tuple[int, int],
    positions: Sequence[int],
    generator: Generator,
    *,
    side: int,
    max_offset: int,
) -> CropPlan:
    """Draw a crop for each frame of a window.

    frame_size: (height, width) of the resized frames. positions: the number of each frame in the film, counted
    from any frame. side: of the crops. The offset from the middle frame's crop is proportional to the difference of the
    frame numbers, so uniform motion stays uniform; it is at most `max_offset` pixels on each axis, less if the frames
    are too small. Raises `SettingError` if the frames are smaller than the crop.
    """
    height, width = frame_size
    room = min(height, width) - side
    if room < 0:
        raise SettingError(f"crops of {side}x{side} cannot be cut out of frames of {width}x{height}")
    distances = [position - positions[len(positions) // 2] for position in positions]
    unit = math.gcd(*distances) or 1
    steps = [distance // unit for distance in distances]
    steps_before, steps_after = max(0, -min(steps)), max(0, *steps)
    all_steps = steps_before + steps_after
    largest = min(max_offset // max(steps_before, steps_after, 1), room // max(all_steps, 1))
    y, x = random_below(largest + 1, generator), random_below(largest + 1, generator)
    top = steps_before * y + random_below(height - side - all_steps * y + 1, generator)
    left = steps_before * x + random_below(width - side - all_steps * x + 1, generator)
    return CropPlan(top, left, side, tuple((step * y, step * x) for step in steps))


def plan_flips(generator: Generator, mode: FlipMode) -> FlipPlan:
    """Draw the flips of a window."""
    if mode == "one_of_three":
        choice = random_below(3, generator)
        return FlipPlan(left_right=choice == 0, upside_down=choice == 1, reverse_time=choice == 2)
    if mode == "any":
        left_right, upside_down, transpose = (bool(random_below(2, generator)) for _ in range(3))
    else:
        left_right = bool(random_below(2, generator))
        upside_down, transpose = not left_right, False
    return FlipPlan(left_right, upside_down, transpose, reverse_time=bool(random_below(2, generator)))


def plan_colour(
    generator: Generator, *, brightness: float, contrast: float, gamma: float, permute_channels: bool
) -> ColourPlan:
    """Draw a change of colour within limits (see the fields of `Augmentation`)."""
    if not (brightness or contrast or gamma or permute_channels):
        return ColourPlan()
    a, b, c = (torch.rand(3, generator=generator, dtype=torch.float64) * 2 - 1).tolist()
    channels = torch.randperm(3, generator=generator).tolist() if permute_channels else (0, 1, 2)
    return ColourPlan(a * brightness, 1 + b * contrast, 2 ** (c * gamma), tuple(channels))


def resize_and_crop(window: Window, resize: ResizePlan, crops: CropPlan) -> Tensor:
    """Resize the frames of a window and crop them, computing only the pixels inside the crops.

    Returns floats `[N, 3, side, side]`.
    """
    size, crop_size, corners = (resize.height, resize.width), (crops.side, crops.side), crops.corners()
    if size == tuple(window.shape[-2:]):
        return to_floating(crop_frames(window, corners, crop_size))
    if resize.middle_filter == resize.outer_filter:
        return resized_crops(window, size, corners, crop_size, resize.middle_filter)
    frames = []
    for k, corner in enumerate(corners):
        resize_filter = resize.middle_filter if k == len(window) // 2 else resize.outer_filter
        frames.append(resized_crops(window[k : k + 1], size, [corner], crop_size, resize_filter))
    return torch.cat(frames)


def random_below(limit: int, generator: Generator) -> int:
    """Return a uniform random integer from 0 to limit − 1."""
    return int(torch.randint(limit, (), generator=generator))
