"""Prefetched batches: independent of threads, processes and the sample at which a run continues."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch

from midframe.errors import SettingError
from midframe.training.config import TrainingConfig
from midframe.training.data.batch import Batch
from midframe.training.data.dataset import InMemoryDataset
from midframe.training.data.loader import prefetch_batches
from midframe.training.data.samples import make_batch
from midframe.training.distributed import World
from runs import GUIDED, PAPER, equal_values, in_memory_dataset

ALONE = World()


def first_batches(
    count: int, data: InMemoryDataset, config: TrainingConfig, first_sample: int = 0, world: World = ALONE
) -> list[Batch]:
    with prefetch_batches(data, config, first_sample, world) as batches:
        return list(islice(batches, count))


def test_batches_continue_at_any_sample() -> None:
    data = in_memory_dataset()
    batches = first_batches(6, data, PAPER)
    assert equal_values(torch.cat([batch.first for batch in batches]), make_batch(data, PAPER, range(12)).first)
    assert equal_values(vars(first_batches(1, data, PAPER, first_sample=8)[0]), vars(batches[4]))


def test_ranks_divide_the_samples_of_a_step() -> None:
    data = in_memory_dataset()
    whole = first_batches(3, data, replace(PAPER, batch_size=4))
    parts = [first_batches(3, data, PAPER, world=World(rank, 2)) for rank in range(2)]
    for step, batch in enumerate(whole):
        for name, values in vars(batch).items():
            assert equal_values(values, torch.cat([getattr(part[step], name) for part in parts]))


@pytest.mark.slow
def test_worker_processes_make_the_same_batches() -> None:
    data = in_memory_dataset()
    config = replace(GUIDED, data=replace(GUIDED.data, crop_size=32))
    expected = first_batches(5, data, config, first_sample=4)
    batches = first_batches(5, data, replace(config, workers=2), first_sample=4)
    assert all(equal_values(vars(one), vars(other)) for one, other in zip(expected, batches, strict=True))


def test_an_error_in_the_background_is_raised() -> None:
    with pytest.raises(SettingError, match="cannot be cut out of frames"):
        first_batches(1, in_memory_dataset(), replace(PAPER, data=replace(PAPER.data, crop_size=200)))
