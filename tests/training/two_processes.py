"""What each process of test_distributed.py runs: `torchrun ... two_processes.py FOLDER OUT`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from midframe.training.config import Config
from midframe.training.distributed import World, joined
from midframe.training.train import loop as trainer
from midframe.training.train import run_folder
from runs import GUIDED, PAPER, packed, shrink_paper

ENOUGH = {"samples": 80, "log_every": 1, "evaluate_every": 1000, "checkpoint_every": 1000}


def configs(folder: Path) -> dict[str, Config]:
    """The runs, dropout off, whose batch of four is one process's."""
    guided = replace(GUIDED, **ENOUGH, shares=1, data=replace(GUIDED.data, crop=48), depths=(1,))
    losses = replace(PAPER.losses, vgg=str(folder / "vgg.pth"))
    discriminator = replace(PAPER.discriminator, dropout=0.0)
    paper = replace(PAPER, **ENOUGH, batch=4, losses=losses, discriminator=discriminator)
    return {"guided": guided, "paper": replace(paper, data=replace(paper.data, crop=32))}


def train_all(folder: Path, out: Path, world: World) -> None:
    """Each run for a step in float64, whose gradients are kept, and for twenty in float32."""
    patch = pytest.MonkeyPatch()
    shrink_paper(patch)
    patch.setattr(trainer, "joined", lambda device: nullcontext(world))
    patch.setattr(run_folder, "draw_curves", lambda runs, target: None)
    real, gradients = trainer.move, []

    def watched(optimiser: Any, given: Any, *more: Any) -> float:
        gradients.append([None if gradient is None else gradient.clone() for gradient in given])
        return float(real(optimiser, given, *more))

    data = packed()
    for name, whole in configs(folder).items():
        config = replace(whole, batch=whole.batch // world.size)
        patch.setattr(trainer, "move", watched)
        gradients.clear()
        trainer.train(replace(config, precision="float64", samples=4), out / f"{name}-64", data=data)
        torch.save(gradients, out / f"{name}-{world.rank}.pt")
        patch.setattr(trainer, "move", real)
        trainer.train(config, out / name, data=data)
    patch.undo()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as world:
        train_all(Path(sys.argv[1]), Path(sys.argv[1]) / sys.argv[2], world)
