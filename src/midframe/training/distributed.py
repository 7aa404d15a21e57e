"""Several processes on one run: who they are, and how they agree. Started by `torchrun`; alone, all is as without."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

ENVIRONMENT = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
"""What `torchrun` says to each process, and what holds without it."""


@dataclass(frozen=True)
class World:
    """The processes of a run. rank: this one's number. size: how many. local: its number on this machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes, prints and evaluates."""
        return self.rank == 0

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The mean over the processes of each tensor (of one type). One exchange for all of them."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return here
        answer = torch.tensor(float(here), device=_place())
        dist.all_reduce(answer, op=dist.ReduceOp.MAX)
        return bool(answer)

    def share(self, value: float) -> float:
        """The leading process's number, in all processes."""
        if self.size == 1:
            return value
        sent = torch.tensor(value, dtype=torch.float64, device=_place())
        dist.broadcast(sent, 0)
        return float(sent)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Join the processes that `torchrun` started, if it did; leave them at the end."""
    rank, size, local = (int(os.environ.get(name, alone)) for name, alone in ENVIRONMENT.items())
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank, size, local)
    finally:
        dist.destroy_process_group()


def leads() -> bool:
    """Whether this process is the leading one of those that `torchrun` started, or alone."""
    return os.environ.get("RANK", "0") == "0"


def _place() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
