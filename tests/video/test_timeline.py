"""`Timeline` is compared with the definition of output times, in exact fractions."""

from __future__ import annotations

from array import array
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midframe.errors import SettingError
from midframe.video.timeline import Slot, Timeline, gap_limit, parse_rate

EXAMPLES = settings(deadline=None, max_examples=50)
BASES = st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1001, 24000), Fraction(1, 12800)])
RATES = st.sampled_from([Fraction(r) for r in ("60", "60000/1001", "24", "25/2", "7/3", "120", "1/2", "144")])


class SourceFilm(NamedTuple):
    """The times of a film's frames."""

    times: list[Fraction]
    """Increasing, at most 10."""
    base: Fraction
    """A unit that divides all times."""
    last_duration: Fraction


@st.composite
def source_films(draw: st.DrawFn) -> SourceFilm:
    base = draw(BASES)
    steps = draw(st.lists(st.integers(1, 900), max_size=9))
    first = draw(st.integers(-3000, 3000))
    times = [tick * base for tick in accumulate([first, *steps])]
    return SourceFilm(times, base, draw(st.integers(1, 900)) * base)


def all_slots(timeline: Timeline, sources: list[Fraction], last_duration: Fraction) -> list[Slot]:
    """Return the output frames of a film with these source times."""
    slots = [slot for first, second in pairwise(sources) for slot in timeline.slots_between(first, second)]
    return slots + timeline.slots_after(sources[-1], last_duration)


@EXAMPLES
@given(source_films(), st.integers(2, 9), st.integers(0, 5), st.booleans())
def test_factor_divides_every_interval_evenly(film: SourceFilm, factor: int, shift: int, slow: bool) -> None:
    sources, base, duration = film
    start, slower = sources[0] + Fraction(shift, 7), factor if slow else 1
    timeline = Timeline(sources[0], start, factor=factor, slowdown=slower)
    slots = all_slots(timeline, sources, duration)
    assert len(slots) == (len(sources) - 1) * factor + 1
    for k, source in enumerate(sources):
        assert slots[k * factor].time == start + slower * (source - sources[0])
        assert slots[k * factor].position == 0
    for k, (a, b) in enumerate(pairwise(slots)):
        assert a.time + a.duration == b.time
        assert a.position == Fraction(k % factor, factor)
    assert slots[-1].duration == duration
    unit = timeline.time_base(base)
    assert all((slot.time / unit).denominator == 1 for slot in slots)


@EXAMPLES
@given(source_films(), RATES)
def test_rate_gives_even_times_up_to_the_end_of_the_last_frame(film: SourceFilm, rate: Fraction) -> None:
    sources, base, duration = film
    timeline = Timeline(sources[0], sources[0], rate=rate)
    slots = all_slots(timeline, sources, duration)
    assert len(slots) == ceil((sources[-1] + duration - sources[0]) * rate)
    unit = timeline.time_base(base)
    for k, slot in enumerate(slots):
        assert slot.time == sources[0] + k / rate
        assert slot.duration == 1 / rate
        assert (slot.time / unit).denominator == 1


@EXAMPLES
@given(source_films(), RATES)
def test_rate_takes_a_source_frame_within_a_tenth_of_an_interval_else_a_position_in_between(
    film: SourceFilm, rate: Fraction
) -> None:
    sources, _, duration = film
    timeline = Timeline(sources[0], sources[0], rate=rate)
    shown: list[tuple[Fraction, Fraction]] = []  # (output time, source time shown)
    for first, second in pairwise(sources):
        slots = timeline.slots_between(first, second)
        shown += [(slot.time, first + slot.position * (second - first)) for slot in slots]
    shown += [(slot.time, sources[-1]) for slot in timeline.slots_after(sources[-1], duration)]
    for time, shown_time in shown:
        nearest = min(sources, key=lambda source: (abs(source - time), source))
        if time >= sources[-1] or abs(nearest - time) <= 1 / rate / 10:
            assert shown_time == (sources[-1] if time >= sources[-1] else nearest)
        else:
            assert shown_time == time


@settings(EXAMPLES, max_examples=10)
@given(source_films(), RATES, st.integers(2, 4))
def test_slow_motion_with_a_rate_lasts_longer(film: SourceFilm, rate: Fraction, slow: int) -> None:
    sources, _, duration = film
    slots = all_slots(Timeline(sources[0], sources[0], rate=rate, slowdown=slow), sources, duration)
    assert len(slots) == ceil((sources[-1] + duration - sources[0]) * slow * rate)
    assert all(slot.time == sources[0] + k / rate for k, slot in enumerate(slots))


@EXAMPLES
@given(source_films(), st.none() | RATES, st.integers(2, 5), st.booleans(), st.integers(0, 5))
def test_output_ticks_are_the_times_of_the_slots(
    film: SourceFilm, rate: Fraction | None, factor: int, slow: bool, shift: int
) -> None:
    sources, base, duration = film
    timeline = Timeline(sources[0], sources[0] + Fraction(shift, 9), factor, rate, factor if slow else 1)
    unit = timeline.time_base(base)
    ticks = timeline.output_ticks([int(source / base) for source in sources], base, duration, unit)
    assert [tick * unit for tick in ticks] == [slot.time for slot in all_slots(timeline, sources, duration)]
    coarse = timeline.output_ticks([int(source / base) for source in sources], base, duration, Fraction(1, 1000))
    assert all(abs(a * unit - Fraction(b, 1000)) <= Fraction(1, 2000) for a, b in zip(ticks, coarse, strict=True))


def test_clip_returns_the_converted_part_of_a_span() -> None:
    timeline = Timeline(Fraction(2), Fraction(0), start_trimmed=True, end=Fraction(5))
    inside, across, outside = (Fraction(3), Fraction(4)), (Fraction(1), Fraction(9)), (Fraction(0), Fraction(2))
    assert timeline.clip(*inside) == inside
    assert timeline.clip(*across) == (2, 5)
    assert timeline.clip(*outside) is None
    assert timeline.clip(Fraction(5), Fraction(6)) is None
    whole = Timeline(Fraction(2), Fraction(2))
    assert whole.clip(*across) == across


def test_gap_limit_is_five_median_intervals_and_at_least_half_a_second() -> None:
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
def test_rates_are_parsed(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0", "-24", "1/0", "1001", "nan"])
def test_text_that_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="frame rate"):
        parse_rate(text)
