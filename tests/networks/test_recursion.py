"""Frames at other times than the middle from a network that predicts only the middle."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from midframe.networks.average import Average
from midframe.networks.base import FrameWindow, InterpolationNetwork, weighted_mean
from midframe.networks.recursion import nearest_reachable_time
from midframe.synthesis import Synthesiser

FIRST, SECOND = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
"""In frames between these, the value of every pixel is the time of the frame."""


class MiddleOnly(InterpolationNetwork):
    """Predicts only the middle, and counts its calls."""

    any_time = False

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        assert (time == 0.5).all()
        self.calls += 1
        return (first + second) / 2


class AnyTime(InterpolationNetwork):
    """Predicts the weighted mean at any time."""

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        return weighted_mean(first, second, time)


def predicted_times(network: InterpolationNetwork, times: list[Fraction]) -> dict[Fraction, float]:
    """Return for each requested time the time of the frame that was predicted."""
    pair = Synthesiser(network, "off").prepare(FrameWindow(FIRST, SECOND))
    predicted = {}
    for time in times:
        frame = pair.at(time).frame
        assert frame.shape == FIRST.shape
        assert frame.min() == frame.max()
        predicted[time] = float(frame.max())
    return predicted


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_halving_is_exact(factor: int) -> None:
    network = MiddleOnly()
    times = [Fraction(k, factor) for k in range(1, factor)]
    assert predicted_times(network, times) == {t: float(t) for t in times}
    assert network.calls == factor - 1, "every frame is predicted once"


@pytest.mark.parametrize("factor", [3, 5, 7, 16, 64])
def test_other_times_are_the_nearest_eighth(factor: int) -> None:
    network = MiddleOnly()
    predicted = predicted_times(network, [Fraction(k, factor) for k in range(1, factor)])
    for requested, time in predicted.items():
        assert time * 8 == round(time * 8)
        assert 1 / 8 <= time <= 7 / 8
        assert abs(time - requested) <= max(Fraction(1, 16), Fraction(1, 8) - requested, requested - Fraction(7, 8))
    assert network.calls <= 7


def test_nearest_reachable_time() -> None:
    assert nearest_reachable_time(Fraction(1, 3)) == Fraction(3, 8)
    assert nearest_reachable_time(Fraction(2, 5)) == Fraction(3, 8)
    assert nearest_reachable_time(Fraction(1, 100)) == Fraction(1, 8)
    assert nearest_reachable_time(Fraction(99, 100)) == Fraction(7, 8)
    for k in range(1, 64):  # neither direction of time is preferred
        assert nearest_reachable_time(Fraction(k, 64)) == 1 - nearest_reachable_time(Fraction(64 - k, 64))


@pytest.mark.parametrize("network", [AnyTime(), Average()], ids=["any time", "average"])
def test_a_network_for_any_time_gets_the_requested_time(network: InterpolationNetwork) -> None:
    times = [Fraction(1, 3), Fraction(2, 7), Fraction(999, 1000)]
    predicted = predicted_times(network, times)
    assert predicted == {t: pytest.approx(float(t), abs=1e-6) for t in times}
