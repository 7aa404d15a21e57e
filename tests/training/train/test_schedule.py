"""The learning rate, against the report's and its author's numbers."""

from __future__ import annotations

import pytest

from midframe.training.config import PRESETS, Optimiser
from midframe.training.train.schedule import rate_at


def test_the_reports_rate_loses_a_hundredth_each_ten_thousand_samples() -> None:
    how = PRESETS["paper"].optimiser
    assert rate_at(how, 0, 0, 10**7) == 0.0006
    assert rate_at(how, 1666, 9_996, 10**7) == 0.0006
    assert rate_at(how, 1667, 10_002, 10**7) == pytest.approx(0.0006 * 0.99)
    assert rate_at(how, 50_000, 300_000, 10**7) == pytest.approx(0.0006 * 0.99**30)


def test_the_authors_code_takes_a_root_each_ten_thousand_samples() -> None:
    how = PRESETS["repository"].optimiser
    assert rate_at(how, 0, 100_000, 10**7) == pytest.approx(2.7e-4, rel=0.02)
    assert rate_at(how, 0, 500_000, 10**7) == pytest.approx(4.7e-6, rel=0.02)
    rate = how.rate
    for _ in range(7):
        rate = rate ** (1 / 0.99)
    assert rate_at(how, 0, 79_999, 10**7) == pytest.approx(rate)


def test_cosine_falls_from_all_to_a_thousandth() -> None:
    how = Optimiser(rate=2.0, schedule="cosine")
    assert rate_at(how, 0, 0, 1000) == 2.0
    assert rate_at(how, 0, 500, 1000) == pytest.approx(2 * (0.001 + 0.999 / 2))
    assert rate_at(how, 0, 1000, 1000) == pytest.approx(0.002)
    assert rate_at(how, 0, 5000, 1000) == pytest.approx(0.002)
    rates = [rate_at(how, 0, k, 1000) for k in range(0, 1001, 50)]
    assert rates == sorted(rates, reverse=True)


def test_all_rise_over_the_warmup() -> None:
    how = Optimiser(rate=1.0, schedule="constant", warmup=4)
    assert [rate_at(how, step, step, 100) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
