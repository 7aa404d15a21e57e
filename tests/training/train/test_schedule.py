"""Learning-rate schedules against the report's and its author's numbers."""

from __future__ import annotations

import pytest

from midframe.training.config import OptimiserConfig
from midframe.training.presets import PRESETS
from midframe.training.train.schedule import learning_rate_at

TEN_MILLION = 10**7
"""Samples of a run by the report."""


def test_step_decay_multiplies_by_0_99_every_ten_thousand_samples() -> None:
    optimiser = PRESETS["paper"].optimiser
    assert learning_rate_at(optimiser, 0, 0, TEN_MILLION) == 0.0006
    assert learning_rate_at(optimiser, 1666, 9_996, TEN_MILLION) == 0.0006
    assert learning_rate_at(optimiser, 1667, 10_002, TEN_MILLION) == pytest.approx(0.0006 * 0.99)
    assert learning_rate_at(optimiser, 50_000, 300_000, TEN_MILLION) == pytest.approx(0.0006 * 0.99**30)


def test_power_decay_takes_the_0_99th_root_every_ten_thousand_samples() -> None:
    optimiser = PRESETS["repository"].optimiser
    assert learning_rate_at(optimiser, 0, 100_000, TEN_MILLION) == pytest.approx(2.7e-4, rel=0.02)
    assert learning_rate_at(optimiser, 0, 500_000, TEN_MILLION) == pytest.approx(4.7e-6, rel=0.02)
    rate = optimiser.learning_rate
    for _ in range(7):
        rate = rate ** (1 / 0.99)
    assert learning_rate_at(optimiser, 0, 79_999, TEN_MILLION) == pytest.approx(rate)


def test_cosine_falls_to_a_thousandth() -> None:
    optimiser = OptimiserConfig(learning_rate=2.0, schedule="cosine")
    assert learning_rate_at(optimiser, 0, 0, 1000) == 2.0
    assert learning_rate_at(optimiser, 0, 500, 1000) == pytest.approx(2 * (0.001 + 0.999 / 2))
    assert learning_rate_at(optimiser, 0, 1000, 1000) == pytest.approx(0.002)
    assert learning_rate_at(optimiser, 0, 5000, 1000) == pytest.approx(0.002)
    rates = [learning_rate_at(optimiser, 0, samples, 1000) for samples in range(0, 1001, 50)]
    assert rates == sorted(rates, reverse=True)


def test_warmup_raises_the_rate_linearly() -> None:
    optimiser = OptimiserConfig(learning_rate=1.0, schedule="constant", warmup_steps=4)
    rates = [learning_rate_at(optimiser, step, step, 100) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
