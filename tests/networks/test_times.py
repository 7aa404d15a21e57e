"""Frames at any time, from a network that makes any and from one that makes only the middle."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from midframe.networks.average import Average
from midframe.networks.base import InterpolationNetwork
from midframe.networks.times import frames_at, nearest_reached


class Middle(InterpolationNetwork):
    """Makes only the middle, and counts how often it is asked."""

    any_time = False

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        assert (time == 0.5).all()
        self.calls += 1
        return (first + second) / 2


class AnyTime(InterpolationNetwork):
    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        return torch.lerp(first, second, time.view(-1, 1, 1, 1))


ENDS = (torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16))


def times_made(network: InterpolationNetwork, times: list[Fraction]) -> dict[Fraction, float]:
    """For frames that are 0 and 1 everywhere, the value of a frame is its true time."""
    found = {}
    for asked, frame in frames_at(network, *ENDS, times):
        assert frame.shape == ENDS[0].shape
        assert frame.min() == frame.max()
        found[asked] = float(frame.max())
    assert list(found) == times
    return found


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_halving_is_exact(factor: int) -> None:
    network = Middle()
    times = [Fraction(k, factor) for k in range(1, factor)]
    assert times_made(network, times) == {t: float(t) for t in times}
    assert network.calls == factor - 1  # every frame is made once


@pytest.mark.parametrize("factor", [3, 5, 7, 16, 64])
def test_other_times_are_the_nearest_eighth(factor: int) -> None:
    network = Middle()
    made = times_made(network, [Fraction(k, factor) for k in range(1, factor)])
    for asked, got in made.items():
        assert got * 8 == round(got * 8)
        assert 1 / 8 <= got <= 7 / 8
        assert abs(got - asked) <= max(Fraction(1, 16), Fraction(1, 8) - asked, asked - Fraction(7, 8))
    assert network.calls <= 7


def test_nearest_reached() -> None:
    assert nearest_reached(Fraction(1, 3)) == Fraction(3, 8)
    assert nearest_reached(Fraction(2, 5)) == Fraction(3, 8)
    assert nearest_reached(Fraction(1, 100)) == Fraction(1, 8)
    assert nearest_reached(Fraction(99, 100)) == Fraction(7, 8)
    for k in range(1, 64):  # neither direction of time is preferred
        assert nearest_reached(Fraction(k, 64)) == 1 - nearest_reached(Fraction(64 - k, 64))


@pytest.mark.parametrize("network", [AnyTime(), Average()])
def test_any_time_is_asked_for_directly(network: InterpolationNetwork) -> None:
    times = [Fraction(1, 3), Fraction(2, 7), Fraction(999, 1000)]
    made = times_made(network, times)
    assert made == {t: pytest.approx(float(t), abs=1e-6) for t in times}
