"""Augmentation of windows of frames: random resize, crop with offset, flips and colour.

    augmented = augment(window, generator_for(seed, epoch, sample), PAPER)

A window `[N, 3, H, W]` holds consecutive frames (three, five or seven) of a film: the first and the last are the
network's input, the middle one is the target. It is a tensor on any device or an array such as a memory map, with any
strides, uint8 or floats in 0..255.

`plan_augmentation` draws all random numbers, on the CPU, from the sample's own generator, so a sample does not depend
on its batch, worker or rank. `apply_plan` then computes the pixels on the window's device. Source: the report's section
4 and its author's code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Generator, Tensor

from midframe.errors import SettingError
from midframe.training.data.resampling import Window
from midframe.training.data.transforms import (
    ColourPlan,
    CropPlan,
    FlipMode,
    FlipPlan,
    Interpolation,
    ResizePlan,
    plan_colour,
    plan_crops,
    plan_flips,
    plan_resize,
    resize_and_crop,
)


@dataclass(frozen=True)
class Augmentation:
    """The settings of the augmentation; the defaults are the report's. Raises `SettingError` for values out of range.

    A sample whose crops do not reach `least_difference` or do not exceed `least_deviation` is drawn again, `attempts`
    times at most in all; the last attempt is used in any case.
    """

    crop: int = 160
    """Side of the crops in pixels."""
    offset: int = 12
    """Largest offset of an outer frame's crop from the middle frame's, in pixels on each axis."""
    resize_heights: tuple[float, float] = (184, 720)
    """Smallest and largest height after the resize, in pixels, or as a fraction of the frames' height if ≤ 1. Frames
    are never enlarged, and never made smaller than crop + 2 · offset: the report's 184 lines are 160 + 2 · 12."""
    interpolation: Interpolation = "bilinear"
    flips: FlipMode = "one_axis"
    brightness: float = 0.0
    """Largest value added to or subtracted from all pixels, as a fraction of 255."""
    contrast: float = 0.0
    """The distance from mid-grey is multiplied by a factor from 1 − contrast to 1 + contrast."""
    gamma: float = 0.0
    """The exponent lies between 2^−gamma and 2^gamma."""
    permute_channels: bool = False
    """Whether the channels are permuted at random."""
    least_difference: float = 0.0
    """Smallest mean squared difference of neighbouring frames, 0..255."""
    least_deviation: float = 0.0
    """Smallest standard deviation of the middle frame, averaged over the channels."""
    attempts: int = 10

    def __post_init__(self) -> None:
        low, high = self.resize_heights
        is_rising = low <= high or (low > 1) != (high > 1)
        for is_valid, requirement in (
            (self.crop > 0, f"a crop of at least 1 pixel; got {self.crop}"),
            (self.offset >= 0, f"an offset of 0 or more; got {self.offset}"),
            (min(low, high) > 0 and is_rising, f"a resize range that rises from above 0; got {low} to {high}"),
            (self.attempts > 0, f"at least 1 attempt; got {self.attempts}"),
            (0 <= self.brightness < 1, f"a brightness from 0 to below 1; got {self.brightness}"),
            (0 <= self.contrast < 1, f"a contrast from 0 to below 1; got {self.contrast}"),
            (self.gamma >= 0, f"a gamma of 0 or more; got {self.gamma}"),
        ):
            if not is_valid:
                raise SettingError(f"augmentation needs {requirement}")


PAPER = Augmentation()
"""The report's: frames of 1280×720 resized to 327×184 at least, crops of 160, offset 12."""

REPOSITORY = Augmentation(
    offset=24,
    resize_heights=(208, 720),
    interpolation="bilinear_or_area",
    flips="one_of_three",
    least_difference=220.0,
    least_deviation=16.0,
)
"""The author's code: a larger offset, one flip a sample, and samples with little motion or structure drawn again."""

GUIDED = Augmentation(
    crop=128,
    resize_heights=(0.5, 1.0),
    interpolation="antialiased",
    flips="any",
    brightness=0.08,
    contrast=0.15,
    gamma=0.15,
    permute_channels=True,
)
"""Midframe's own, for the network `guided` and small data sets: all flips, changes of colour, antialiased resize."""

