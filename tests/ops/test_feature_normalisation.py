"""Comparable features: what they are, and Halide against the definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.feature_normalisation import comparable

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.mark.parametrize("backend", ["reference", "halide"])
def test_is_the_formula(backend: str) -> None:
    torch.manual_seed(0)
    features, centre = torch.randn(2, 16, 3, 5) + 0.4, torch.randn(16) * 0.5
    made = comparable(features, centre, backend=backend)
    for b in range(2):
        for y in range(3):
            for x in range(5):
                pixel = features[b, :, y, x].double()
                apart = pixel - (pixel.square().mean() + 1e-6).sqrt() * centre.double()
                expected = apart / (apart.square().mean() + 1e-6).sqrt()
                torch.testing.assert_close(made[b, :, y, x].double(), expected, atol=1e-5, rtol=1e-5)


def test_brightness_does_not_count() -> None:
    features = torch.randn(1, 32, 4, 4) + 1
    centre = torch.full((32,), 0.5)
    torch.testing.assert_close(comparable(features, centre), comparable(7 * features, centre), atol=1e-4, rtol=1e-4)


def test_gradients_of_the_definition() -> None:
    torch.manual_seed(1)
    features = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    centre = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, c: comparable(f, c, backend="reference"), (features, centre))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 3), st.sampled_from([16, 32, 48]), st.integers(1, 20), st.integers(1, 40)),
    kind=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    layout=st.sampled_from(["contiguous", "channels_last", "every other"]),
    seed=st.integers(0, 1 << 30),
)
def test_halide(shape: tuple[int, int, int, int], kind: torch.dtype, layout: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = (torch.randn(shape, generator=generator) + 0.3).to(kind)
    if layout != "contiguous":
        features = features.contiguous(memory_format=torch.channels_last)
    if layout == "every other":
        features = features.repeat_interleave(2, 0)[::2]
    centre = torch.randn(shape[1], generator=generator) * 0.3
    grad = torch.randn(shape, generator=generator).to(kind)

    def run(backend: str, wide: bool) -> list[Tensor]:
        given = [t.detach().double() if wide else t.detach() for t in (features, centre)]
        given = [t.requires_grad_() for t in given]
        out = comparable(*given, backend=backend)
        return [out.detach(), *torch.autograd.grad(out, given, grad.to(out.dtype))]

    for got, right, source in zip(
        run("halide", False), run("reference", True), (features, features, centre), strict=True
    ):
        assert got.shape == right.shape
        assert got.dtype == source.dtype
        error, size = (got.double() - right).norm(), right.norm()
        assert error <= TOLERANCE[kind] * size + 1e-6, f"{error} for {size}"


def test_channels_last_stays() -> None:
    features = torch.randn(2, 32, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    made = comparable(features, torch.zeros(32))
    (grad,) = torch.autograd.grad(made.square().sum() + made.sum(), features)
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_opcheck(layout: torch.memory_format) -> None:
    features = torch.randn(2, 16, 5, 6).contiguous(memory_format=layout).requires_grad_()
    torch.library.opcheck(torch.ops.midframe.comparable, (features, torch.randn(16, requires_grad=True)))


@pytest.mark.parametrize("backend", ["auto", "reference", "halide"])
def test_compiled_whole(backend: str) -> None:
    def step(features: Tensor, centre: Tensor) -> Tensor:
        return torch.sin(comparable(features, centre, backend=backend)).sum()

    torch.manual_seed(4)
    tensors = torch.randn(1, 16, 5, 6), torch.randn(16)
    plain, traced = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    step(*plain).backward()
    torch.compile(step, fullgraph=True, backend="aot_eager")(*traced).backward()
    for one, other in zip(plain, traced, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_refusals() -> None:
    maps = torch.zeros(2, 16, 5, 6)
    for wrong in (
        lambda: comparable(maps[0], torch.zeros(16)),
        lambda: comparable(maps, torch.zeros(15)),
        lambda: comparable(maps.int(), torch.zeros(16)),
        lambda: comparable(maps[:, :5], torch.zeros(5), backend="halide"),
        lambda: comparable(maps, torch.zeros(16), backend="triton"),
    ):
        with pytest.raises(SettingError):
            wrong()


def test_no_gradients_of_gradients_in_silence() -> None:
    features = torch.randn(1, 16, 4, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(
        comparable(features, torch.zeros(16), backend="halide").square().sum(), features, create_graph=True
    )
    with pytest.raises(SettingError, match="reference"):
        grad.sum().backward()
