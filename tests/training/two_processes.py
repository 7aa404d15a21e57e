"""The program of each process of test_distributed.py: `torchrun ... two_processes.py FOLDER NAME`.

It trains in FOLDER/NAME.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from midframe.training.config import TrainingConfig
from midframe.training.distributed import World, join_process_group
from midframe.training.train import curves, loop
from midframe.training.train.setup import Datasets
from runs import GUIDED, PAPER, in_memory_dataset, shrink_paper

LENGTH = {"samples": 80, "log_every": 1, "validate_every": 1000, "checkpoint_every": 1000}


def configs(folder: Path) -> dict[str, TrainingConfig]:
    """Return the settings of the runs, with batches of four samples for one process, and without dropout."""
    guided = replace(GUIDED, **LENGTH, micro_batches=1, data=replace(GUIDED.data, crop_size=48), coarse_iterations=(1,))
    paper = replace(
        PAPER,
        **LENGTH,
        batch_size=4,
        losses=replace(PAPER.losses, vgg_file=str(folder / "vgg.pth")),
        discriminator=replace(PAPER.discriminator, dropout=0.0),
        data=replace(PAPER.data, crop_size=32),
    )
    return {"guided": guided, "paper": paper}


def train_all(folder: Path, out: Path, world: World) -> None:
    """Train each network for one step in float64, saving the gradients, and for twenty steps in float32."""
    patch = pytest.MonkeyPatch()
    shrink_paper(patch)
    patch.setattr(loop, "join_process_group", lambda device: nullcontext(world))
    patch.setattr(curves, "draw_curves", lambda folders, target: None)
    real_step, gradients = loop.optimiser_step, []

    def record(optimiser: Any, given: Any, *arguments: Any) -> float:
        gradients.append([None if gradient is None else gradient.clone() for gradient in given])
        return float(real_step(optimiser, given, *arguments))

    datasets = Datasets(in_memory_dataset())
    for name, whole in configs(folder).items():
        config = replace(whole, batch_size=whole.batch_size // world.world_size)
        patch.setattr(loop, "optimiser_step", record)
        gradients.clear()
        loop.train(replace(config, precision="float64", samples=4), out / f"{name}-64", datasets=datasets)
        torch.save(gradients, out / f"{name}-{world.rank}.pt")
        patch.setattr(loop, "optimiser_step", real_step)
        loop.train(config, out / name, datasets=datasets)
    patch.undo()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with join_process_group(torch.device("cpu")) as world:
        train_all(Path(sys.argv[1]), Path(sys.argv[1]) / sys.argv[2], world)
