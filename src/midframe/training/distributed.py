"""Distributed data-parallel training: the processes of a run started by `torchrun`, and what they exchange.

A run without `torchrun` is a world of one process, in which every exchange returns its argument.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def join_process_group(device: torch.device) -> Iterator[World]:
    """Join the process group if `torchrun` started this process, and leave it at the end.

    The group communicates by NCCL if `device` is a CUDA device, else by Gloo.
    """
    world = World(
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )
    if world.world_size == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield world
    finally:
        dist.destroy_process_group()


def is_main_process() -> bool:
    """Return whether this process has rank 0, by the environment that `torchrun` sets; true without `torchrun`."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them."""

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process among those on the same machine, which is the index of its CUDA device."""

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which alone validates, prints and writes files."""
        return self.rank == 0

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean over all processes of each tensor. All tensors have one type and are sent as one message."""
        if self.world_size == 1:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world_size
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def any(self, condition: bool) -> bool:
        """Return whether the condition is true in any process."""
        if self.world_size == 1:
            return condition
        flag = torch.tensor(float(condition), device=_communication_device())
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def broadcast(self, value: float) -> float:
        """Return the main process's value in every process."""
        if self.world_size == 1:
            return value
        message = torch.tensor(value, dtype=torch.float64, device=_communication_device())
        dist.broadcast(message, 0)
        return float(message)


def _communication_device() -> str:
    """Return the device whose tensors the process group can send."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
