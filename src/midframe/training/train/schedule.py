"""The learning rate as a function of how far a run has come."""

from __future__ import annotations

import math

from midframe.training.config import Optimiser

INTERVAL = 10_000
"""Samples between two steps of the report's and its author's decay."""
DECAY = 0.99


def rate_at(how: Optimiser, step: int, samples: int, total: int) -> float:
    """The learning rate of a step, `samples` of `total` seen before it.

    `paper`: rate · 0.99^k, k the number of whole 10,000 samples (the report gives no interval: the code's is taken).
    `repository`: the code's rate ← rate^(1/0.99), k times. `cosine`: half a cosine down to a thousandth. `constant`.
    All rise evenly over the first `warmup` steps.
    """
    times = samples // INTERVAL
    if how.schedule == "paper":
        rate = how.rate * DECAY**times
    elif how.schedule == "repository":
        rate = how.rate ** ((1 / DECAY) ** times)
    elif how.schedule == "cosine":
        done = min(1.0, samples / total)
        rate = how.rate * (0.001 + 0.999 * (0.5 + 0.5 * math.cos(math.pi * done)))
    else:
        rate = how.rate
    return rate * min(1.0, (step + 1) / how.warmup) if how.warmup else rate
