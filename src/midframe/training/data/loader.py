"""Batches made ahead of the network, in the order of the samples."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from midframe.training.config import Config
from midframe.training.data.batch import Batch
from midframe.training.data.dataset import InMemoryDataset, MemoryMappedDataset
from midframe.training.data.samples import make_batch
from midframe.training.distributed import World

AHEAD = 4
"""Batches that are waiting for the network at most, for each that makes them."""


@contextmanager
def batches(data: InMemoryDataset, config: Config, seen: int, world: World) -> Iterator[Iterator[Batch]]:
    """The batches of this process, without end, in a run that has seen so many samples.

    A step's samples are cut into the processes' batches. Batches are made by a thread or by `config.workers` processes
    while the network works; neither changes what they are.
    """
    firsts = count(seen + world.rank * config.batch, world.size * config.batch)
    if config.workers:
        with tempfile.TemporaryDirectory(prefix="midframe-data-") as folder:
            stored = data.save_pixels(Path(folder) / "windows.bin")
            loader = DataLoader(
                _Batches(stored, config),
                batch_size=None,
                sampler=firsts,
                num_workers=config.workers,
                prefetch_factor=AHEAD,
                multiprocessing_context="spawn",
                worker_init_fn=_begin,
            )
            yield iter(loader)
        return
    with ThreadPoolExecutor(1, "samples") as pool:
        waiting = [pool.submit(_batch, data, config, first) for first in islice(firsts, AHEAD)]

        def follow() -> Iterator[Batch]:
            while True:
                batch = waiting.pop(0).result()
                waiting.append(pool.submit(_batch, data, config, next(firsts)))
                yield batch

        try:
            yield follow()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _batch(data: InMemoryDataset, config: Config, first: int) -> Batch:
    return make_batch(data, config, range(first, first + config.batch))


class _Batches(Dataset[Batch]):
    """What a process that makes samples is sent: its items are batches, by the number of their first sample."""

    def __init__(self, stored: MemoryMappedDataset, config: Config) -> None:
        self.stored, self.config = stored, config
        self.data: InMemoryDataset | None = None

    def __getitem__(self, first: int) -> Batch:
        if self.data is None:
            self.data = self.stored.open()
        return _batch(self.data, self.config, first)


def _begin(_worker: int) -> None:
    """A signal to the whole group is for the process that trains: it ends this one when it has stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
