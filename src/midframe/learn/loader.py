"""Batches made ahead of the network, in the order of the steps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from midframe.learn.config import Config
from midframe.learn.distributed import World
from midframe.learn.objective import Batch
from midframe.learn.packed import Packed, Stored
from midframe.learn.samples import make_batch

AHEAD = 4
"""Batches that are waiting for the network at most, for each that makes them."""


@contextmanager
def batches(data: Packed, config: Config, start: int, world: World) -> Iterator[Iterator[Batch]]:
    """The batches of a run from step `start` on, without end: those of this process.

    They are made by a thread or by `config.workers` processes while the network works; neither changes what they are.
    """
    if config.workers:
        with tempfile.TemporaryDirectory(prefix="midframe-data-") as folder:
            stored = data.save(Path(folder) / "windows.bin")
            loader = DataLoader(
                _Steps(stored, config, world),
                batch_size=None,
                sampler=_From(start),
                num_workers=config.workers,
                prefetch_factor=AHEAD,
                multiprocessing_context="spawn",
            )
            yield iter(loader)
        return
    with ThreadPoolExecutor(1, "samples") as pool:
        steps = count(start)
        waiting = [pool.submit(step_batch, data, config, world, step) for step in islice(steps, AHEAD)]

        def follow() -> Iterator[Batch]:
            while True:
                batch = waiting.pop(0).result()
                waiting.append(pool.submit(step_batch, data, config, world, next(steps)))
                yield batch

        try:
            yield follow()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def step_batch(data: Packed, config: Config, world: World, step: int) -> Batch:
    """The batch of one step in one process: the processes' batches lie side by side in the step's samples."""
    first = (step * world.size + world.rank) * config.batch
    return make_batch(data, config, range(first, first + config.batch))


class _From:
    """The numbers of the steps from one on."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return count(self.start)


class _Steps(Dataset[Batch]):
    """What a process that makes samples is sent."""

    def __init__(self, stored: Stored, config: Config, world: World) -> None:
        self.stored, self.config, self.world = stored, config, world
        self.data: Packed | None = None

    def __getitem__(self, step: int) -> Batch:
        if self.data is None:
            torch.set_num_threads(1)
            self.data = self.stored.open()
        return step_batch(self.data, self.config, self.world, step)
