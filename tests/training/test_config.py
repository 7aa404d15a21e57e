"""A run's settings: presets, TOML, what is refused and how."""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from midframe.errors import DeviceError, SettingError
from midframe.training.config import (
    PRESETS,
    Config,
    Data,
    Discriminator,
    Losses,
    Optimiser,
    from_tables,
    read_config,
    tables,
)


def test_presets_have_the_numbers_of_the_report_and_of_its_authors_code() -> None:
    paper, code = PRESETS["paper"], PRESETS["repository"]
    for preset in (paper, code):
        assert (preset.batch, preset.samples, preset.network) == (6, 10_000_000, "paper")
        assert (preset.optimiser.rate, preset.discriminator.rate) == (0.0006, 0.0001)
        assert (preset.losses.layer, preset.discriminator.base) == ("relu4_4", "pool5")
    assert {name: weight for name, weight in paper.losses.weights.items() if weight} == {
        "perceptual": 1.0,
        "reconstruction": 0.4,
        "adversarial": 0.8,
    }
    assert {name: weight for name, weight in code.losses.weights.items() if weight} == {
        "perceptual": 1.0,
        "reconstruction": 0.2,
        "adversarial": 1.0,
    }
    assert (paper.discriminator.smoothing, paper.discriminator.dropout) == (0.0, 0.5)
    assert (code.discriminator.smoothing, code.discriminator.dropout) == (0.125, 0.0)
    assert (paper.optimiser.clip_each, code.optimiser.clip_each) == (None, 5.0)
    assert (paper.data.augmentation, code.data.augmentation) == ("paper", "repository")


@pytest.mark.parametrize("name", list(PRESETS))
def test_settings_survive_tables_json_and_a_checkpoint(name: str) -> None:
    config = PRESETS[name]
    assert read_config(name) is config
    assert read_config(tables(config)) == config
    assert read_config(json.loads(json.dumps(tables(config)))) == config
    assert from_tables(tables(config)) == config


def test_a_file_says_what_differs_from_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('preset = "guided"\nbatch = 8\ndepths = [1]\n[losses]\ncensus = 1\n[settings]\ntaps = 7\n')
    guided = PRESETS["guided"]
    wanted = replace(guided, batch=8, depths=(1,), settings={"taps": 7}, losses=replace(guided.losses, census=1.0))
    assert read_config(path) == wanted
    path.write_text("[losses]\nreconstruction = 1.0\n")
    assert read_config(path) == Config(losses=Losses(reconstruction=1.0))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('preset = "guided"\nbatches = 8', "batches"),
        ('preset = "guided"\n[losses]\ncensuses = 1', "losses.censuses"),
        ('preset = "guided"\n[data]\ncrop = "wide"', "data.crop"),
        ('preset = "guided"\nbatch = "16"', "batch"),
        ('preset = "guided"\nbatch = true', "batch"),
        ('preset = "guided"\nbatch = 2.5', "batch"),
        ('preset = "guided"\nlosses = 3', "losses"),
        ('preset = "guided"\nprecision = "float8"', "precision"),
        ('preset = "guided"\ndepths = [1, "x"]', "depths.1"),
        ('preset = "guided"\nbatch = 3', "a batch of 3 cannot be cut into shares = 2 equal ones"),
        ('preset = "guided"\nlog_every = 0', "log_every, evaluate_every, checkpoint_every of 1 or more"),
        ('preset = "guided"\n[data]\ndrawn = 1.5', "drawn samples from 0 to 1; got 1.5"),
        ('preset = "paper"\nshares = 2', "dropout"),
        ('preset = "paper"\n[losses]\nmotion = 1', "guided"),
        ('preset = "naturally"', "there is no preset 'naturally'; there are: paper, repository, guided"),
        ("preset = [1]", "there is no preset"),
        ("batch = 2", "a loss with a weight"),
        ("batch = ", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, written: str, said: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(written)
    with pytest.raises(SettingError, match=said) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_name_that_is_no_preset_and_no_file() -> None:
    with pytest.raises(SettingError, match="'gided' is no preset"):
        read_config("gided")


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 0},
        {"minutes": 0.0},
        {"average": 1.0},
        {"workers": -1},
        {"depths": (0,)},
        {"data": Data(on_device=True), "workers": 1},
        {"losses": Losses(reconstruction=-1.0)},
        {"losses": Losses(reconstruction=math.inf)},
        {"losses": Losses(reconstruction=1.0, fade=-1.0)},
        {"minutes": math.inf},
        {"seed": -1},
        {"seed": 2**32},
        {"data": Data(crop=0)},
        {"data": Data(crop=-64)},
        {"data": Data(offset=-1)},
        {"data": Data(reach=1)},
        {"optimiser": Optimiser(warmup=-1)},
        {"optimiser": Optimiser(weight_decay=-1.0)},
        {"optimiser": Optimiser(clip=0.0)},
        {"optimiser": Optimiser(clip_each=-5.0)},
        {"optimiser": Optimiser(rate=math.inf)},
        {"discriminator": Discriminator(dropout=1.5)},
        {"discriminator": Discriminator(smoothing=-0.1)},
    ],
)
def test_numbers_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="a run needs"):
        replace(PRESETS["paper"], **wrong)


def test_without_pydantic_presets_and_checkpoints_are_read_and_files_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name.startswith("pydantic"):
            raise ImportError(name)
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert from_tables(tables(read_config("guided"))) == PRESETS["guided"]
    with pytest.raises(DeviceError, match=r"midframe\[train\]"):
        read_config({"preset": "guided"})
