"""docs/training.md names every setting, loss, preset and file of a run."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from midframe.training.config import DataConfig, DiscriminatorConfig, LossConfig, OptimiserConfig, TrainingConfig
from midframe.training.presets import PRESETS
from midframe.training.train.run_folder import BEST_WEIGHTS, CHECKPOINT, CONFIG, CURVES, ENVIRONMENT, LOG, WEIGHTS

GUIDE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
TABLES = {
    "data": DataConfig,
    "losses": LossConfig,
    "optimiser": OptimiserConfig,
    "discriminator": DiscriminatorConfig,
}
NAMES = [
    *(field.name for field in fields(TrainingConfig) if field.name not in TABLES),
    *(f"{table}.{field.name}" for table, kind in TABLES.items() for field in fields(kind) if kind is not LossConfig),
    *LossConfig().weights,
    *(f"losses.{name}" for name in ("fade_until", "vgg_file", "vgg_layer")),
    *PRESETS,
    *(BEST_WEIGHTS, CHECKPOINT, CONFIG, CURVES, ENVIRONMENT, LOG, WEIGHTS),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_guide_names(name: str) -> None:
    assert f"`{name}`" in GUIDE
