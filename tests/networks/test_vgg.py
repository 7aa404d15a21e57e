"""VGG-19: its features in both conventions, its files, its layers by name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from midframe.errors import SettingError, WeightsError
from midframe.networks.vgg import LAYERS, Vgg19, choose_layer, find_vgg19, load_vgg19, random_vgg19

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
    # In float64: float32 has steps of 0.002 at 18835, so its rounding, which differs between processors, would decide.
    for name, features in vgg.double()(picture.double(), CHECK).items():
        assert features.mean().item() == pytest.approx(CHECK[name][0], abs=2e-4)
        assert features.max().item() == pytest.approx(CHECK[name][1], abs=2e-3)


def plain(state: dict[str, torch.Tensor]) -> torch.nn.Sequential:
    """VGG-19's features as torchvision lays them out."""
    layers: list[torch.nn.Module] = []
    before = 3
    for channels in (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0):
        if channels:
            layers += [torch.nn.Conv2d(before, channels, 3, padding=1), torch.nn.ReLU()]
            before = channels
        else:
            layers.append(torch.nn.MaxPool2d(2, 2))
    features = torch.nn.Sequential(*layers)
    features.load_state_dict({name.removeprefix("features."): tensor for name, tensor in state.items()})
    return features.eval()


def shortened(state: dict[str, torch.Tensor], until: int = 0) -> dict[str, torch.Tensor]:
    """What a file holds that ends with the convolution of index `until`."""
    return {name: tensor for name, tensor in state.items() if int(name.split(".")[1]) <= until}


def random_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights to the last layer, under torchvision's names, with biases."""
    generator = torch.Generator().manual_seed(seed)
    state, before = {}, 3
    indices = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    channels = (64, 64, 128, 128, *[256] * 4, *[512] * 8)
    for index, count in zip(indices, channels, strict=True):
        state[f"features.{index}.weight"] = torch.randn(count, before, 3, 3, generator=generator) / (5 * before) ** 0.5
        state[f"features.{index}.bias"] = torch.randn(count, generator=generator)
        before = count
    return state


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_state()


@pytest.mark.parametrize("convention", ["caffe", "torchvision"])
def test_both_conventions_against_torchvisions_layers_fed_by_hand(
    state: dict[str, torch.Tensor], convention: str
) -> None:
    picture = torch.rand(2, 3, 37, 41, generator=torch.Generator().manual_seed(1)) * 255
    if convention == "torchvision":
        mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        fed = (picture / 255 - mean) / deviation
    else:
        fed = picture[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    found = Vgg19(state, convention)(picture, LAYERS)  # type: ignore[arg-type]
    at = {"relu1_1": 2, "relu3_4": 18, "pool3": 19, "relu4_4": 27, "relu5_4": 36, "pool5": 37}
    layers = plain(state)
    with torch.no_grad():
        for layer, stop in at.items():
            wanted = layers[:stop](fed)
            assert torch.allclose(found[layer], wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


def test_the_conventions_agree_where_the_shortened_is_folded(state: dict[str, torch.Tensor]) -> None:
    # The published recipe, for any weights: exact where zero padding does not reach.
    deviation, mean = (torch.tensor(x) * 255 for x in ([0.229, 0.224, 0.225], [0.485, 0.456, 0.406]))
    weight = state["features.0.weight"].flip(1)
    caffe = torch.tensor([123.68, 116.779, 103.939])
    bias = state["features.0.bias"] + (weight.sum((2, 3)) * (mean - caffe)).sum(1)
    folded = state | {"features.0.weight": weight * deviation.view(1, 3, 1, 1), "features.0.bias": bias}
    picture = torch.rand(1, 3, 24, 24) * 255
    state, folded = (shortened(weights) for weights in (state, folded))
    one = Vgg19(state, "caffe")(picture, ["relu1_1"])["relu1_1"]
    other = Vgg19(folded, "torchvision")(picture, ["relu1_1"])["relu1_1"]
    assert torch.allclose(one[..., 1:-1, 1:-1], other[..., 1:-1, 1:-1], atol=1e-2)


@pytest.mark.parametrize("kind", ["new", "old"])
def test_torchvisions_file_is_read_whatever_else_it_holds(
    state: dict[str, torch.Tensor], kind: str, tmp_path: Path
) -> None:
    everything = {**state, "classifier.6.bias": torch.zeros(1000)}
    torch.save(everything, tmp_path / "vgg19.pth", _use_new_zipfile_serialization=kind == "new")
    vgg = load_vgg19(tmp_path / "vgg19.pth")
    assert (vgg.convention, vgg.layers) == ("torchvision", LAYERS)
    picture = torch.rand(1, 3, 32, 32) * 255
    wanted = Vgg19(state, "torchvision")(picture, ["relu4_4"])["relu4_4"]
    assert torch.equal(vgg(picture, ["relu4_4"])["relu4_4"], wanted)


def test_vgg_is_frozen_and_stays_in_evaluation_mode_but_lets_gradients_through() -> None:
    vgg = random_vgg19()
    assert not vgg.train().training
    assert not any(parameter.requires_grad for parameter in vgg.parameters())
    picture = (torch.rand(1, 3, 32, 32) * 255).requires_grad_()
    vgg(picture, ["relu5_4"])["relu5_4"].sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0


def test_a_layer_by_name_is_taken_or_the_deepest_there_is_said_aloud(
    state: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    whole, short = Vgg19(state, "caffe"), Vgg19(shortened(state, 16), "caffe")
    with caplog.at_level(logging.WARNING, "midframe"):
        assert choose_layer(whole) == "relu4_4"
        assert choose_layer(short, "relu2_2") == "relu2_2"
        assert not caplog.text
        assert choose_layer(short) == "relu3_4"
    assert "do not reach relu4_4; relu3_4 is taken instead" in caplog.text
    with pytest.raises(SettingError, match="no layer 'relu9_9'"):
        choose_layer(whole, "relu9_9")


def test_the_fetched_file_is_found_and_its_absence_says_what_to_do(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDFRAME_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="midframe models fetch vgg19"):
        find_vgg19()
    place = tmp_path / "models" / "vgg19-dcbb9e9d.pth"
    place.parent.mkdir()
    torch.save(shortened(state, 2), place)
    assert find_vgg19() == place
    assert load_vgg19(find_vgg19()).deepest == "relu1_2"


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


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04cos\nsystem\n"], ids=["empty", "text", "pickle"])
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f"{name} cannot be read as") as caught:
            load_vgg19(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth cannot be read as weights"):
        load_vgg19(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
