"""The memory that training takes."""

from __future__ import annotations

from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """What a step takes beyond the data set: weights, optimisers, activations, gradients, in bytes.

    On CUDA the most that was allocated; on a CPU the most that was resident less what was before the first step, where
    the system tells (Linux), else nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        self.before = _resident("VmRSS")
        try:
            CLEAR.write_text("5")  # the peak starts again from here
        except OSError:
            self.before = None

    def peak(self) -> int | None:
        """The most so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        now = _resident("VmHWM")
        return None if self.before is None or now is None else now - self.before


def _resident(name: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None
