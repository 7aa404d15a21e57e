"""A run's settings: presets, TOML files, dictionaries, and the errors for wrong ones."""

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
    FLOW_LOSSES,
    DataConfig,
    LossConfig,
    TrainingConfig,
    config_from_dict,
    config_to_dict,
)
from midframe.training.config_file import read_config
from midframe.training.presets import PRESETS
from midframe.training.train.objective import LOSSES, LossInput


def test_presets_have_the_numbers_of_the_report_and_of_its_authors_code() -> None:
    paper, code = PRESETS["paper"], PRESETS["repository"]
    for preset in (paper, code):
        assert (preset.batch_size, preset.samples, preset.network) == (6, 10_000_000, "paper")
        assert (preset.optimiser.learning_rate, preset.discriminator.learning_rate) == (0.0006, 0.0001)
        assert (preset.losses.vgg_layer, preset.discriminator.vgg_layer) == ("relu4_4", "pool5")
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
    assert (paper.discriminator.label_smoothing, paper.discriminator.dropout) == (0.0, 0.5)
    assert (code.discriminator.label_smoothing, code.discriminator.dropout) == (0.125, 0.0)
    assert (paper.optimiser.clip_norm_per_tensor, code.optimiser.clip_norm_per_tensor) == (None, 5.0)
    assert (paper.optimiser.schedule, code.optimiser.schedule) == ("step_decay", "power_decay")
    assert (paper.data.augmentation, code.data.augmentation) == ("paper", "repository")


def test_every_loss_weight_has_a_loss_function() -> None:
    assert LOSSES.keys() == LossConfig().weights.keys()
    assert tuple(name for name, loss in LOSSES.items() if loss.input is LossInput.FLOW_LEVEL) == FLOW_LOSSES


@pytest.mark.parametrize("name", list(PRESETS))
def test_settings_survive_dictionaries_json_and_a_checkpoint(name: str) -> None:
    config = PRESETS[name]
    assert read_config(name) is config
    assert read_config(config_to_dict(config)) == config
    assert read_config(json.loads(json.dumps(config_to_dict(config)))) == config
    assert config_from_dict(config_to_dict(config)) == config


def test_a_file_overrides_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'preset = "guided"\nbatch_size = 8\ncoarse_iterations = [1]\n'
        "[losses]\ncensus = 1\n[network_settings]\ntaps = 7\n"
    )
    guided = PRESETS["guided"]
    expected = replace(
        guided,
        batch_size=8,
        coarse_iterations=(1,),
        network_settings={"taps": 7},
        losses=replace(guided.losses, census=1.0),
    )
    assert read_config(path) == expected
    path.write_text("[losses]\nreconstruction = 1.0\n")
    assert read_config(path) == TrainingConfig(losses=LossConfig(reconstruction=1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('preset = "guided"\nbatches = 8', "batches", id="unknown name"),
        pytest.param('preset = "guided"\n[losses]\ncensuses = 1', "losses.censuses", id="unknown name in a table"),
        pytest.param('preset = "guided"\n[data]\ncrop_size = "wide"', "data.crop_size", id="word for a number"),
        pytest.param('preset = "guided"\nbatch_size = "16"', "batch_size", id="string for an integer"),
        pytest.param('preset = "guided"\nbatch_size = true', "batch_size", id="boolean for an integer"),
        pytest.param('preset = "guided"\nbatch_size = 2.5', "batch_size", id="float for an integer"),
        pytest.param('preset = "guided"\nlosses = 3', "losses", id="number for a table"),
        pytest.param('preset = "guided"\nprecision = "float8"', "precision", id="unknown precision"),
        pytest.param('preset = "guided"\ncoarse_iterations = [1, "x"]', "coarse_iterations.1", id="word in a list"),
        pytest.param(
            'preset = "guided"\nbatch_size = 3',
            "batch_size = 3 cannot be divided into micro_batches = 2 equal parts",
            id="batch not divisible",
        ),
        pytest.param('preset = "guided"\nlog_every = 0', "log_every of 1 or more; got 0", id="log_every 0"),
        pytest.param('preset = "guided"\nvalidate_every = 0', "validate_every of 1 or more", id="validate_every 0"),
        pytest.param(
            'preset = "guided"\n[data]\nsynthetic = 1.5', "data.synthetic from 0 to 1; got 1.5", id="synthetic"
        ),
        pytest.param('preset = "paper"\nmicro_batches = 2', "dropout", id="micro-batches with dropout"),
        pytest.param('preset = "paper"\n[losses]\nflow = 1', "guided", id="flow loss without flow"),
        pytest.param(
            'preset = "naturally"',
            "there is no preset 'naturally'; there are: paper, repository, guided",
            id="unknown preset",
        ),
        pytest.param("preset = [1]", "there is no preset", id="list for a preset"),
        pytest.param("batch_size = 2", "a loss with a weight", id="no loss"),
        pytest.param("batch_size = ", "is no TOML", id="no TOML"),
    ],
)
def test_an_error_in_a_file_names_the_file_and_the_setting(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(SettingError, match=message) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_name_that_is_neither_preset_nor_file_is_refused() -> None:
    with pytest.raises(SettingError, match="'gided' is no preset"):
        read_config("gided")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samples", 0),
        ("minutes", 0.0),
        ("minutes", math.inf),
        ("ema_decay", 1.0),
        ("workers", -1),
        ("coarse_iterations", (0,)),
        ("batch_size", 0),
        ("micro_batches", 0),
        ("seed", -1),
        ("seed", 2**32),
        ("losses.reconstruction", -1.0),
        ("losses.reconstruction", math.inf),
        ("losses.fade_until", -1.0),
        ("data.crop_size", 0),
        ("data.crop_size", -64),
        ("data.max_offset", -1),
        ("data.max_frame_distance", 1),
        ("optimiser.warmup_steps", -1),
        ("optimiser.weight_decay", -1.0),
        ("optimiser.clip_norm", 0.0),
        ("optimiser.clip_norm_per_tensor", -5.0),
        ("optimiser.learning_rate", math.inf),
        ("discriminator.dropout", 1.5),
        ("discriminator.label_smoothing", -0.1),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(name: str, value: Any) -> None:
    config = PRESETS["paper"]
    table, _, setting = name.rpartition(".")
    changes = {table: replace(getattr(config, table), **{setting: value})} if table else {setting: value}
    with pytest.raises(SettingError, match="a run needs"):
        replace(config, **changes)


def test_worker_processes_cannot_make_samples_on_the_device() -> None:
    with pytest.raises(SettingError, match=r"a run needs workers = 0 if data\.on_device is true"):
        replace(PRESETS["paper"], data=DataConfig(on_device=True), workers=1)


def test_without_pydantic_presets_and_checkpoints_are_read_and_files_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import: Callable[..., Any] = builtins.__import__

    def import_without_pydantic(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("pydantic"):
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", import_without_pydantic)
    assert config_from_dict(config_to_dict(read_config("guided"))) == PRESETS["guided"]
    with pytest.raises(DeviceError, match=r"midframe\[train\]"):
        read_config({"preset": "guided"})
