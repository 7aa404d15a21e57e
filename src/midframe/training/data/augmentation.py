"""Augmentation: pure functions of a window of frames and a generator, on any device.

A window is `[N, 3, H, W]`, RGB: consecutive frames (three, five, seven), the first and the last being what the network
sees and the middle one the target; a tensor, or an array such as a memory map, any strides, uint8 or floats in 0..255.

`augment` takes all steps of an `Augmentation`: `resize`, `crop_with_offset`, `flip`, `swap`, `colour`. What they need
is drawn first, on the processor, from the sample's own generator (`generator_for`), so a sample becomes the same in any
batch, worker or rank; then only those pixels are resized that the crops need. The steps themselves, one after the other
with one generator, give the same. Source: the report's section 4 and its author's code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple, overload

import torch
from torch import Generator, Tensor

from midframe.errors import SettingError
from midframe.training.data import transforms as steps
from midframe.training.data.resampling import Window, plain_crops
from midframe.training.data.transforms import Flips, Interpolation, Place, Size, Tint, Turn, below


@dataclass(frozen=True)
class Augmentation:
    """Every number of the augmentation; the defaults are the report's."""

    crop: int = 160
    """Side of the crops in pixels."""
    offset: int = 12
    """How far a frame is moved against the middle one at most, on each axis; less where the frames are too small."""
    resize: tuple[float, float] = (184, 720)
    """Least and largest height that frames are resized to: lines, or up to 1.0 shares of the height they have. Frames
    are never made larger, nor smaller than crop and offset need: the report's 184 lines are 160 + 2 · 12."""
    interpolation: Interpolation = "bilinear"
    """How (see `resampling.Filter`); coin: bilinear, or area for all frames but the middle one."""
    flips: Flips = "paper"
    """paper: left to right or upside down, and time reversed with probability ½; repository: exactly one of these
    three; free: each of them, and rows turned to columns, with probability ½."""
    brightness: float = 0.0
    """At most so much is added or taken away, as a share of 255; from frame to frame the same, as all of the colour."""
    contrast: float = 0.0
    """The distance from the middle gray is multiplied by 1 − contrast to 1 + contrast."""
    gamma: float = 0.0
    """The exponent is 2^−gamma to 2^gamma."""
    permute: bool = False
    """Whether the channels change places."""
    least_difference: float = 0.0
    """Crops whose neighbouring frames have a mean squared difference below this (0..255) are drawn again."""
    least_deviation: float = 0.0
    """So are those whose middle frame has a mean standard deviation of the channels not above this."""
    attempts: int = 10
    """How often a sample is drawn at most; the last one is kept, whatever it is."""

    def __post_init__(self) -> None:
        low, high = self.resize
        rising = low <= high or (low > 1) != (high > 1)
        for holds, needed in (
            (self.crop > 0, f"a crop of at least 1 pixel; got {self.crop}"),
            (self.offset >= 0, f"an offset of 0 or more; got {self.offset}"),
            (min(low, high) > 0 and rising, f"a resize range that rises from above 0; got {low} to {high}"),
            (self.attempts > 0, f"at least 1 attempt; got {self.attempts}"),
            (0 <= self.brightness < 1, f"a brightness from 0 to below 1; got {self.brightness}"),
            (0 <= self.contrast < 1, f"a contrast from 0 to below 1; got {self.contrast}"),
            (self.gamma >= 0, f"a gamma of 0 or more; got {self.gamma}"),
        ):
            if not holds:
                raise SettingError(f"augmentation needs {needed}")


PAPER = Augmentation()
"""The report's: 1280x720 to 327x184, crops of 160, offset 12."""

REPOSITORY = Augmentation(
    offset=24,
    resize=(208, 720),
    interpolation="coin",
    flips="repository",
    least_difference=220.0,
    least_deviation=16.0,
)
"""The author's code."""

GUIDED = Augmentation(
    crop=128,
    resize=(0.5, 1.0),
    interpolation="antialiased",
    flips="free",
    brightness=0.08,
    contrast=0.15,
    gamma=0.15,
    permute=True,
)
"""Ours, for the motion-guided network and its small data set."""

PRESETS = {"paper": PAPER, "repository": REPOSITORY, "guided": GUIDED}
"""The presets by the names that a run's settings use (`data.augmentation`)."""


