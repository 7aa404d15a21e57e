"""What changes during a training run: its state, which a checkpoint stores, and its speed, which it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

import torch
from torch import Tensor

TIMED_STEPS = (10, 50)
"""A run whose length is given in minutes measures its speed over the steps from the first number up to the second."""


@dataclass
class TrainingState:
    """The mutable state of a run between two steps, apart from the models' and optimisers' own."""

    step: int = 0
    """Steps done."""
    samples: int = 0
    """Samples seen, by all processes together."""
    total_samples: int | None = None
    """Length of the run in samples; None while its minutes are not yet converted to samples."""
    seconds: float = 0.0
    """Time spent in steps."""
    ema_weights: list[Tensor] = field(default_factory=list)
    """Exponential moving average of each parameter of the generator; empty if the run has none."""
    best_psnr: float = -math.inf
    """Best PSNR in dB on the validation set so far."""
    step_seconds: list[float] = field(default_factory=list)
    """Duration of each of the first `TIMED_STEPS[1]` steps."""
    loss_sums: dict[str, float] = field(default_factory=dict)
    """Sum of each loss over the steps since the last line of the log."""
    unlogged_steps: int = 0
    """Number of steps since the last line of the log."""

    @property
    def is_over(self) -> bool:
        """Whether the run has seen all of its samples."""
        return self.total_samples is not None and self.samples >= self.total_samples

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, 0..1; 0 while its length is not known."""
        return self.samples / self.total_samples if self.total_samples else 0.0

    @property
    def speed_is_known(self) -> bool:
        """Whether the steps over which the speed is measured (`TIMED_STEPS`) are done."""
        return self.step >= TIMED_STEPS[1]

    @property
    def seconds_per_step(self) -> float:
        """Mean duration of the steps over which the speed is measured; valid once `speed_is_known`."""
        return mean(self.step_seconds[TIMED_STEPS[0] :])

    def is_due(self, interval: int) -> bool:
        """Return whether an action that is due every `interval` steps, and at the end of the run, is due now."""
        return self.step % interval == 0 or self.is_over

    def record_step(self, losses: dict[str, float], samples: int, seconds: float) -> None:
        """Count a finished step."""
        self.step += 1
        self.samples += samples
        self.seconds += seconds
        if len(self.step_seconds) < TIMED_STEPS[1]:
            self.step_seconds.append(seconds)
        self.loss_sums = {name: self.loss_sums.get(name, 0.0) + value for name, value in losses.items()}
        self.unlogged_steps += 1

    def take_mean_losses(self) -> dict[str, float]:
        """Return the mean of each loss since the last call, and start the next mean."""
        means = {name: value / self.unlogged_steps for name, value in self.loss_sums.items()}
        self.loss_sums, self.unlogged_steps = {}, 0
        return means

    def update_ema(self, weights: Sequence[Tensor], decay: float) -> None:
        """Update the moving average after an optimiser step; call before `record_step`.

        After n steps the decay is min(decay, (n + 1) / (n + 10)), so the initial weights lose their influence soon.
        """
        if decay:
            decay = min(decay, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(self.ema_weights, [weight.detach() for weight in weights], 1 - decay)


@dataclass(frozen=True)
class Progress:
    """The progress of a run as it is reported to the user."""

    step: int
    """Steps done."""
    samples: int
    """Samples seen."""
    total_samples: int | None
    """Length of the run in samples; None while it is not known."""
    samples_per_second: float
    """Speed of all processes together since the last report."""
    data_wait: float
    """Fraction of the time since the last report that was spent waiting for samples, 0..1."""
    losses: dict[str, float]
    """Mean of each loss since the last report."""

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of the run at the present speed; None while it is not known."""
        if self.total_samples is None or not self.samples_per_second:
            return None
        return (self.total_samples - self.samples) / self.samples_per_second


@dataclass
class Throughput:
    """Samples, time and waiting time of the steps since the last report."""

    samples: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0

    def record_step(self, samples: int, seconds: float, waiting_seconds: float) -> None:
        """Count a finished step."""
        self.samples += samples
        self.seconds += seconds
        self.waiting_seconds += waiting_seconds

    def report(self, state: TrainingState) -> Progress:
        """Return the progress since the last report, and start counting for the next one."""
        progress = Progress(
            step=state.step,
            samples=state.samples,
            total_samples=state.total_samples,
            samples_per_second=self.samples / self.seconds,
            data_wait=self.waiting_seconds / self.seconds,
            losses=state.take_mean_losses(),
        )
        self.samples, self.seconds, self.waiting_seconds = 0, 0.0, 0.0
        return progress
