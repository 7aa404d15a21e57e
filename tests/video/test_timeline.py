"""The rule by which source times become output times, held against its definition in exact fractions."""

from __future__ import annotations

from array import array
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midframe.errors import SettingError
from midframe.video.timeline import Slot, Timeline, gap_limit, parse_rate

EXAMPLES = settings(deadline=None, max_examples=50)
BASES = st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1001, 24000), Fraction(1, 12800)])
RATES = st.sampled_from([Fraction(r) for r in ("60", "60000/1001", "24", "25/2", "7/3", "120", "1/2", "144")])


@st.composite
def films(draw: st.DrawFn) -> tuple[list[Fraction], Fraction, Fraction]:
    """Rising source times (at most 10), the time base they are multiples of, and the last frame's duration."""
    base = draw(BASES)
    steps = draw(st.lists(st.integers(1, 900), max_size=9))
    first = draw(st.integers(-3000, 3000))
    return [tick * base for tick in accumulate([first, *steps])], base, draw(st.integers(1, 900)) * base


def all_slots(line: Timeline, sources: list[Fraction], last_duration: Fraction) -> list[Slot]:
    """Return the output frames of a film with these source times."""
    slots = [slot for first, second in pairwise(sources) for slot in line.slots_between(first, second)]
    return slots + line.slots_after(sources[-1], last_duration)


@EXAMPLES
@given(films(), st.integers(2, 9), st.integers(0, 5), st.booleans())
def test_factor_divides_every_gap_by_itself(
    film: tuple[list[Fraction], Fraction, Fraction], factor: int, shift: int, slow: bool
) -> None:
    sources, base, duration = film
    start, slower = sources[0] + Fraction(shift, 7), factor if slow else 1
    line = Timeline(sources[0], start, factor=factor, slowdown=slower)
    slots = all_slots(line, sources, duration)
    assert len(slots) == (len(sources) - 1) * factor + 1
    for k, source in enumerate(sources):
        assert slots[k * factor].time == start + slower * (source - sources[0])
        assert slots[k * factor].position == 0
    for k, (a, b) in enumerate(pairwise(slots)):
        assert a.time + a.duration == b.time
        assert a.position == Fraction(k % factor, factor)
    assert slots[-1].duration == duration
    unit = line.time_base(base)
    assert all((slot.time / unit).denominator == 1 for slot in slots)


@EXAMPLES
@given(films(), RATES)
def test_rate_gives_even_times_to_the_end_of_the_last_frame(
    film: tuple[list[Fraction], Fraction, Fraction], rate: Fraction
) -> None:
    sources, base, duration = film
    line = Timeline(sources[0], sources[0], rate=rate)
    slots = all_slots(line, sources, duration)
    assert len(slots) == ceil((sources[-1] + duration - sources[0]) * rate)
    unit = line.time_base(base)
    for k, slot in enumerate(slots):
        assert slot.time == sources[0] + k / rate
        assert slot.duration == 1 / rate
        assert (slot.time / unit).denominator == 1


@EXAMPLES
@given(films(), RATES)
def test_rate_takes_a_source_frame_within_a_tenth_of_an_interval_and_else_the_place_between(
    film: tuple[list[Fraction], Fraction, Fraction], rate: Fraction
) -> None:
    sources, _, duration = film
    line = Timeline(sources[0], sources[0], rate=rate)
    shown: list[tuple[Fraction, Fraction]] = []  # (output time, source time that it stands for)
    for first, second in pairwise(sources):
        slots = line.slots_between(first, second)
        shown += [(slot.time, first + slot.position * (second - first)) for slot in slots]
    shown += [(slot.time, sources[-1]) for slot in line.slots_after(sources[-1], duration)]
    for time, stands_for in shown:
        nearest = min(sources, key=lambda source: (abs(source - time), source))
        if time >= sources[-1] or abs(nearest - time) <= 1 / rate / 10:
            assert stands_for == (sources[-1] if time >= sources[-1] else nearest)
        else:
            assert stands_for == time


@settings(EXAMPLES, max_examples=10)
@given(films(), RATES, st.integers(2, 4))
def test_slow_motion_with_a_rate_lasts_longer(
    film: tuple[list[Fraction], Fraction, Fraction], rate: Fraction, slow: int
) -> None:
    sources, _, duration = film
    slots = all_slots(Timeline(sources[0], sources[0], rate=rate, slowdown=slow), sources, duration)
    assert len(slots) == ceil((sources[-1] + duration - sources[0]) * slow * rate)
    assert all(slot.time == sources[0] + k / rate for k, slot in enumerate(slots))


@EXAMPLES
@given(films(), st.none() | RATES, st.integers(2, 5), st.booleans(), st.integers(0, 5))
def test_ticks_are_the_same_times(
    film: tuple[list[Fraction], Fraction, Fraction], rate: Fraction | None, factor: int, slow: bool, shift: int
) -> None:
    sources, base, duration = film
    line = Timeline(sources[0], sources[0] + Fraction(shift, 9), factor, rate, factor if slow else 1)
    unit = line.time_base(base)
    ticks = line.output_ticks([int(source / base) for source in sources], base, duration, unit)
    assert [tick * unit for tick in ticks] == [slot.time for slot in all_slots(line, sources, duration)]
    coarse = line.output_ticks([int(source / base) for source in sources], base, duration, Fraction(1, 1000))
    assert all(abs(a * unit - Fraction(b, 1000)) <= Fraction(1, 2000) for a, b in zip(ticks, coarse, strict=True))


def test_clip_keeps_what_lies_inside() -> None:
    line = Timeline(Fraction(2), Fraction(0), start_trimmed=True, end=Fraction(5))
    inside, across, outside = (Fraction(3), Fraction(4)), (Fraction(1), Fraction(9)), (Fraction(0), Fraction(2))
    assert line.clip(*inside) == inside
    assert line.clip(*across) == (2, 5)
    assert line.clip(*outside) is None
    assert line.clip(Fraction(5), Fraction(6)) is None
    whole = Timeline(Fraction(2), Fraction(2))
    assert whole.clip(*across) == across


def test_gap_limit_is_five_median_intervals_but_half_a_second_at_least() -> None:
    assert gap_limit(array("q", [0, 1, 2, 3, 50]), Fraction(1, 25)) == Fraction(1, 2)
    assert gap_limit(array("q", [0, 1, 2, 3, 50]), Fraction(1, 4)) == Fraction(5, 4)
    assert gap_limit(array("q", [7]), Fraction(1, 25)) == Fraction(1, 2)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60", Fraction(60)),
        ("59.94", Fraction(60000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("60000/1001", Fraction(60000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("7/3", Fraction(7, 3)),
    ],
)
def test_rates_as_people_write_them(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0", "-24", "1/0", "1001", "nan"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="frame rate"):
        parse_rate(text)
