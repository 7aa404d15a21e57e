"""Rejection of windows of frames that are no good training samples, with a reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from midframe.training.build.settings import DatasetSettings


class RejectionReason(StrEnum):
    """Why a window of frames is rejected; the limits are fields of `DatasetSettings`. Manifests contain the values."""

    REPEATED = "repeated"
    """Two neighbouring frames are equal."""
    STILL = "still"
    """Two neighbouring frames differ by less than `least_difference`."""
    CUT = "cut"
    """Two neighbouring frames differ by more than `most_difference` or `most_distance`."""
    FLAT = "flat"
    """The standard deviation of a frame is less than `least_deviation`."""
    UNEVEN_STEP = "uneven step"
    """One difference of neighbouring frames is less than `least_step` times the largest."""
    UNEVEN_TIMES = "uneven times"
    """A time step differs from the mean time step by more than `most_jitter` of it."""
    FLASH = "flash"
    """The outer frames differ by less than `least_difference`, although neighbouring frames differ by more."""


@dataclass(frozen=True)
class FrameStep:
    """The change from one frame to the next."""

    seconds: Fraction
    """Difference of their times."""
    difference: float
    """Mean squared difference of their pixel values, which are in 0..255."""
    distance: float
    """Their distance by the cut detector, 0 for equal frames, about 1 for unrelated ones."""


@dataclass(frozen=True)
class FrameStats:
    """The numbers by which a frame is accepted or rejected."""

    time: Fraction
    """Its time in the film, in seconds."""
    deviation: float
    """Standard deviation of its pixels (see `standard_deviation`)."""
    step: FrameStep | None
    """The change from the frame before it; None for the first frame of a clip."""


@dataclass(frozen=True)
class Rejection:
    """Why a window is rejected, and where to continue the search."""

    reason: RejectionReason
    skip: int
    """Frames, 1 or more, to drop from the start of the window: no window that starts at one of them can pass."""


def rejection_of_window(
    window: Sequence[FrameStats], outer_difference: float, settings: DatasetSettings, time_base: Fraction
) -> Rejection | None:
    """Return why a window of consecutive frames is rejected, or None if it passes.

    outer_difference: the mean squared difference of the first and the last frame. time_base: the film's time base in
    seconds; a time step may always be off by that much, since some containers round times (Matroska to milliseconds).
    """
    steps = [frame.step for frame in window[1:] if frame.step is not None]
    assert len(steps) == len(window) - 1
    return (
        _rejection_by_one_frame(window, settings)
        or _rejection_by_uneven_steps(steps, settings, time_base)
        or (Rejection(RejectionReason.FLASH, 1) if outer_difference < settings.least_difference else None)
    )


def _rejection_by_one_frame(window: Sequence[FrameStats], settings: DatasetSettings) -> Rejection | None:
    """Reject a window for a flat frame, or for two neighbouring frames that differ too little or too much.

    The frames are checked from the last to the first, so that as many frames as possible are skipped. The step that
    leads to the first frame lies outside the window.
    """
    for k in reversed(range(len(window))):
        if window[k].deviation < settings.least_deviation:
            return Rejection(RejectionReason.FLAT, k + 1)
        step = window[k].step
        if k == 0 or step is None:
            continue
        if step.difference > settings.most_difference or step.distance > settings.most_distance:
            return Rejection(RejectionReason.CUT, k)
        if step.difference == 0:
            return Rejection(RejectionReason.REPEATED, k)
        if step.difference < settings.least_difference:
            return Rejection(RejectionReason.STILL, k)
    return None


def _rejection_by_uneven_steps(
    steps: Sequence[FrameStep], settings: DatasetSettings, time_base: Fraction
) -> Rejection | None:
    """Reject a window whose steps differ too much from each other, in pixels or in time."""
    largest_difference = max(step.difference for step in steps)
    mean_seconds = sum((step.seconds for step in steps), Fraction(0)) / len(steps)
    tolerance = max(time_base, Fraction(settings.most_jitter) * mean_seconds)
    for step in reversed(steps):
        if step.difference < settings.least_step * largest_difference:
            return Rejection(RejectionReason.UNEVEN_STEP, 1)
        if abs(step.seconds - mean_seconds) > tolerance:
            return Rejection(RejectionReason.UNEVEN_TIMES, 1)
    return None


def squared_difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the exact mean squared difference of two 8-bit pictures of one size (uint8 arithmetic would wrap)."""
    difference = first.astype(np.int16) - second
    return int(np.square(difference, dtype=np.int32).sum(dtype=np.int64)) / difference.size


def standard_deviation(picture: NDArray[np.uint8]) -> float:
    """Return the standard deviation of a picture `[H, W, 3]`, averaged over the channels.

    The code of the report's author calls it variance.
    """
    height, width = picture.shape[:2]
    count = height * width
    rows = picture.reshape(height, -1)  # summed column by column first: many times faster than both axes at once
    sums = rows.sum(0, dtype=np.uint32).reshape(width, 3).sum(0, dtype=np.int64)
    squares = np.square(rows, dtype=np.uint16).sum(0, dtype=np.uint32).reshape(width, 3).sum(0, dtype=np.int64)
    variances = [max(0, count * int(q) - int(s) ** 2) / count**2 for q, s in zip(squares, sums, strict=True)]
    return float(sum(variance**0.5 for variance in variances)) / len(variances)
