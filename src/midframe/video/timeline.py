"""Compute the times of the output frames, and between which source frames each lies, in exact fractions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, gcd, lcm

import numpy as np

from midframe.errors import SettingError


@dataclass(frozen=True)
class Slot:
    """One output frame: its time and duration in seconds, and its position between two source frames."""

    time: Fraction
    duration: Fraction
    position: Fraction
    """0 is the earlier source frame itself, 1 the later one; a frame in between is interpolated."""


@dataclass(frozen=True)
class Timeline:
    """The rule by which source times become output times. All times are in seconds.

    The number of output frames follows from `rate` if it is set, else from `factor`.
    """

    source_start: Fraction
    """Time of the first source frame that is converted."""
    output_start: Fraction
    """Output time of that frame."""
    factor: int = 2
    """Number of output frames for each interval between two source frames."""
    rate: Fraction | None = None
    """Output frames per second; None: use `factor`."""
    slowdown: int = 1
    """How many times longer the output is (slow motion)."""
    start_trimmed: bool = False
    """Whether the film is cut off before `source_start`."""
    end: Fraction | None = None
    """Source time from which on the film is cut off; None: it is not."""

    def output_time(self, time: Fraction) -> Fraction:
        """Return the output time of a source time."""
        return self.output_start + (time - self.source_start) * self.slowdown

    def clip(self, first: Fraction, last: Fraction) -> tuple[Fraction, Fraction] | None:
        """Return the part of a span of source time that is converted; None if no part is."""
        first = max(first, self.source_start) if self.start_trimmed else first
        last = min(last, self.end) if self.end is not None else last
        outside = (self.start_trimmed and last <= self.source_start) or (self.end is not None and first >= self.end)
        return None if outside or last < first else (first, last)

    def slots_between(self, first: Fraction, second: Fraction) -> list[Slot]:
        """Return the output frames from a source frame up to the next one, which is not included.

        If `rate` is set, an output frame shows a source frame if their times differ by at most a tenth of an output
        interval.
        """
        begin, end = self.output_time(first), self.output_time(second)
        if self.rate is None:
            step = (end - begin) / self.factor
            return [Slot(begin + k * step, step, Fraction(k, self.factor)) for k in range(self.factor)]
        interval = 1 / self.rate
        slots = []
        for k in range(ceil((begin - self.output_start) * self.rate), ceil((end - self.output_start) * self.rate)):
            time = self.output_start + k * interval
            position = (time - begin) / (end - begin)
            if min(time - begin, end - time) <= interval / 10:
                position = Fraction(0 if time - begin <= end - time else 1)
            slots.append(Slot(time, interval, position))
        return slots

    def slots_after(self, last: Fraction, duration: Fraction) -> list[Slot]:
        """Return the output frames from the last source frame to the end: one, or if `rate` is set, as many as needed.

        duration: of the last source frame, in seconds. A single output frame has the same duration.
        """
        begin = self.output_time(last)
        if self.rate is None:
            return [Slot(begin, duration, Fraction(0))]
        total = ceil(((last - self.source_start + duration) * self.slowdown) * self.rate)
        first = ceil((begin - self.output_start) * self.rate)
        interval = 1 / self.rate
        return [Slot(self.output_start + k * interval, interval, Fraction(0)) for k in range(first, total)]

    def output_ticks(
        self, sources: Iterable[int], source_base: Fraction, last_duration: Fraction, output_base: Fraction
    ) -> array[int]:
        """Return the times of all output frames, rounded to whole multiples of `output_base`.

        sources: the source times in units of `source_base`, at least one. last_duration: of the last frame, in seconds.

        The times are those of `slots_between` and `slots_after`, computed with integers: for long films, slots would be
        many times slower.
        """
        if self.rate is not None:
            last = max(sources) * source_base
            total = ceil((last - self.source_start + last_duration) * self.slowdown * self.rate)
            first, step, scale = _common_denominator(self.output_start / output_base, 1 / self.rate / output_base)
            return array("q", (_round_quotient(first + k * step, scale) for k in range(total)))
        first, step, scale = _common_denominator(
            (self.output_start - self.source_start * self.slowdown) / output_base,
            source_base * self.slowdown / output_base,
        )
        times = array("q")
        previous: int | None = None
        for tick in sources:
            if previous is not None:
                begin = (first + previous * step) * self.factor
                times.extend(
                    _round_quotient(begin + k * (tick - previous) * step, scale * self.factor)
                    for k in range(self.factor)
                )
            previous = tick
        assert previous is not None
        times.append(_round_quotient(first + previous * step, scale))
        return times

    def time_base(self, source_base: Fraction) -> Fraction:
        """Return a unit that divides every output time, for source times that are multiples of `source_base`."""
        offset_unit = Fraction(1, (self.output_start - self.source_start * self.slowdown).denominator)
        unit = _largest_common_unit(source_base * self.slowdown, offset_unit)
        if self.rate is None:
            return unit / self.factor
        return _largest_common_unit(Fraction(1, self.output_start.denominator), 1 / self.rate)


def gap_limit(ticks: array[int], base: Fraction) -> Fraction:
    """Return the longest interval, in seconds, that is filled with interpolated frames: 5 medians, at least 0.5 s.

    ticks: the source times in units of `base`. Longer intervals are gaps.
    """
    if len(ticks) < 2:
        return Fraction(1, 2)
    steps = np.diff(np.frombuffer(ticks, np.int64))
    middle = (len(steps) - 1) // 2
    return max(Fraction(1, 2), 5 * int(np.partition(steps, middle)[middle]) * base)


def parse_rate(text: str) -> Fraction:
    """Parse a frame rate such as "60", "59.94" (understood as 60000/1001) or "60000/1001".

    Raises `SettingError` if it is not a number above 0 and up to 1000.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise SettingError(f"'{text}' is not a frame rate; give a number or a fraction such as 60000/1001") from None
    if not 0 < rate <= 1000:
        raise SettingError(f"a frame rate of {text} is not possible; give one above 0, up to 1000")
    if "/" not in text and rate.denominator > 1:
        for whole in _NTSC_RATES:
            broadcast = Fraction(whole * 1000, 1001)
            if abs(rate - broadcast) < Fraction(1, 100):
                return broadcast
    return rate


_NTSC_RATES = (24, 30, 48, 60, 96, 120, 144, 240)
"""Rates that are divided by 1.001 in television, such as 59.94."""


def _common_denominator(a: Fraction, b: Fraction) -> tuple[int, int, int]:
    """Return both numerators over the common denominator, and that denominator."""
    scale = lcm(a.denominator, b.denominator)
    return int(a * scale), int(b * scale), scale


def _round_quotient(numerator: int, denominator: int) -> int:
    """Round a quotient to the nearest integer, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _largest_common_unit(a: Fraction, b: Fraction) -> Fraction:
    """Return the largest fraction of which both are whole multiples."""
    denominator = lcm(a.denominator, b.denominator)
    return Fraction(gcd(int(a * denominator), int(b * denominator)), denominator)
