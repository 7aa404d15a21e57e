"""Batches made in the background while the network trains, in the order of the samples."""

from __future__ import annotations

import signal
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from midframe.training.config import TrainingConfig
from midframe.training.data.batch import Batch
from midframe.training.data.dataset import InMemoryDataset, MemoryMappedDataset
from midframe.training.data.samples import make_batch
from midframe.training.distributed import World

PREFETCHED_BATCHES = 4
"""Batches made in advance, for each thread or process that makes them."""


@contextmanager
def prefetch_batches(
    data: InMemoryDataset, config: TrainingConfig, first_sample: int, world: World
) -> Iterator[Iterator[Batch]]:
    """Yield an endless iterator over this process's batches of a training run.

    first_sample: the number of the first sample to make, counted from the start of the run; above 0 when a run is
    continued. The samples of a step are divided among the processes of `world`, a batch each. Batches are made by a
    thread, or by `config.workers` processes; they are the same either way.
    """
    first_samples = count(first_sample + world.rank * config.batch_size, world.world_size * config.batch_size)
    if config.workers:
        with tempfile.TemporaryDirectory(prefix="midframe-data-") as folder:
            loader = DataLoader(
                _BatchDataset(data.save_pixels(Path(folder) / "windows.bin"), config),
                batch_size=None,
                sampler=first_samples,
                num_workers=config.workers,
                prefetch_factor=PREFETCHED_BATCHES,
                multiprocessing_context="spawn",
                worker_init_fn=_initialise_worker,
            )
            yield iter(loader)
        return
    with ThreadPoolExecutor(1, "samples") as pool:
        pending = deque(
            pool.submit(_batch_from, data, config, first) for first in islice(first_samples, PREFETCHED_BATCHES)
        )

        def batches() -> Iterator[Batch]:
            while True:
                batch = pending.popleft().result()
                pending.append(pool.submit(_batch_from, data, config, next(first_samples)))
                yield batch

        try:
            yield batches()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _batch_from(data: InMemoryDataset, config: TrainingConfig, first: int) -> Batch:
    """Make the batch of the samples from number `first` on."""
    return make_batch(data, config, range(first, first + config.batch_size))


class _BatchDataset(Dataset[Batch]):
    """The data set as a `DataLoader` worker sees it: item k is the batch whose first sample has number k."""

    def __init__(self, stored: MemoryMappedDataset, config: TrainingConfig) -> None:
        self.stored, self.config = stored, config
        self.data: InMemoryDataset | None = None

    def __getitem__(self, first: int) -> Batch:
        if self.data is None:
            self.data = self.stored.open()
        return _batch_from(self.data, self.config, first)


def _initialise_worker(_worker: int) -> None:
    """Prepare a `DataLoader` worker: one thread, and Ctrl-C left to the training process, which ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
