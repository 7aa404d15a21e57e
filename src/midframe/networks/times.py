"""Frames at any time from any network: directly, or by halving for one that makes only the middle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from torch import Tensor

from midframe.networks.base import InterpolationNetwork

DEPTH = 3
"""How often a network that makes only the middle is applied in turn: times come in eighths."""


def frames_at(
    network: InterpolationNetwork, first: Tensor, second: Tensor, times: Sequence[Fraction]
) -> Iterator[tuple[Fraction, Tensor]]:
    """The network's frames `[B, 3, H, W]` at these times in (0, 1), between two frames `[B, 3, H, W]`, one by one.

    A network that makes only the middle is applied to its own frames again, three times at most; the nearest time that
    this reaches is taken.
    """
    batch = first.shape[0]
    if network.any_time:
        for time in times:
            yield time, network(first, second, first.new_full((batch,), float(time)))
        return
    half = first.new_full((batch,), 0.5)
    known = {Fraction(0): first, Fraction(1): second}

    def at(time: Fraction) -> Tensor:
        if time not in known:
            step = Fraction(1, time.denominator)
            known[time] = network(at(time - step), at(time + step), half)
        return known[time]

    for time in times:
        yield time, at(nearest_reached(time))


def nearest_reached(time: Fraction) -> Fraction:
    """The nearest time that halving reaches in `DEPTH` steps."""
    parts = 1 << DEPTH
    return Fraction(min(max(round(time * parts), 1), parts - 1), parts)
