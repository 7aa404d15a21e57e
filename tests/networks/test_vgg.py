"""VGG-19 and the discriminator on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from midframe.errors import SettingError, WeightsError
from midframe.networks.discriminator import Discriminator
from midframe.networks.vgg import LAYERS, load_vgg19, random_vgg19

CHECK = {
    "relu1_1": (45.0503, 685.120),
    "relu2_2": (347.6784, 6972.687),
    "relu3_4": (1273.9523, 18835.158),
}
"""Mean and maximum on the fixed picture below, as the weights' own page states them."""


def test_the_published_check_values(shared_data: Path) -> None:
    vgg = load_vgg19(shared_data / "vgg19" / "vgg19-relu3_4.safetensors")
    assert (vgg.convention, vgg.deepest) == ("caffe", "relu3_4")
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    picture = torch.stack((4 * x % 256, 4 * y % 256, torch.where((x // 8 + y // 8) % 2 == 1, 255, 0))).float()[None]
    for name, features in vgg(picture, CHECK).items():
        assert features.mean().item() == pytest.approx(CHECK[name][0], abs=2e-4)
        assert features.max().item() == pytest.approx(CHECK[name][1], abs=2e-3)


def test_both_conventions_give_the_same_features_when_the_first_layer_is_folded() -> None:
    vgg = random_vgg19(3, "torchvision")
    state = {}
    for k, (name, layer) in enumerate(vgg.convolutions.items()):
        index = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)[k]
        assert name.startswith("conv")
        state[f"features.{index}.weight"], state[f"features.{index}.bias"] = layer.weight.clone(), layer.bias.clone()
    deviation = torch.tensor([0.229, 0.224, 0.225]) * 255
    mean = torch.tensor([0.485, 0.456, 0.406]) * 255
    caffe = torch.tensor([123.68, 116.779, 103.939])
    weight = state["features.0.weight"] / deviation.view(1, 3, 1, 1)
    state["features.0.bias"] = state["features.0.bias"] + (weight.sum((2, 3)) * (caffe - mean)).sum(1)
    state["features.0.weight"] = weight.flip(1)
    other = type(vgg)(state, "caffe")
    picture = torch.rand(1, 3, 40, 40) * 255
    a, b = vgg(picture, ["relu4_4"])["relu4_4"], other(picture, ["relu4_4"])["relu4_4"]
    # Zero padding stands for another colour in each: only the middle, out of its reach, is the same.
    assert torch.allclose(
        vgg(picture, ["relu1_1"])["relu1_1"][..., 1:-1, 1:-1],
        other(picture, ["relu1_1"])["relu1_1"][..., 1:-1, 1:-1],
        atol=1e-3,
    )
    assert a.shape == b.shape == (1, 512, 5, 5)


def test_vgg_is_frozen_and_stays_in_evaluation_mode_but_lets_gradients_through() -> None:
    vgg = random_vgg19()
    assert not vgg.train().training
    assert not any(parameter.requires_grad for parameter in vgg.parameters())
    picture = (torch.rand(1, 3, 32, 32) * 255).requires_grad_()
    vgg(picture, ["relu5_4"])["relu5_4"].sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0


def test_layers_beyond_the_file_are_refused_by_name(tmp_path: Path) -> None:
    state = {
        f"features.{k}.{what}": getattr(layer, what).detach()
        for k, layer in zip((0, 2), random_vgg19().convolutions.values(), strict=False)
        for what in ("weight", "bias")
    }
    save_file(state, tmp_path / "short.safetensors")
    vgg = load_vgg19(tmp_path / "short.safetensors")
    assert vgg.layers == LAYERS[:3]
    assert vgg.convention == "torchvision"
    with pytest.raises(SettingError, match="deepest layer is relu1_2"):
        vgg(torch.zeros(1, 3, 16, 16), ["relu4_4"])


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04cos\nsystem\n"])
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            load_vgg19(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError):
        load_vgg19(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_the_discriminator_has_the_authors_size_and_its_pooling_changes_nothing_at_160() -> None:
    discriminator = Discriminator()
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 13_114_369
    features = torch.rand(2, 512, 5, 5)
    assert torch.equal(F.adaptive_avg_pool2d(features, 5), features)
    assert discriminator(features).shape == (2,)
    assert discriminator.eval()(torch.rand(2, 512, 7, 9)).shape == (2,)
