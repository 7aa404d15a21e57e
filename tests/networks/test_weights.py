"""Weights files: writing and reading, and refusal of foreign, damaged and hostile files."""

from __future__ import annotations

import json
import pickle
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from midframe.errors import OutputError, SettingError, WeightsError
from midframe.networks import list_models, load, load_weights, models, read_info
from midframe.networks.base import InterpolationNetwork
from midframe.networks.guided import Guided
from midframe.networks.weights import FORMAT, save_weights

SMALL = {
    "feature_channels": (16, 16, 16, 16),
    "decoder_channels": (16, 16, 16, 16),
    "decoder_convolutions": (1, 1, 1, 1),
}
DESCRIPTION = {"training": {"steps": 100, "psnr": 31.5}, "licence": "CC0-1.0", "data": "drawn films"}


def small(seed: int = 0) -> Guided:
    torch.manual_seed(seed)
    network = Guided(**SMALL, taps=7)
    for decoder in network.decoders:
        torch.nn.init.normal_(decoder.output.weight, 0, 0.05)
    return network.eval()


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(small(), path, **DESCRIPTION)
    return path


def copy_with_changes(
    source: Path, target: Path, metadata: dict[str, Any] | None = None, **tensors: Tensor | None
) -> Path:
    """Copy a weights file with some of its metadata and tensors replaced, or left out if None."""
    info = read_info(source)
    texts = {
        "format": info.format, "network": info.network, "settings": json.dumps(info.settings),
        "training": json.dumps(info.training), "licence": info.licence, "data": info.data, **(metadata or {}),
    }  # fmt: skip
    all_tensors = {**load_file(source), **tensors}
    save_file(
        {name: tensor for name, tensor in all_tensors.items() if tensor is not None},
        target,
        {key: text for key, text in texts.items() if text is not None},
    )
    return target


def test_a_saved_network_is_loaded_with_the_same_weights(weights_file: Path) -> None:
    network, again = small(), load(weights_file)
    assert isinstance(again, Guided)
    assert not again.training
    assert again.settings == network.settings
    for name, tensor in again.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, network.state_dict()[name], atol=1e-4, rtol=1e-3)
    first, second = torch.rand(2, 1, 3, 40, 50)
    with torch.inference_mode():
        made = (net(first, second, torch.tensor([0.3])) for net in (network, again))
        torch.testing.assert_close(*made, atol=2e-2, rtol=0)


def test_a_loaded_network_can_be_trained(weights_file: Path) -> None:
    network = load(str(weights_file)).train()
    network(*torch.rand(2, 1, 3, 32, 32), torch.tensor([0.5])).mean().backward()
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert sum(parameter.grad is not None for parameter in network.parameters()) > 30


def test_info_describes_the_file(weights_file: Path) -> None:
    info = read_info(weights_file)
    assert (info.format, info.network, info.licence, info.data) == (FORMAT, "guided", "CC0-1.0", "drawn films")
    assert info.training == DESCRIPTION["training"]
    assert info.settings["taps"] == 7
    assert info.parameters == sum(parameter.numel() for parameter in small().parameters())
    assert info.bytes == weights_file.stat().st_size < 2 * info.parameters + 20_000  # half precision
    assert info.card is None
    card = weights_file.with_suffix(".md")
    card.write_text("# Card\n")
    assert read_info(weights_file).card == card
    card.unlink()


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    save_weights(small(), tmp_path / "a.safetensors", **DESCRIPTION)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\x80\x02}q\x00.", struct.pack("<Q", 1 << 60), b"PK\x03\x04" * 99],
    ids=["empty", "text", "pickle", "huge header", "zip"],
)
def test_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="no safetensors file"):
        load(path)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (target,))

    torch.save(Hostile(), tmp_path / "a.pt")
    (tmp_path / "b.safetensors").write_bytes(pickle.dumps(Hostile()))
    for name in ("a.pt", "b.safetensors"):
        with pytest.raises(WeightsError, match=f"{name} is no safetensors file"):
            load(tmp_path / name)
    assert not target.exists()


