"""Feature normalisation: its formula, and the Halide backend against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from closeness import TOLERANCE, assert_close_in_norm
from midframe.errors import SettingError
from midframe.ops.feature_normalisation import normalise_features


@pytest.mark.parametrize("backend", ["reference", "halide"])
def test_result_follows_the_formula(backend: str) -> None:
    torch.manual_seed(0)
    features, centre = torch.randn(2, 16, 3, 5) + 0.4, torch.randn(16) * 0.5
    normalised = normalise_features(features, centre, backend=backend)
    for b in range(2):
        for y in range(3):
            for x in range(5):
                f = features[b, :, y, x].double()
                a = f - (f.square().mean() + 1e-6).sqrt() * centre.double()
                expected = a / (a.square().mean() + 1e-6).sqrt()
                torch.testing.assert_close(normalised[b, :, y, x].double(), expected, atol=1e-5, rtol=1e-5)


def test_scaled_features_give_the_same_result() -> None:
    features = torch.randn(1, 32, 4, 4) + 1
    centre = torch.full((32,), 0.5)
    expected = normalise_features(features, centre)
    torch.testing.assert_close(normalise_features(7 * features, centre), expected, atol=1e-4, rtol=1e-4)


def test_gradients_of_the_reference_pass_gradcheck() -> None:
    torch.manual_seed(1)
    features = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    centre = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, m: normalise_features(f, m, backend="reference"), (features, centre))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "shape": (
            draw(st.integers(1, 3)),
            draw(st.sampled_from([16, 32, 48])),
            draw(st.integers(1, 20)),
            draw(st.integers(1, 40)),
        ),
        "dtype": draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16])),
        "layout": draw(st.sampled_from(["contiguous", "channels_last", "every other sample"])),
        "seed": draw(st.integers(0, 1 << 30)),
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=cases())
def test_halide_agrees_with_the_reference(case: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(case["seed"])
    shape, dtype = case["shape"], case["dtype"]
    features = (torch.randn(shape, generator=generator) + 0.3).to(dtype)
    if case["layout"] != "contiguous":
        features = features.contiguous(memory_format=torch.channels_last)
    if case["layout"] == "every other sample":
        features = features.repeat_interleave(2, 0)[::2]
    centre = torch.randn(shape[1], generator=generator) * 0.3
    grad = torch.randn(shape, generator=generator).to(dtype)

    def result_and_gradients(backend: str, *inputs: Tensor) -> list[Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        out = normalise_features(*leaves, backend=backend)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]

    results = result_and_gradients("halide", features, centre)
    expected = result_and_gradients("reference", features.double(), centre.double())
    names = "result", "gradient of the features", "gradient of the centre"
    dtypes = dtype, dtype, centre.dtype
    for name, result, exact, result_dtype in zip(names, results, expected, dtypes, strict=True):
        assert_close_in_norm(name, result, exact, dtype=result_dtype, tolerance=TOLERANCE[dtype])


def test_channels_last_features_give_channels_last_results() -> None:
    features = torch.randn(2, 32, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    normalised = normalise_features(features, torch.zeros(32))
    (grad,) = torch.autograd.grad(normalised.square().sum() + normalised.sum(), features)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_registration_passes_opcheck(layout: torch.memory_format) -> None:
    features = torch.randn(2, 16, 5, 6).contiguous(memory_format=layout).requires_grad_()
    centre = torch.randn(16, requires_grad=True)
    torch.library.opcheck(torch.ops.midframe.normalise_features, (features, centre, "halide"))


@pytest.mark.parametrize("backend", ["auto", "reference", "halide"])
def test_compiles_as_one_graph(backend: str) -> None:
    def loss(features: Tensor, centre: Tensor) -> Tensor:
        return torch.sin(normalise_features(features, centre, backend=backend)).sum()

    torch.manual_seed(4)
    inputs = torch.randn(1, 16, 5, 6), torch.randn(16)
    eager, compiled = ([tensor.clone().requires_grad_() for tensor in inputs] for _ in range(2))
    loss(*eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(*compiled).backward()
    for one, other in zip(eager, compiled, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


MAPS = torch.zeros(2, 16, 5, 6)


@pytest.mark.parametrize(
    ("features", "centre", "backend", "message"),
    [
        pytest.param(MAPS[0], torch.zeros(16), "auto", r"takes features \[B, C, H, W\]", id="three dimensions"),
        pytest.param(MAPS, torch.zeros(15), "auto", r"a centre \[C\]; got .* and \[15\]", id="centre of other length"),
        pytest.param(MAPS.int(), torch.zeros(16), "auto", "floating point tensors; got torch.int32", id="integers"),
        pytest.param(
            MAPS[:, :5], torch.zeros(5), "halide", "a multiple of 16 channels; got 5", id="halide, 5 channels"
        ),
        pytest.param(MAPS, torch.zeros(16), "triton", "has no backend 'triton'", id="triton"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(features: Tensor, centre: Tensor, backend: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        normalise_features(features, centre, backend=backend)


def test_gradients_of_gradients_are_refused_on_halide() -> None:
    features = torch.randn(1, 16, 4, 4, requires_grad=True)
    out = normalise_features(features, torch.zeros(16), backend="halide")
    (grad,) = torch.autograd.grad(out.square().sum(), features, create_graph=True)
    with pytest.raises(SettingError, match="gradients of gradients only on backend='reference'"):
        grad.sum().backward()
