"""Learning-rate schedules."""

from __future__ import annotations

import math

from midframe.training.config import OptimiserConfig

DECAY_INTERVAL = 10_000
"""Samples between two reductions of the learning rate by `step_decay` and `power_decay`. The report gives no interval;
its author's code has this one."""

DECAY = 0.99
"""Factor (`step_decay`) or inverse exponent (`power_decay`) of each reduction."""

COSINE_FLOOR = 0.001
"""Fraction of the learning rate at which `cosine` ends."""


def learning_rate_at(optimiser: OptimiserConfig, step: int, samples: int, total_samples: int) -> float:
    """Return the learning rate of a step.

    step: number of the step from 0. samples: samples seen before the step, of `total_samples` in the run.

    With r the configured learning rate and k = samples // 10,000, the schedules are:
    `step_decay`: r · 0.99^k (the report). `power_decay`: r^(0.99^-k) (its author's code, which replaces r by r^(1/0.99)
    every 10,000 samples). `cosine`: half a cosine from r to r / 1000 over the run. `constant`: r.
    During the first `warmup_steps` steps the result is multiplied by (step + 1) / warmup_steps.
    """
    reductions = samples // DECAY_INTERVAL
    if optimiser.schedule == "step_decay":
        rate = optimiser.learning_rate * DECAY**reductions
    elif optimiser.schedule == "power_decay":
        rate = optimiser.learning_rate ** ((1 / DECAY) ** reductions)
    elif optimiser.schedule == "cosine":
        progress = min(1.0, samples / total_samples)
        cosine = 0.5 + 0.5 * math.cos(math.pi * progress)
        rate = optimiser.learning_rate * (COSINE_FLOOR + (1 - COSINE_FLOOR) * cosine)
    else:
        rate = optimiser.learning_rate
    return rate * min(1.0, (step + 1) / optimiser.warmup_steps) if optimiser.warmup_steps else rate
