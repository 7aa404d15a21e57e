"""Choice of the three frames of a sample out of a longer window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import Generator

from midframe.errors import SettingError
from midframe.training.data.transforms import random_below


@dataclass(frozen=True)
class FrameChoice:
    """The input frames and the target of a sample, by their indices in the window."""

    first: int
    target: int
    second: int
    time: Fraction
    """The target's time between the input frames, in (0, 1)."""

    @property
    def indices(self) -> tuple[int, int, int]:
        """Return the indices of the first input frame, the target and the second input frame."""
        return self.first, self.target, self.second


def choose_frames(count: int, generator: Generator, times: Sequence[Fraction] = (Fraction(1, 2),)) -> FrameChoice:
    """Choose three frames of a window of `count` frames at random: first the time, then the distance, then the place.

    times: candidates for the target's time, in (0, 1); a time is skipped if the window is too short for it. Each
    distance between the input frames is equally probable: in a window of seven frames with the time ½, (0, 3, 6) is
    chosen as often as the five triplets of neighbours together. Raises `SettingError` if no time is left.
    """
    distances = {time: [k for k in range(2, count) if k * time % 1 == 0] for time in times if 0 < time < 1}
    possible_times = [time for time, found in distances.items() if found]
    if not possible_times:
        requested = ", ".join(map(str, times)) or "none"
        raise SettingError(f"windows of {count} frames hold no target at the times asked for ({requested})")
    time = possible_times[random_below(len(possible_times), generator)]
    distance = distances[time][random_below(len(distances[time]), generator)]
    first = random_below(count - distance, generator)
    return FrameChoice(first, first + int(distance * time), first + distance, time)
