"""Planned clips and rejected windows: against independent arithmetic and the rules in words."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midframe.errors import SettingError
from midframe.training.build.clips import plan_clips
from midframe.training.build.rejection import (
    FrameStats,
    FrameStep,
    Rejection,
    RejectionReason,
    rejection_of_window,
    squared_difference,
    standard_deviation,
)
from midframe.training.build.settings import DatasetSettings

LIMITS = DatasetSettings(
    least_difference=5, most_difference=500, most_distance=0.4, least_step=0.25, least_deviation=8, most_jitter=0.1
)
MILLISECOND = Fraction(1, 1000)
FRAME_25 = Fraction(1, 25)
lengths = st.fractions(Fraction(1, 10), 10_000)


@given(st.fractions(-5, 5), lengths, st.integers(1, 100), st.fractions(Fraction(1, 20), 3))
def test_clips_lie_evenly_within_the_film(start: Fraction, length: Fraction, clips: int, seconds: Fraction) -> None:
    planned = plan_clips(start, length, clips, seconds)
    assert len(planned) == max(1, min(clips, int(length / seconds)))
    assert start <= planned[0][0]
    assert planned[-1][1] <= start + length
    assert {end - begin for begin, end in planned} == {min(seconds, length)}
    assert len({second[0] - first[0] for first, second in pairwise(planned)}) <= 1
    assert all(first[1] <= second[0] for first, second in pairwise(planned))


def test_a_long_film_has_the_reports_80_clips() -> None:
    planned = plan_clips(Fraction(0), Fraction(7200), 80, Fraction(1))
    assert len(planned) == 80
    assert planned[1][0] - planned[0][0] == 90


def test_squared_difference_does_not_wrap() -> None:
    black, white = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 255, np.uint8)
    assert squared_difference(black, white) == squared_difference(white, black) == 255**2


def test_squared_difference_and_standard_deviation_equal_numpys() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (31, 45, 3)).astype(np.uint8) for _ in range(2))
    assert squared_difference(a, b) == pytest.approx(((a.astype(float) - b) ** 2).mean(), rel=1e-12)
    assert standard_deviation(a) == pytest.approx(a.astype(float).std((0, 1)).mean(), rel=1e-12)
    assert standard_deviation(np.full((9, 9, 3), 77, np.uint8)) == 0


def window_stats(
    differences: list[float],
    distances: list[float] | None = None,
    deviations: list[float] | None = None,
    seconds: list[Fraction] | None = None,
) -> list[FrameStats]:
    """Return the statistics of frames: differences, distances and seconds of each step, deviation of each frame.

    By default the film has 25 frames a second, no cut and no flat frame.
    """
    count = len(differences)
    steps = zip(seconds or [FRAME_25] * count, differences, distances or [0.05] * count, strict=True)
    frames = [FrameStats(Fraction(0), (deviations or [40.0])[0], None)]
    for k, step in enumerate(steps, 1):
        deviation = deviations[k] if deviations else 40.0
        frames.append(FrameStats(frames[-1].time + step[0], deviation, FrameStep(*step)))
    return frames


@pytest.mark.parametrize("differences", [[50, 60], [50, 60, 70, 80]], ids=["three_frames", "five_frames"])
def test_a_good_window_passes(differences: list[float]) -> None:
    assert rejection_of_window(window_stats(differences), 80, LIMITS, MILLISECOND) is None


@pytest.mark.parametrize(
    ("window", "reason", "skip"),
    [
        pytest.param(window_stats([0, 60]), "repeated", 1, id="second_frame_repeats_first"),
        pytest.param(window_stats([60, 0]), "repeated", 2, id="third_frame_repeats_second"),
        pytest.param(window_stats([60, 4]), "still", 2, id="too_little_difference"),
        pytest.param(window_stats([501, 400]), "cut", 1, id="too_much_difference"),
        pytest.param(window_stats([60, 60], distances=[0.1, 0.41]), "cut", 2, id="too_much_distance"),
        pytest.param(window_stats([60, 60], deviations=[7.9, 40, 40]), "flat", 1, id="first_frame_flat"),
        pytest.param(window_stats([60, 60], deviations=[40, 40, 7.9]), "flat", 3, id="last_frame_flat"),
        pytest.param(window_stats([100, 24]), "uneven step", 1, id="one_step_much_smaller"),
        pytest.param(window_stats([60, 60], seconds=[FRAME_25, 2 * FRAME_25]), "uneven times", 1, id="time_gap"),
        pytest.param(window_stats([60, 60, 0, 501, 60, 60]), "cut", 4, id="last_fault_of_seven_frames"),
    ],
)
def test_rejection(window: list[FrameStats], reason: str, skip: int) -> None:
    assert rejection_of_window(window, 80, LIMITS, MILLISECOND) == Rejection(RejectionReason(reason), skip)


def test_a_flash_is_rejected() -> None:
    """The outer frames are alike: the frame between cannot be predicted from them."""
    assert rejection_of_window(window_stats([60, 60]), 4.9, LIMITS, MILLISECOND) == Rejection(RejectionReason.FLASH, 1)


def test_times_rounded_to_the_time_base_are_even_enough() -> None:
    """Matroska stores 240 frames a second as steps of 4 and 5 ms."""
    window = window_stats([60, 60], seconds=[Fraction(4, 1000), Fraction(5, 1000)])
    assert rejection_of_window(window, 80, LIMITS, MILLISECOND) is None
    uneven = Rejection(RejectionReason.UNEVEN_TIMES, 1)
    assert rejection_of_window(window, 80, LIMITS, MILLISECOND / 1000) == uneven


values = st.sampled_from([0.0, 3.0, 20.0, 100.0, 400.0, 900.0])


@given(
    st.lists(st.tuples(values, st.sampled_from([0.1, 0.8]), st.sampled_from([2.0, 40.0])), min_size=3, max_size=20),
    st.sampled_from([3, 5, 7]),
)
def test_skipping_misses_no_good_window(film: list[tuple[float, float, float]], size: int) -> None:
    """The search that skips finds the first good window that a check of every window finds."""
    differences, distances, deviations = zip(*film, strict=True)
    frames = window_stats(list(differences), list(distances), [40.0, *deviations])

    def rejection_at(start: int) -> Rejection | None:
        return rejection_of_window(frames[start : start + size], 80, LIMITS, MILLISECOND)

    first_good = next((k for k in range(len(frames) - size + 1) if rejection_at(k) is None), None)
    start = 0
    while start + size <= len(frames):
        rejection = rejection_at(start)
        if rejection is None:
            break
        assert 1 <= rejection.skip <= size
        start += rejection.skip
    assert (start if start + size <= len(frames) else None) == first_good


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"window": 4}, "3, 5 or 7 frames, not 4"),
        ({"clips": 0}, "--clips 0"),
        ({"seconds": Fraction(0)}, "--seconds 0"),
        ({"size": (720, 1280)}, "--size 720x1280"),
        ({"least_difference": 4000.0}, r"the least difference \(4000\)"),
        ({"least_step": 1.5}, "--least-step 1.5"),
        ({"most_jitter": 1.0}, "--most-jitter 1"),
        ({"jpeg": 101}, "--jpeg 101"),
        ({"validation_fraction": 1.0}, "--held 1"),
        ({"least_deviation": float("nan")}, "--least-deviation nan"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        replace(DatasetSettings(), **setting)  # type: ignore[arg-type]