PRESETS = {"paper": PAPER, "repository": REPOSITORY, "guided": GUIDED}
"""The presets by the names that a run's settings use (`data.augmentation`)."""


@dataclass(frozen=True)
class AugmentationPlan:
    """All random numbers of one sample's augmentation."""

    resize: ResizePlan
    crops: CropPlan
    flips: FlipPlan
    colour: ColourPlan

    @property
    def content_shifts(self) -> tuple[tuple[int, int], ...]:
        """Return how far (x, y) the crops' offsets shift the content of each augmented frame, in pixels.

        Content that moves by v between frames i and j of the resized and flipped window moves by v + shift j − shift i
        in the augmented one. The middle frame's shift is 0.
        """
        return tuple(self.flips.content_shifts(self.crops.offsets))

    @property
    def is_time_reversed(self) -> bool:
        """Return whether time is reversed: a target at time t is then at 1 − t."""
        return self.flips.reverse_time


@dataclass(frozen=True)
class AugmentedWindow:
    """A window after augmentation."""

    frames: Tensor
    """`[N, 3, crop, crop]` in 0..255, float32, or the type of a floating-point window."""
    plan: AugmentationPlan
    """The random numbers that were applied."""


def augment(
    window: Window,
    generator: Generator,
    augmentation: Augmentation = PAPER,
    *,
    positions: Sequence[int] | None = None,
) -> AugmentedWindow:
    """Augment one window of frames `[N, 3, H, W]` at random.

    positions: the number of each frame in the film, counted from any frame; by default 0, 1, 2, ... Raises
    `SettingError` if the frames are smaller than the crop.
    """
    for _ in range(augmentation.attempts):
        plan = plan_augmentation(window.shape, generator, augmentation, positions=positions)
        frames = apply_plan(window, plan)
        if has_enough_change(frames, augmentation):
            break
    return AugmentedWindow(frames, plan)


def plan_augmentation(
    shape: Sequence[int],
    generator: Generator,
    augmentation: Augmentation = PAPER,
    *,
    positions: Sequence[int] | None = None,
) -> AugmentationPlan:
    """Draw the plan of a window's augmentation. shape: `[N, 3, H, W]`; the rest as in `augment`."""
    positions = tuple(range(shape[0])) if positions is None else tuple(positions)
    resize = plan_resize(
        (shape[2], shape[3]),
        generator,
        min_side=augmentation.crop + 2 * augmentation.offset,
        heights=augmentation.resize_heights,
        interpolation=augmentation.interpolation,
    )
    if len(positions) != shape[0]:
        raise SettingError(f"a window of {shape[0]} frames needs as many positions; got {len(positions)}")
    size = (resize.height, resize.width)
    crops = plan_crops(size, positions, generator, side=augmentation.crop, max_offset=augmentation.offset)
    flips = plan_flips(generator, augmentation.flips)
    colour = plan_colour(
        generator,
        brightness=augmentation.brightness,
        contrast=augmentation.contrast,
        gamma=augmentation.gamma,
        permute_channels=augmentation.permute_channels,
    )
    return AugmentationPlan(resize, crops, flips, colour)


def apply_plan(window: Window, plan: AugmentationPlan) -> Tensor:
    """Apply a plan to a window `[N, 3, H, W]` and return `[N, 3, crop, crop]` in 0..255."""
    return plan.colour.apply(plan.flips.apply(resize_and_crop(window, plan.resize, plan.crops)))


def has_enough_change(frames: Tensor, augmentation: Augmentation = REPOSITORY) -> bool:
    """Return whether augmented frames pass `least_difference` and `least_deviation`."""
    if not (augmentation.least_difference or augmentation.least_deviation):
        return True
    differences = frames.diff(dim=0).square().flatten(1).mean(1)
    deviation = frames[len(frames) // 2].flatten(1).std(1, correction=0).mean()
    has_motion = bool((differences >= augmentation.least_difference).all())
    return has_motion and (not augmentation.least_deviation or bool(deviation > augmentation.least_deviation))


def generator_for(seed: int, epoch: int, sample: int) -> Generator:
    """Return the random generator of a sample, which depends on nothing but these three numbers."""
    # Hashed, because torch's CPU generator uses only the lower 32 bits of a seed.
    digest = hashlib.blake2b(f"{seed}/{epoch}/{sample}".encode(), digest_size=4).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little"))
