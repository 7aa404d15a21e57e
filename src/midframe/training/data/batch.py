"""Training samples and batches: the tensors that the training loop receives, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class TrainingSample:
    """Two input frames, the true frame between them and the optical flow from it, for crops of S×S pixels."""

    first: Tensor
    """The first input frame, `[3, S, S]`, RGB in 0..255."""
    target: Tensor
    """The true frame at `time`, `[3, S, S]`, RGB in 0..255."""
    second: Tensor
    """The second input frame, `[3, S, S]`, RGB in 0..255."""
    time: Tensor
    """The target's time between the input frames, in (0, 1); a scalar."""
    flow: Tensor
    """Optical flow in pixels from the target to the first frame (x, y) and to the second (x, y), `[4, S, S]`."""
    flow_confidence: Tensor
    """Weight of the flow at each pixel, 0..1, `[1, S, S]`; 0 everywhere if the sample has no flow."""
    flow_is_exact: Tensor
    """1 if the flow is ground truth (synthetic samples), 0 if it is a teacher's estimate; a scalar."""


@dataclass(frozen=True)
class Batch:
    """Training samples stacked along a batch dimension B; fields as in `TrainingSample`."""

    first: Tensor
    """The first input frames, `[B, 3, S, S]`, RGB in 0..255."""
    target: Tensor
    """The true frames at `time`, `[B, 3, S, S]`, RGB in 0..255."""
    second: Tensor
    """The second input frames, `[B, 3, S, S]`, RGB in 0..255."""
    time: Tensor
    """The targets' times, in (0, 1), `[B]`."""
    flow: Tensor
    """Optical flow in pixels from the targets to the first frames (x, y) and to the second (x, y), `[B, 4, S, S]`."""
    flow_confidence: Tensor
    """Weight of the flow at each pixel, 0..1, `[B, 1, S, S]`."""
    flow_is_exact: Tensor
    """1 for ground-truth flow, 0 for a teacher's estimate, `[B]`."""

    @classmethod
    def stack(cls, samples: Sequence[TrainingSample]) -> Batch:
        """Stack samples of one size into a batch."""
        return cls(**{name: torch.stack([getattr(sample, name) for sample in samples]) for name in _FIELDS})

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.first)

    def micro_batch(self, index: int, count: int) -> Batch:
        """Return micro-batch `index` (from 0) of `count` equal ones."""
        return Batch(**{name: getattr(self, name).chunk(count)[index] for name in _FIELDS})

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Copy the batch to a device and a floating-point type, without waiting for the copy to finish."""
        return Batch(**{name: getattr(self, name).to(device, dtype, non_blocking=True) for name in _FIELDS})


_FIELDS = tuple(field.name for field in fields(Batch))
