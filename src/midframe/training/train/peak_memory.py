"""Measure the peak memory of training."""

from __future__ import annotations

from pathlib import Path

import torch

STATUS_FILE, CLEAR_FILE = Path("/proc/self/status"), Path("/proc/self/clear_refs")
"""Linux: the memory of this process, and the file that resets its peak."""

RESET_PEAK = "5"
"""Value that resets the peak resident memory when written to `CLEAR_FILE`."""


class PeakMemory:
    """Peak memory since its creation, in bytes: weights, optimiser states, activations and gradients.

    On CUDA this is the largest amount allocated by tensors. On a CPU it is the peak resident memory minus the resident
    memory at the start, so it leaves out the data set; it is known on Linux only.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        self.initial = _read_status("VmRSS")
        try:
            CLEAR_FILE.write_text(RESET_PEAK)
        except OSError:
            self.initial = None

    def peak(self) -> int | None:
        """Return the peak so far in bytes; None if the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = _read_status("VmHWM")
        return None if self.initial is None or peak is None else peak - self.initial


def _read_status(name: str) -> int | None:
    """Return an entry of `STATUS_FILE` in bytes; None if it cannot be read."""
    try:
        lines = STATUS_FILE.read_text().splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith(f"{name}:")), None)
    return None if kilobytes is None else int(kilobytes) * 1024
