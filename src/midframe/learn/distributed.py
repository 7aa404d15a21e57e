"""Several processes on one run: who they are, and how they agree. Started by `torchrun`; alone, all is as without."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


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

    def mean(self, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The mean over the processes of each tensor; none where no process has it. One exchange for all of them."""
        if self.size == 1:
            return list(tensors)
        given = [tensor for tensor in tensors if tensor is not None]
        flat = torch.cat([tensor.reshape(-1) for tensor in given])
        dist.all_reduce(flat)
        flat /= self.size
        parts = iter(torch.split(flat, [tensor.numel() for tensor in given]))
        return [None if tensor is None else next(parts).view(tensor.shape) for tensor in tensors]

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return here
        answer = torch.tensor(float(here), device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(answer, op=dist.ReduceOp.MAX)
        return bool(answer)

    def share(self, values: Sequence[float]) -> list[float]:
        """The leading process's numbers, in all processes."""
        if self.size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        sent = torch.tensor(values, dtype=torch.float64, device=device)
        dist.broadcast(sent, 0)
        return [float(value) for value in sent.tolist()]


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Join the processes that `torchrun` started, if it did; leave them at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
