"""Choosing the backend of an operator, recording it, and reporting which backends can run."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from midframe.errors import DeviceError, SettingError
from midframe.ops import dispatch, separable_convolution
from midframe.ops.dispatch import (
    Backend,
    BackendTable,
    backend_availability,
    choose_backend,
    describe_record,
    operator_availability,
    record_backends,
)

FLOAT = torch.zeros(1, 16)
DOUBLE = torch.zeros(1, 16, dtype=torch.float64)


def only_whole_vectors(features: Tensor, *, radius: int = 0) -> str | None:
    return None if features.shape[1] % 16 == 0 and radius < 5 else "blur takes multiples of 16 channels, radius below 5"


@pytest.fixture
def blur() -> Iterator[BackendTable]:
    """The backends of an operator that exists only here."""
    yield BackendTable(
        "blur",
        (
            Backend("halide", "multiples of 16 channels", module="blur.halide", limits=only_whole_vectors),
            Backend("torch", "a convolution", forward=torch.clone),
            Backend("reference", "a sum", forward=torch.clone),
        ),
    )
    del dispatch._TABLES["blur"]


def test_auto_takes_halide_on_the_cpu_and_torch_for_types_that_halide_does_not_take(blur: BackendTable) -> None:
    assert choose_backend(blur, "auto", FLOAT).name == "halide"
    assert choose_backend(blur, "auto", DOUBLE).name == "torch"


def test_auto_never_takes_the_reference() -> None:
    table = BackendTable("sharpen", (Backend("reference", "a sum", forward=torch.clone),))
    del dispatch._TABLES["sharpen"]
    assert choose_backend(table, "reference", FLOAT).name == "reference"
    with pytest.raises(DeviceError, match="sharpen has no backend that runs here"):
        choose_backend(table, "auto", FLOAT)


def test_one_sentence_is_raised_logged_and_reported(
    blur: BackendTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatch, "_is_installed", lambda package: False)
    with caplog.at_level(logging.DEBUG, logger="midframe"):
        assert choose_backend(blur, "auto", FLOAT).name == "torch"
    with pytest.raises(DeviceError, match="needs the package halide") as raised:
        choose_backend(blur, "halide", FLOAT)
    sentence = str(raised.value)
    assert f"blur on halide: {sentence}" in caplog.text
    for found in (backend_availability("cpu")["halide"], operator_availability("cpu")["blur"]["halide"]):
        assert (found.runs, found.why) == (False, sentence)


def test_the_limits_of_an_operator_decide_with_its_tensors_and_arguments(
    blur: BackendTable, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_backend(blur, "auto", FLOAT, radius=4).name == "halide"
    with caplog.at_level(logging.DEBUG, logger="midframe"):
        assert choose_backend(blur, "auto", FLOAT, radius=5).name == "torch"
        assert choose_backend(blur, "auto", FLOAT[:, :15]).name == "torch"
    sentence = "blur takes multiples of 16 channels, radius below 5"
    assert caplog.text.count(f"blur on halide: {sentence}") == 2
    with pytest.raises(SettingError, match=sentence):
        choose_backend(blur, "halide", FLOAT, radius=5)


@pytest.mark.parametrize("backend", ["halide", "triton"])
def test_the_refusal_names_the_device(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(dispatch, "_is_installed", lambda package: True)
    image = torch.zeros(1, 3, 4, 4, device="meta")
    with pytest.raises(DeviceError, match=f"the {backend} backend runs on .*; the tensors are on meta"):
        separable_convolution(image, image, image, backend=backend)  # type: ignore[call-overload]


def test_the_refusal_names_the_type(blur: BackendTable) -> None:
    with pytest.raises(SettingError, match=r"halide backend takes float32, bfloat16 and float16; a tensor is float64"):
        choose_backend(blur, "halide", FLOAT, DOUBLE)


def test_an_unknown_backend_is_refused_with_the_known_ones(blur: BackendTable) -> None:
    with pytest.raises(SettingError, match=r"blur has no backend 'triton'; there are: auto, halide, torch, reference"):
        choose_backend(blur, "triton", FLOAT)


def test_the_backends_that_run_are_recorded(blur: BackendTable) -> None:
    record: dict[str, set[str]] = {}
    choose_backend(blur, "auto", FLOAT)
    assert record == {}
    with record_backends(record):
        choose_backend(blur, "auto", FLOAT)
        with pytest.raises(SettingError, match="no backend 'triton'"):
            choose_backend(blur, "triton", FLOAT)
        assert describe_record(record) == "halide"
        choose_backend(blur, "auto", DOUBLE)
        separable_convolution(torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4))
    choose_backend(blur, "reference", FLOAT)
    assert record == {"blur": {"halide", "torch"}, "separable_convolution": {"torch"}}
    assert describe_record(record) == "halide (blur), torch (blur, separable_convolution)"
    assert describe_record({}) == ""


def test_records_may_be_nested(blur: BackendTable) -> None:
    outer: dict[str, set[str]] = {}
    inner: dict[str, set[str]] = {}
    with record_backends(outer), record_backends(inner):
        choose_backend(blur, "torch", FLOAT)
    assert outer == inner == {"blur": {"torch"}}


def test_every_backend_is_reported() -> None:
    found = backend_availability("cpu")
    assert list(found) == ["halide", "triton", "torch", "reference"]
    assert found["halide"].runs
    assert "Halide" in found["halide"].why
    assert all(backend.why for backend in found.values())
    assert not backend_availability("cuda")["halide"].runs


def test_every_operator_is_reported_with_its_own_backends() -> None:
    found = operator_availability("cuda")["separable_convolution"]
    assert list(found) == ["halide", "triton", "torch", "reference"]
    assert found["torch"].runs
    assert "bounded memory" in found["torch"].why
    assert not found["halide"].runs
    assert found["halide"].why == backend_availability("cuda")["halide"].why
