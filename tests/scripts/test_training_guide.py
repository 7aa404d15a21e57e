"""docs/training.md names every setting, loss and preset there is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from midframe.training.config import PRESETS, Config, Data, Discriminator, Losses, Optimiser
from midframe.training.train.run_folder import BEST, CHECKPOINT, CONFIG, CURVES, ENVIRONMENT, LAST, LOG

GUIDE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
TABLES = {"data": Data, "losses": Losses, "optimiser": Optimiser, "discriminator": Discriminator}
NAMES = [
    *(field.name for field in fields(Config) if field.name not in TABLES),
    *(f"{table}.{field.name}" for table, kind in TABLES.items() for field in fields(kind) if kind is not Losses),
    *Losses().weights,
    *(f"losses.{name}" for name in ("fade", "vgg", "layer")),
    *PRESETS,
    *(BEST, CHECKPOINT, CONFIG, CURVES, ENVIRONMENT, LAST, LOG),
]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_in_the_guide(name: str) -> None:
    assert f"`{name}`" in GUIDE