def generator_for(seed: int, epoch: int, sample: int) -> Generator:
    """The generator of sample `sample` in epoch `epoch`, the same whatever workers and ranks there are."""
    # Hashed, as torch's generator on the processor takes no more than the lower 32 bits of a seed.
    digest = hashlib.blake2b(f"{seed}/{epoch}/{sample}".encode(), digest_size=4).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little"))


@dataclass(frozen=True)
class Plan:
    """What was drawn for one window: `apply` does it."""

    size: Size
    place: Place
    turn: Turn
    tint: Tint

    @property
    def shifts(self) -> tuple[tuple[int, int], ...]:
        """How far (x, y) the content of each frame of the result was moved, in its pixels; the middle one not at all.

        What moves by v from frame i to frame j of the resized and turned source moves by v + shifts[j] − shifts[i] in
        the result.
        """
        return tuple(self.turn.shifts(self.place.moves))

    @property
    def reversed(self) -> bool:
        """Whether time was reversed: a target at time t is then one at 1 − t."""
        return self.turn.reversed


@overload
def augment(
    window: Window,
    generator: Generator,
    how: Augmentation = ...,
    *,
    positions: Sequence[int] | None = ...,
    return_plan: Literal[False] = ...,
) -> Tensor: ...
@overload
def augment(
    window: Window,
    generator: Generator,
    how: Augmentation = ...,
    *,
    positions: Sequence[int] | None = ...,
    return_plan: Literal[True],
) -> tuple[Tensor, Plan]: ...
def augment(
    window: Window,
    generator: Generator,
    how: Augmentation = PAPER,
    *,
    positions: Sequence[int] | None = None,
    return_plan: bool = False,
) -> Tensor | tuple[Tensor, Plan]:
    """All steps on one window `[N, 3, H, W]`: `[N, 3, crop, crop]` in 0..255, float32 (a float window keeps its type).

    positions: when each frame was taken, in source frames (0, 1, 2, …; see `choose_frames`). return_plan: also what was
    done, which tells how far the frames were moved. Raises `SettingError` for frames smaller than the crop.
    """
    for _ in range(how.attempts):
        drawn = plan(window.shape, generator, how, positions=positions)
        result = apply(window, drawn)
        if not (how.least_difference or how.least_deviation) or worth(result, how):
            break
    return (result, drawn) if return_plan else result


@overload
def augment_batch(
    windows: Window | Sequence[Window],
    generators: Sequence[Generator],
    how: Augmentation = ...,
    *,
    positions: Sequence[Sequence[int] | None] | None = ...,
    return_plan: Literal[False] = ...,
) -> Tensor: ...
@overload
def augment_batch(
    windows: Window | Sequence[Window],
    generators: Sequence[Generator],
    how: Augmentation = ...,
    *,
    positions: Sequence[Sequence[int] | None] | None = ...,
    return_plan: Literal[True],
) -> tuple[Tensor, list[Plan]]: ...
def augment_batch(
    windows: Window | Sequence[Window],
    generators: Sequence[Generator],
    how: Augmentation = PAPER,
    *,
    positions: Sequence[Sequence[int] | None] | None = None,
    return_plan: bool = False,
) -> Tensor | tuple[Tensor, list[Plan]]:
    """`augment` of each window with its own generator: `[B, N, 3, crop, crop]`.

    windows: `[B, N, 3, H, W]`, or one window a sample, of sizes that may differ; on any one device.
    """
    each = zip(windows, generators, positions or [None] * len(generators), strict=True)
    pairs = [augment(window, generator, how, positions=at, return_plan=True) for window, generator, at in each]
    batch = torch.stack([result for result, _ in pairs])
    return (batch, [drawn for _, drawn in pairs]) if return_plan else batch


def plan(
    shape: Sequence[int], generator: Generator, how: Augmentation = PAPER, *, positions: Sequence[int] | None = None
) -> Plan:
    """Draw what is done to a window of this shape, in the order of the steps."""
    size = _draw_size(shape[2], shape[3], generator, how)
    crop = steps.draw_place(
        shape[0], size.height, size.width, generator, crop=how.crop, offset=how.offset, positions=positions
    )
    turn = steps.draw_turn(generator, how.flips)
    if how.flips != "repository":
        turn = turn._replace(reversed=bool(below(2, generator)))
    return Plan(size, crop, turn, _draw_tint(generator, how))


