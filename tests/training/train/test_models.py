"""Building the models of a run, and the copies that are validated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import midframe
from midframe.errors import SettingError
from midframe.networks.guided import Guided
from midframe.networks.weights import save_weights
from midframe.training.config import LossConfig, TrainingConfig
from midframe.training.train.models import build_models
from runs import GUIDED, PAPER, equal_values, shrink_paper, write_small_vgg

CPU = torch.device("cpu")


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TrainingConfig:
    shrink_paper(monkeypatch)
    return replace(PAPER, losses=replace(PAPER.losses, vgg_file=str(write_small_vgg(tmp_path / "vgg.pth"))))


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_evaluation_copy_has_averaged_weights_in_float32_and_no_dropout(paper: TrainingConfig) -> None:
    models = build_models(replace(paper, precision="bfloat16"), CPU)
    average = [weight.detach() + 1 for weight in models.generator.parameters()]
    before = weights_of(models.generator)
    copied = models.evaluation_copy(average)
    assert all(torch.equal(weight, mean) for weight, mean in zip(copied.generator.parameters(), average, strict=True))
    assert (copied.generator.precision, copied.autocast) == ("float32", False)
    features = torch.rand(2, 128, 12, 12)
    assert torch.equal(copied.discriminate(features), copied.discriminate(features))
    assert not torch.equal(models.discriminate(features), models.discriminate(features))
    assert equal_values(weights_of(models.generator), before)
    assert equal_values(weights_of(models.evaluation_copy([]).generator), before)


def test_initial_weights_come_from_a_file_of_the_same_network(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = Guided(**GUIDED.network_settings)
    nn.init.normal_(network.decoders[0].output.weight)  # type: ignore[union-attr, arg-type]
    path = tmp_path / "w.safetensors"
    save_weights(network, path, training={}, licence="MIT", data="nothing")
    generator = build_models(replace(GUIDED, network_settings={}, init_from=str(path)), CPU).generator
    for weight, stored in zip(generator.parameters(), network.parameters(), strict=True):
        assert torch.equal(weight, stored.half().float())
    assert generator.training
    with pytest.raises(SettingError, match="holds weights of guided; this run trains paper"):
        build_models(replace(PAPER, init_from=str(path)), CPU)


def test_initial_weights_come_from_shipped_weights_by_name() -> None:
    generator = build_models(replace(GUIDED, network_settings={}, init_from="default"), CPU).generator
    for weight, shipped in zip(generator.parameters(), midframe.load("default").parameters(), strict=True):
        assert torch.equal(weight, shipped)
    with pytest.raises(SettingError, match="there is no network or weights file 'defualt'"):
        build_models(replace(GUIDED, network_settings={}, init_from="defualt"), CPU)


def test_a_network_without_parameters_and_unknown_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="nothing to train"):
        build_models(TrainingConfig(network="average", losses=LossConfig(reconstruction=1.0)), CPU)
    with pytest.raises(SettingError, match="does not take the settings"):
        build_models(replace(GUIDED, network_settings={"wings": 2}), CPU)


def test_equal_seeds_give_equal_weights() -> None:
    one, other, third = (build_models(replace(GUIDED, seed=seed), CPU).generator for seed in (1, 1, 2))
    assert equal_values(weights_of(one), weights_of(other))
    assert not equal_values(weights_of(one), weights_of(third))
