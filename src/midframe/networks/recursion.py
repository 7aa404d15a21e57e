"""Reach other times than the middle with a network that predicts only the middle."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from torch import Tensor

RECURSION_DEPTH = 3
"""Halvings of the interval between two frames; the times that can be reached are its eighths."""


class MidpointRecursion:
    """Frames at the eighths between two frames: the network is applied again to the frames that it predicted.

    predict_middle: returns the frame halfway between two frames. Each frame is predicted once and kept.
    """

    def __init__(self, first: Tensor, second: Tensor, predict_middle: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._predict_middle = predict_middle
        self._frames = {Fraction(0): first, Fraction(1): second}

    def at(self, time: Fraction) -> Tensor:
        """Return the frame at the reachable time that is nearest to `time`."""
        return self._frame_at(nearest_reachable_time(time))

    def _frame_at(self, time: Fraction) -> Tensor:
        """Return the frame at a reachable time; predict it from the two frames around it if it is not there yet."""
        if time not in self._frames:
            step = Fraction(1, time.denominator)
            before, after = self._frame_at(time - step), self._frame_at(time + step)
            self._frames[time] = self._predict_middle(before, after)
        return self._frames[time]


def nearest_reachable_time(time: Fraction) -> Fraction:
    """Return the time in (0, 1) nearest to `time` that `RECURSION_DEPTH` halvings reach."""
    parts = 1 << RECURSION_DEPTH
    return Fraction(min(max(round(time * parts), 1), parts - 1), parts)
