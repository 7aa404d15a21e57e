"""Which clips of a film are looked at, and which windows of frames are good to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from midframe.training.build.settings import DatasetSettings
from midframe.video.cuts import Thumbnail, thumbnail
from midframe.video.frame import Frame


def plan_clips(start: Fraction, length: Fraction, clips: int, seconds: Fraction) -> list[tuple[Fraction, Fraction]]:
    """The clips of a film, evenly spaced: as many as fit without overlap, at most `clips`, at least one.

    Each lies in the middle of its share of the film. Returns (start, end) in the film's time.
    """
    count = max(1, min(clips, int(length / seconds)))
    seconds = min(seconds, length)
    centres = [start + length * (2 * k + 1) / (2 * count) for k in range(count)]
    return [(centre - seconds / 2, centre + seconds / 2) for centre in centres]


def squared_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """The mean squared difference of two 8-bit pictures, exact (differences of uint8 would wrap)."""
    step = a.astype(np.int16) - b
    return int(np.square(step, dtype=np.int32).sum(dtype=np.int64)) / step.size


def deviation(picture: NDArray[np.uint8]) -> float:
    """The mean over the channels of the standard deviation of a picture `[H, W, 3]` (the author's "variance")."""
    height, width = picture.shape[:2]
    count = height * width
    rows = picture.reshape(height, -1)  # column by column first: many times faster than both axes at once
    total = rows.sum(0, dtype=np.uint32).reshape(width, 3).sum(0, dtype=np.int64)
    squares = np.square(rows, dtype=np.uint16).sum(0, dtype=np.uint32).reshape(width, 3).sum(0, dtype=np.int64)
    variances = [max(0, count * int(q) - int(s) ** 2) / count**2 for q, s in zip(squares, total, strict=True)]
    return float(sum(variance**0.5 for variance in variances)) / len(variances)


@dataclass(frozen=True)
class Step:
    """From one frame to the next: seconds, mean squared difference, and distance as the cut detector sees it."""

    seconds: Fraction
    difference: float
    distance: float


@dataclass(frozen=True)
class Seen:
    """What is known of a frame: its time, deviation, and the step that led to it (None for the first of a clip)."""

    time: Fraction
    deviation: float
    step: Step | None


def thumbnail_of(frame: Frame) -> Thumbnail:
    """A frame as the cut detector sees it."""
    return thumbnail(frame.planes[1 if frame.layout.family == "rgb" else 0], frame.layout.depth)


REASONS = ("repeated", "still", "cut", "flat", "uneven step", "uneven times", "flash")
"""Why a window is rejected: a frame equal to the one before; too little difference; too much, or another shot; too
little deviation; a step much smaller than the others; times between frames that differ; outer frames that are alike
though those between are not."""


def judge(window: Sequence[Seen], outer: float, settings: DatasetSettings, tick: Fraction) -> tuple[str, int] | None:
    """Why a window is no good (one of `REASONS`) and the number of its last frame at fault; None where it is good.

    No window that begins before that frame can be better. outer: the squared difference of its outer frames; tick: the
    film's time base, by one of which times may always be off (Matroska rounds to milliseconds).
    """
    steps = [seen.step for seen in window[1:] if seen.step is not None]
    assert len(steps) == len(window) - 1
    largest = max(step.difference for step in steps)
    mean = sum((step.seconds for step in steps), Fraction(0)) / len(steps)
    slack = max(tick, Fraction(settings.most_jitter) * mean)
    for k in reversed(range(len(window))):
        if window[k].deviation < settings.least_deviation:
            return "flat", k + 1
        step = steps[k - 1] if k else None
        if step is None:
            continue
        if step.difference > settings.most_difference or step.distance > settings.most_distance:
            return "cut", k
        if step.difference == 0:
            return "repeated", k
        if step.difference < settings.least_difference:
            return "still", k
    for k in reversed(range(1, len(window))):
        if steps[k - 1].difference < settings.least_step * largest:
            return "uneven step", 1
        if abs(steps[k - 1].seconds - mean) > slack:
            return "uneven times", 1
    return ("flash", 1) if outer < settings.least_difference else None
