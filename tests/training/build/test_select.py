"""Which clips are looked at and which windows are taken: against independent arithmetic and the rules in words."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midframe.errors import SettingError
from midframe.training.build.select import Seen, Step, deviation, judge, plan_clips, squared_difference
from midframe.training.build.settings import DatasetSettings

LIMITS = DatasetSettings(
    least_difference=5, most_difference=500, most_distance=0.4, least_step=0.25, least_deviation=8, most_jitter=0.1
)
TICK = Fraction(1, 1000)
lengths = st.fractions(Fraction(1, 10), 10_000)


@given(st.fractions(-5, 5), lengths, st.integers(1, 100), st.fractions(Fraction(1, 20), 3))
def test_clips_lie_evenly_within_the_film(start: Fraction, length: Fraction, clips: int, seconds: Fraction) -> None:
    found = plan_clips(start, length, clips, seconds)
    assert len(found) == max(1, min(clips, int(length / seconds)))
    assert start <= found[0][0]
    assert found[-1][1] <= start + length
    assert {end - begin for begin, end in found} == {min(seconds, length)}
    assert len({b[0] - a[0] for a, b in pairwise(found)}) <= 1
    assert all(a[1] <= b[0] for a, b in pairwise(found))


def test_report_s_clips_of_a_long_film() -> None:
    found = plan_clips(Fraction(0), Fraction(7200), 80, Fraction(1))
    assert len(found) == 80
    assert found[1][0] - found[0][0] == 90


def test_difference_does_not_wrap() -> None:
    black, white = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 255, np.uint8)
    assert squared_difference(black, white) == squared_difference(white, black) == 255**2


def test_difference_and_deviation_are_numpy_s() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (31, 45, 3)).astype(np.uint8) for _ in range(2))
    assert squared_difference(a, b) == pytest.approx(((a.astype(float) - b) ** 2).mean(), rel=1e-12)
    assert deviation(a) == pytest.approx(a.astype(float).std((0, 1)).mean(), rel=1e-12)
    assert deviation(np.full((9, 9, 3), 77, np.uint8)) == 0


def window(
    differences: list[float],
    distances: list[float] | None = None,
    deviations: list[float] | None = None,
    gaps: list[Fraction] | None = None,
) -> list[Seen]:
    """Frames of a film at 25 a second."""
    count = len(differences)
    gaps = gaps or [Fraction(1, 25)] * count
    steps = zip(gaps, differences, distances or [0.05] * count, strict=True)
    seen = [Seen(Fraction(0), (deviations or [40.0])[0], None)]
    for k, step in enumerate(steps, 1):
        seen.append(Seen(seen[-1].time + step[0], deviations[k] if deviations else 40.0, Step(*step)))
    return seen


def test_good_window() -> None:
    assert judge(window([50, 60]), 80, LIMITS, TICK) is None
    assert judge(window([50, 60, 70, 80]), 80, LIMITS, TICK) is None


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (window([0, 60]), ("repeated", 1)),
        (window([60, 0]), ("repeated", 2)),
        (window([60, 4]), ("still", 2)),
        (window([501, 400]), ("cut", 1)),
        (window([60, 60], distances=[0.1, 0.41]), ("cut", 2)),
        (window([60, 60], deviations=[7.9, 40, 40]), ("flat", 1)),
        (window([60, 60], deviations=[40, 40, 7.9]), ("flat", 3)),
        (window([100, 24]), ("uneven step", 1)),
        (window([60, 60], gaps=[Fraction(1, 25), Fraction(2, 25)]), ("uneven times", 1)),
        (window([60, 60, 0, 501, 60, 60]), ("cut", 4)),
    ],
)
def test_verdict(seen: list[Seen], verdict: tuple[str, int]) -> None:
    assert judge(seen, 80, LIMITS, TICK) == verdict


def test_flash() -> None:
    """Outer frames that are alike: what lies between cannot be told from them."""
    assert judge(window([60, 60]), 4.9, LIMITS, TICK) == ("flash", 1)


def test_milliseconds_are_even_enough() -> None:
    """Matroska has 240 frames a second at steps of 4 and 5 ms."""
    seen = window([60, 60], gaps=[Fraction(4, 1000), Fraction(5, 1000)])
    assert judge(seen, 80, LIMITS, TICK) is None
    assert judge(seen, 80, LIMITS, TICK / 1000) == ("uneven times", 1)


values = st.sampled_from([0.0, 3.0, 20.0, 100.0, 400.0, 900.0])


@given(
    st.lists(st.tuples(values, st.sampled_from([0.1, 0.8]), st.sampled_from([2.0, 40.0])), min_size=3, max_size=20),
    st.sampled_from([3, 5, 7]),
)
def test_no_good_window_is_passed_over(film: list[tuple[float, float, float]], size: int) -> None:
    """Going on where a verdict says finds the first good window that looking at each one finds."""
    differences, distances, deviations = zip(*film, strict=True)
    every = window(list(differences), list(distances), [40.0, *deviations])
    starts = range(len(every) - size + 1)
    first = next((k for k in starts if judge(every[k : k + size], 80, LIMITS, TICK) is None), None)
    at = 0
    while at + size <= len(every):
        verdict = judge(every[at : at + size], 80, LIMITS, TICK)
        if verdict is None:
            break
        assert 1 <= verdict[1] <= size
        at += verdict[1]
    assert (at if at + size <= len(every) else None) == first


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 4},
        {"clips": 0},
        {"seconds": Fraction(0)},
        {"size": (720, 1280)},
        {"least_difference": 4000.0},
        {"least_step": 1.5},
        {"most_jitter": 1.0},
        {"jpeg": 101},
        {"held": 1.0},
        {"least_deviation": float("nan")},
    ],
)
def test_settings_that_cannot_be_meant(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingError):
        replace(DatasetSettings(), **wrong)  # type: ignore[arg-type]
