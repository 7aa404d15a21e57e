"""When the output frames are shown, and between which source frames each lies: exact fractions throughout."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, gcd, lcm

import numpy as np

from midframe.errors import SettingError


@dataclass(frozen=True)
class Slot:
    """One output frame: its time and duration, and where it lies between two source frames.

    position: 0 is the earlier source frame itself, 1 the later one, anything between is made.
    """

    time: Fraction
    duration: Fraction
    position: Fraction


@dataclass(frozen=True)
class Timeline:
    """The rule by which source times become output times.

    origin: the time of the first source frame that is taken, start: its output time; factor: frames a gap is divided
    into; rate: or the target rate, in frames a second; slow: how many times longer the film becomes. Of a trimmed film
    `trimmed` is true where its beginning is cut off (at `origin`), and `end` says where it ends.
    """

    origin: Fraction
    start: Fraction
    factor: int = 2
    rate: Fraction | None = None
    slow: int = 1
    trimmed: bool = False
    end: Fraction | None = None

    def place(self, time: Fraction) -> Fraction:
        """The output time of a source time."""
        return self.start + (time - self.origin) * self.slow

    def clip(self, first: Fraction, last: Fraction) -> tuple[Fraction, Fraction] | None:
        """The part of a span of source time that is taken; None for none."""
        first = max(first, self.origin) if self.trimmed else first
        last = min(last, self.end) if self.end is not None else last
        outside = (self.trimmed and last <= self.origin) or (self.end is not None and first >= self.end)
        return None if outside or last < first else (first, last)

    def between(self, first: Fraction, second: Fraction) -> list[Slot]:
        """The output frames from a source frame up to, not including, the next one."""
        begin, end = self.place(first), self.place(second)
        if self.rate is None:
            step = (end - begin) / self.factor
            return [Slot(begin + k * step, step, Fraction(k, self.factor)) for k in range(self.factor)]
        interval = 1 / self.rate
        slots = []
        for k in range(ceil((begin - self.start) * self.rate), ceil((end - self.start) * self.rate)):
            time = self.start + k * interval
            position = (time - begin) / (end - begin)
            if min(time - begin, end - time) <= interval / 10:
                position = Fraction(0 if time - begin <= end - time else 1)
            slots.append(Slot(time, interval, position))
        return slots

    def after(self, last: Fraction, duration: Fraction) -> list[Slot]:
        """The output frames from the last source frame on: itself, and held to the end with a target rate."""
        begin = self.place(last)
        if self.rate is None:
            return [Slot(begin, duration, Fraction(0))]
        total = ceil(((last - self.origin + duration) * self.slow) * self.rate)
        first = ceil((begin - self.start) * self.rate)
        interval = 1 / self.rate
        return [Slot(self.start + k * interval, interval, Fraction(0)) for k in range(first, total)]

    def times(self, sources: Iterable[Fraction], last_duration: Fraction) -> Iterator[Slot]:
        """All output frames of a film with these source times."""
        last: Fraction | None = None
        for time in sources:
            if last is not None:
                yield from self.between(last, time)
            last = time
        if last is not None:
            yield from self.after(last, last_duration)

    def ticks(self, sources: Iterable[int], base: Fraction, last_duration: Fraction, unit: Fraction) -> array[int]:
        """The times of all output frames in units of `unit`, where the source times are in units of `base`, not empty.

        The same times as of `times`, which is many times slower for a long film.
        """
        if self.rate is not None:
            last = max(sources) * base
            total = ceil((last - self.origin + last_duration) * self.slow * self.rate)
            first, step, scale = _whole(self.start / unit, 1 / self.rate / unit)
            return array("q", (_nearest(first + k * step, scale) for k in range(total)))
        first, step, scale = _whole((self.start - self.origin * self.slow) / unit, base * self.slow / unit)
        found = array("q")
        before: int | None = None
        for tick in sources:
            if before is not None:
                begin = (first + before * step) * self.factor
                found.extend(
                    _nearest(begin + k * (tick - before) * step, scale * self.factor) for k in range(self.factor)
                )
            before = tick
        assert before is not None
        found.append(_nearest(first + before * step, scale))
        return found

    def time_base(self, source: Fraction) -> Fraction:
        """A unit of which every output time is a whole multiple, where source times are multiples of `source`."""
        offset = Fraction(1, (self.start - self.origin * self.slow).denominator)
        unit = _common(source * self.slow, offset)
        if self.rate is None:
            return unit / self.factor
        return _common(Fraction(1, self.start.denominator), 1 / self.rate)


def gap_limit(ticks: array[int], base: Fraction) -> Fraction:
    """The longest gap that is filled: 5 median intervals, but at least half a second."""
    if len(ticks) < 2:
        return Fraction(1, 2)
    steps = np.diff(np.frombuffer(ticks, np.int64))
    middle = (len(steps) - 1) // 2
    return max(Fraction(1, 2), 5 * int(np.partition(steps, middle)[middle]) * base)


def parse_rate(text: str) -> Fraction:
    """A frame rate such as `60`, `59.94` (taken as 60000/1001) or `60000/1001`."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise SettingError(f"'{text}' is not a frame rate; give a number or a fraction such as 60000/1001") from None
    if not 0 < rate <= 1000:
        raise SettingError(f"a frame rate of {text} is not possible; give one above 0, up to 1000")
    if "/" not in text and rate.denominator > 1:
        for whole in (24, 30, 48, 60, 96, 120, 144, 240):
            broadcast = Fraction(whole * 1000, 1001)
            if abs(rate - broadcast) < Fraction(1, 100):
                return broadcast
    return rate


def _whole(a: Fraction, b: Fraction) -> tuple[int, int, int]:
    """Two fractions as whole numbers over a common denominator, and that."""
    scale = lcm(a.denominator, b.denominator)
    return int(a * scale), int(b * scale), scale


def _nearest(number: int, scale: int) -> int:
    """The whole number nearest to number / scale."""
    return (2 * number + scale) // (2 * scale)


def _common(a: Fraction, b: Fraction) -> Fraction:
    """The largest fraction of which both are whole multiples."""
    denominator = lcm(a.denominator, b.denominator)
    return Fraction(gcd(int(a * denominator), int(b * denominator)), denominator)