def test_another_programs_safetensors(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(3)}, tmp_path / "x.safetensors", metadata)
        with pytest.raises(WeightsError, match="not made by Midframe"):
            load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "midframe-weights/2"}, "has the format 'midframe-weights/2'"),
        ({"network": "other"}, "network 'other'"),
        ({"network": "os:system"}, "network 'os:system'"),
        ({"network": None}, "does not say its network"),
        ({"settings": "{"}, "settings is no JSON"),
        ({"settings": "[" * 100_000}, "settings is no JSON"),
        ({"settings": "[1]"}, "JSON list"),
        ({"settings": '{"taps": 8}'}, "taps must be odd"),
        ({"settings": '{"decoder_channels": [1000000000, 1, 1, 1]}'}, "decoder_channels is a whole number"),
        ({"settings": '{"import": "os"}'}, "does not know"),
        ({"licence": None}, "does not say its licence"),
        ({"training": "nan and so on"}, "training is no JSON"),
        ({"network": "average"}, "settings"),
    ],
)
def test_wrong_metadata_is_refused(weights_file: Path, tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(message)) as caught:
        load(copy_with_changes(weights_file, tmp_path / "x.safetensors", metadata))
    assert "\n" not in str(caught.value)


OUTPUT_WEIGHT = "decoders.0.output.weight"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({OUTPUT_WEIGHT: None}, f"lacks {OUTPUT_WEIGHT}"),
        ({"more": torch.zeros(2)}, "holds more"),
        ({OUTPUT_WEIGHT: torch.zeros(3, 3)}, "needs [33, 16, 3, 3]"),
        ({OUTPUT_WEIGHT: torch.full((33, 16, 3, 3), float("nan"))}, "not finite"),
        ({OUTPUT_WEIGHT: torch.full((33, 16, 3, 3), float("inf"))}, "not finite"),
        ({OUTPUT_WEIGHT: torch.zeros(33, 16, 3, 3, dtype=torch.int64)}, "I64"),
        ({OUTPUT_WEIGHT: torch.zeros(33, 16, 3, 3, dtype=torch.float64)}, "F64"),
    ],
)
def test_wrong_tensors_are_refused(weights_file: Path, tmp_path: Path, tensors: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(message)):
        load(copy_with_changes(weights_file, tmp_path / "x.safetensors", **tensors))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(weights_file: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Changed bytes of the header, or a truncated file: a `WeightsError`, or a network if only texts were changed."""
    whole = bytearray(weights_file.read_bytes())
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            whole[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(whole)
    with suppress(WeightsError):
        assert isinstance(load(path), InterpolationNetwork)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        load(tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsError, match="no file"):
        load(tmp_path)


def test_weights_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for value in (float("nan"), 1e6):  # the second is beyond float16
        network = small()
        with torch.no_grad():
            network.decoders[0].output.bias.fill_(value)
        with pytest.raises(WeightsError, match="not finite"):
            save_weights(network, path, **DESCRIPTION)
    with pytest.raises(SettingError, match="JSON"):
        save_weights(small(), path, training={"curve": np.zeros(3)}, licence="", data="")
    with pytest.raises(SettingError, match="NETWORKS"):
        save_weights(InterpolationNetwork(), path, **DESCRIPTION)
    with pytest.raises(OutputError, match="cannot be written"):
        save_weights(small(), tmp_path / "no" / "such" / "folder.safetensors", **DESCRIPTION)
    assert list(tmp_path.iterdir()) == []


def test_untrained_networks_and_unknown_names() -> None:
    with pytest.raises(SettingError, match="no network or weights file 'sepconv'"):
        load("sepconv")
    for name in ("average", "guided"):
        assert load(name).is_untrained_average


def test_models(weights_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    untrained = {model.name: model for model in list_models()}
    assert list(untrained) == ["average", "paper", "guided"]
    with pytest.raises(SettingError, match="no network or weights file 'default'"):
        load()
    assert not any(model.trained for model in untrained.values())
    assert not untrained["paper"].any_time
    assert all(model.description for model in untrained.values())
    (tmp_path / "anime.safetensors").write_bytes(weights_file.read_bytes())
    (tmp_path / "default.safetensors").write_bytes(weights_file.read_bytes())
    (tmp_path / "natural.safetensors").write_bytes(weights_file.read_bytes())
    shipped = {model.name: model for model in list_models()}
    assert list(shipped) == ["default", "anime", "natural", "average", "paper", "guided"]
    assert shipped["default"].trained
    assert shipped["default"].network == "guided"
    assert shipped["default"].weights == read_info(tmp_path / "default.safetensors")
    for name in ("default", "natural"):
        assert not load(name).is_untrained_average


def test_the_network_paper_can_be_saved(tmp_path: Path) -> None:
    from midframe.networks.paper import Paper

    network = Paper.repository()
    path = tmp_path / "paper.safetensors"
    assert save_weights(network, path, **DESCRIPTION).parameters == 21_675_452
    again = load_weights(path)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
