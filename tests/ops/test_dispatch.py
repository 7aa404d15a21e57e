"""One predicate for each backend: the same sentence whether a backend is passed by, forced or listed."""

from __future__ import annotations

import logging

import pytest
import torch

from midframe.errors import DeviceError, SettingError
from midframe.ops import dispatch as backends
from midframe.ops.dispatch import choose, survey, why_not

FLOAT = (torch.zeros(1),)
DOUBLE = (torch.zeros(1, dtype=torch.float64),)


def test_halide_is_chosen_on_the_cpu_and_torch_where_it_cannot_run() -> None:
    assert choose("warp", "auto", FLOAT) == "halide"
    assert choose("warp", "auto", DOUBLE) == "torch"
    assert choose("warp", "auto", FLOAT, offered=("torch",)) == "torch"


def test_without_halide_installed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(backends, "_installed", lambda package: False)
    with caplog.at_level(logging.DEBUG, logger="midframe"):
        assert choose("warp", "auto", FLOAT) == "torch"
    with pytest.raises(DeviceError, match="needs the package halide") as raised:
        choose("warp", "halide", FLOAT)
    assert str(raised.value) in caplog.text
    assert ("halide", False, str(raised.value)) in survey("cpu")


@pytest.mark.parametrize("backend", ["halide", "triton"])
def test_other_devices_are_named(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(backends, "_installed", lambda package: True)
    refusal = why_not(backend, (torch.zeros(1, device="meta"),))
    assert isinstance(refusal, DeviceError)
    assert "are on meta" in str(refusal)


def test_types_are_named() -> None:
    refusal = why_not("halide", (*FLOAT, *DOUBLE))
    assert isinstance(refusal, SettingError)
    assert "a tensor is float64" in str(refusal)


def test_unknown_backends_are_refused_with_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"warp has no backend 'triton'; there are: auto, reference, halide, torch"):
        choose("warp", "triton", FLOAT, offered=("halide", "torch"))


def test_the_survey_lists_every_backend() -> None:
    rows = {name: (runs, sentence) for name, runs, sentence in survey("cpu")}
    assert set(rows) == {"halide", "triton", "torch", "reference"}
    assert rows["halide"][0]
    assert "Halide" in rows["halide"][1]
    assert all(sentence for _, sentence in rows.values())
    assert ("halide", False) in [row[:2] for row in survey("cuda")]