def apply(window: Window, drawn: Plan) -> Tensor:
    """Do to a window what was drawn, resizing no more of it than the crops need."""
    side = drawn.place.crop
    return drawn.tint.apply(drawn.turn.apply(steps.resample(window, drawn.size, drawn.place.corners(), (side, side))))


def resize(window: Window, generator: Generator, how: Augmentation = PAPER) -> Tensor:
    """Make a window smaller by a random factor, keeping its shape: floats `[N, 3, h, w]`."""
    size = _draw_size(window.shape[2], window.shape[3], generator, how)
    return steps.resample(window, size, [(0, 0)] * len(window), (size.height, size.width))


def crop_with_offset(
    window: Window,
    generator: Generator,
    *,
    crop: int = PAPER.crop,
    offset: int = PAPER.offset,
    positions: Sequence[int] | None = None,
) -> Tensor:
    """Cut a square out of each frame `[N, 3, crop, crop]`, moved from frame to frame; the middle frame's stays.

    The outer squares of three lie at −d and +d from the middle one's place, d being 0..offset on each axis. In windows
    of more frames, and for targets at other times than ½ (`positions`), each moves in proportion to its time from the
    middle frame's, by whole pixels: so what moves evenly still does.
    """
    frames, _, height, width = window.shape
    place = steps.draw_place(frames, height, width, generator, crop=crop, offset=offset, positions=positions)
    return plain_crops(window, place.corners(), (crop, crop))


def flip(window: Tensor, generator: Generator, flips: Flips = PAPER.flips) -> Tensor:
    """Mirror a window: left to right or upside down; with `repository` or reverse time; with `free` any or none."""
    return steps.draw_turn(generator, flips).apply(window)


def swap(window: Tensor, generator: Generator) -> Tensor:
    """Reverse time, with probability one half."""
    return window.flip(0) if below(2, generator) else window


def colour(window: Tensor, generator: Generator, how: Augmentation = GUIDED) -> Tensor:
    """Change gamma, contrast, brightness and the order of channels of all frames alike, clipped to 0..255."""
    return _draw_tint(generator, how).apply(window)


def worth(window: Tensor, how: Augmentation = REPOSITORY) -> bool:
    """Whether the frames of a window move enough and its middle one is not too flat (`least_difference`, …)."""
    differences = window.diff(dim=0).square().flatten(1).mean(1)
    deviation = window[len(window) // 2].flatten(1).std(1, correction=0).mean()
    moves = bool((differences >= how.least_difference).all())
    return moves and (not how.least_deviation or bool(deviation > how.least_deviation))


class Choice(NamedTuple):
    """Three frames of a window by their places in it (the `positions` of `augment`), and the target's time."""

    first: int
    target: int
    second: int
    time: Fraction


def choose_frames(count: int, generator: Generator, times: Sequence[Fraction] = (Fraction(1, 2),)) -> Choice:
    """Choose three frames of a window of `count`: a time first, then how far the outer ones are apart, then where.

    times: in (0, 1); those that a window so short does not hold are passed over. Of seven frames at ½, (0, 3, 6) is
    chosen as often as the five triplets of neighbours together. Raises `SettingError` where no time can be had.
    """
    spans = {time: [k for k in range(2, count) if k * time % 1 == 0] for time in times if 0 < time < 1}
    held = [time for time, found in spans.items() if found]
    if not held:
        asked = ", ".join(map(str, times)) or "none"
        raise SettingError(f"windows of {count} frames hold no target at the times asked for ({asked})")
    time = held[below(len(held), generator)]
    span = spans[time][below(len(spans[time]), generator)]
    first = below(count - span, generator)
    return Choice(first, first + int(span * time), first + span, time)


def _draw_size(height: int, width: int, generator: Generator, how: Augmentation) -> Size:
    needed = how.crop + 2 * how.offset
    return steps.draw_size(height, width, generator, needed=needed, heights=how.resize, interpolation=how.interpolation)


def _draw_tint(generator: Generator, how: Augmentation) -> Tint:
    return steps.draw_tint(
        generator, brightness=how.brightness, contrast=how.contrast, gamma=how.gamma, permute=how.permute
    )
