"""Batches made ahead: the same whoever makes them, from wherever a run goes on."""

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
from runs import GUIDED, PAPER, packed, same

ALONE = World()


def first(
    count: int, data: InMemoryDataset, config: TrainingConfig, seen: int = 0, world: World = ALONE
) -> list[Batch]:
    with prefetch_batches(data, config, seen, world) as batches:
        return list(islice(batches, count))


def test_batches_follow_each_other_from_where_the_run_stands() -> None:
    data = packed()
    made = first(6, data, PAPER)
    assert same(torch.cat([batch.first for batch in made]), make_batch(data, PAPER, range(12)).first)
    assert same(vars(first(1, data, PAPER, seen=8)[0]), vars(made[4]))


def test_processes_share_a_steps_samples() -> None:
    data = packed()
    whole = first(3, data, replace(PAPER, batch_size=4))
    parts = [first(3, data, PAPER, world=World(rank, 2)) for rank in range(2)]
    for step, batch in enumerate(whole):
        for name, values in vars(batch).items():
            assert same(values, torch.cat([getattr(part[step], name) for part in parts]))


@pytest.mark.slow
def test_processes_that_make_samples_make_the_same() -> None:
    data = packed()
    config = replace(GUIDED, data=replace(GUIDED.data, crop_size=32))
    wanted = first(5, data, config, seen=4)
    made = first(5, data, replace(config, workers=2), seen=4)
    assert all(same(vars(one), vars(other)) for one, other in zip(wanted, made, strict=True))


def test_what_goes_wrong_while_samples_are_made_is_said() -> None:
    with pytest.raises(SettingError, match="cannot be cut out of frames"):
        first(1, packed(), replace(PAPER, data=replace(PAPER.data, crop_size=200)))
