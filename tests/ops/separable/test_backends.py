"""Every backend against the reference: outputs and all gradients, over drawn shapes, types, layouts and options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from midframe.ops import TapPattern, separable_convolution

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}
"""The norm of the error relative to the norm of what is right, by the coarsest type of the inputs."""

LAYOUTS = ["contiguous", "channels_last", "slice", "transposed", "expanded"]


SMALL_MAPS = [(5, 3, 2, torch.float32), (3, 1, 4, torch.float32), (5, 3, 2, torch.bfloat16), (7, 1, 2, torch.float32)]
"""Taps, channels, scale and type of kernel maps that Halide upsamples as it reads them."""


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    height: int
    width: int
    taps: TapPattern
    scale: int
    border: str
    normalise: bool
    image_type: torch.dtype
    kernel_type: torch.dtype
    image_layout: str
    kernel_layout: str


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    composite: bool,
    types: tuple[torch.dtype, ...],
    largest: int = 70,
    every_pipeline: bool = True,
) -> Case:
    """every_pipeline: otherwise half precision goes with three channels, as each group of channels compiles its own."""
    if composite:
        taps = TapPattern.composite(
            draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([2, 4])),
            draw(st.sampled_from(["rings", "axes", "literal"])),
        )  # fmt: skip
    else:
        taps = TapPattern.dense(draw(st.sampled_from([1, 3, 5, 9, 51])))
    # The reference keeps every tap's product for its gradients.
    sides = st.integers(1, largest if taps.size <= 9 else min(largest, 24))
    scale = draw(st.sampled_from([1, 1, 2, 4]))
    kernel_type = draw(st.sampled_from(types))
    return Case(
        batch=draw(st.integers(1, 3)),
        channels=draw(st.integers(1, 4)) if every_pipeline or kernel_type is torch.float32 else 3,
        height=-(-draw(sides) // scale) * scale,
        width=-(-draw(sides) // scale) * scale,
        taps=taps,
        scale=scale,
        border=draw(st.sampled_from(["zero", "replicate"])),
        normalise=draw(st.booleans()),
        image_type=draw(st.sampled_from([kernel_type, types[0]])),
        kernel_type=kernel_type,
        image_layout=draw(st.sampled_from(LAYOUTS)),
        kernel_layout=draw(st.sampled_from(LAYOUTS)),
    )


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same kind of values with other strides; `expanded` repeats the first column, stride 0."""
    if layout == "channels_last":
        return values.contiguous(memory_format=torch.channels_last)
    if layout == "slice":
        batch, channels, height, width = values.shape
        larger = values.new_full((batch, channels + 1, height + 2, width + 3), float("nan"))
        larger[:, 1:, 1:-1, 2:-1] = values
        return larger[:, 1:, 1:-1, 2:-1]
    if layout == "transposed":
        return values.transpose(2, 3).contiguous().transpose(2, 3)
    return values[..., :1].expand(values.shape) if layout == "expanded" else values


@contextmanager
def poisoned() -> Iterator[None]:
    """New tensors hold NaN, so that whatever is left unwritten shows."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def results(case: Case, tensors: list[Tensor], grads: list[Tensor], backend: str) -> dict[str, Tensor]:
    options: dict[str, Any] = {"taps": case.taps, "border": case.border, "normalise": case.normalise}
    with poisoned():
        out, weights = separable_convolution(
            *tensors, scale=case.scale, return_weights=True, backend=backend, **options  # type: ignore[call-overload]
        )  # fmt: skip
        gradients = torch.autograd.grad([out, weights], tensors, [grads[0].to(out.dtype), grads[1].to(weights.dtype)])
    names = ("image", "vertical", "horizontal")
    return {"out": out, "weights": weights, **{f"gradient of {n}": g for n, g in zip(names, gradients, strict=True)}}


def check(case: Case, backend: str) -> None:
    generator = torch.Generator().manual_seed(case.height * 71 + case.width)

    def draw(kind: torch.dtype, layout: str, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        # Sums near zero would magnify rounding when divided by.
        return laid_out((values.abs() + 0.2 if case.normalise else values).to(kind), layout)

    picture = (case.batch, case.channels, case.height, case.width)
    maps = (case.batch, case.taps.size, case.height // case.scale, case.width // case.scale)
    tensors = [draw(case.image_type, case.image_layout, *picture)]
    tensors += [draw(case.kernel_type, case.kernel_layout, *maps) for _ in range(2)]
    grads = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in (picture, (case.batch, 1, *picture[2:]))
    ]

    made = results(case, [t.requires_grad_() for t in tensors], grads, backend)
    right = results(case, [t.detach().double().requires_grad_() for t in tensors], grads, "reference")
    coarsest = max((case.image_type, case.kernel_type), key=TOLERANCE.__getitem__)
    for name, value in made.items():
        error = (value.double() - right[name]).norm() / right[name].norm().clamp(min=1e-30)
        assert error <= TOLERANCE[coarsest], f"{name} is off by {error:.2g}"
    assert made["out"].dtype == case.image_type
    assert made["gradient of vertical"].dtype == case.kernel_type


FLOATS = (torch.float32, torch.bfloat16, torch.float16)
quick = settings(max_examples=60, deadline=None, derandomize=True)
long = settings(max_examples=1000, deadline=None)


def one_or_no_float64(case: Case) -> bool:
    return (case.image_type is torch.float64) == (case.kernel_type is torch.float64)


@quick
@given(cases(composite=False, types=FLOATS, every_pipeline=False))
def test_halide(case: Case) -> None:
    check(case, "halide")


@settings(quick, max_examples=30)
@given(cases(composite=True, types=FLOATS, largest=40))
def test_halide_composite(case: Case) -> None:
    check(case, "halide")


@quick
@given(cases(composite=False, types=(*FLOATS, torch.float64)).filter(one_or_no_float64))
def test_torch(case: Case) -> None:
    check(case, "torch")


@settings(quick, max_examples=30)
@given(cases(composite=True, types=FLOATS, largest=40))
def test_torch_composite(case: Case) -> None:
    check(case, "torch")


@pytest.mark.slow
@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("backend", ["halide", "torch"])
def test_the_whole_grid(backend: str, composite: bool) -> None:
    @long
    @given(cases(composite=composite, types=FLOATS))
    def grid(case: Case) -> None:
        check(case, backend)

    grid()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_halide_gives_the_same_for_any_number_of_threads(threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    image, vertical, horizontal = (torch.randn(1, n, 23, 40, generator=generator) for n in (3, 5, 5))
    alone = separable_convolution(image, vertical, horizontal, backend="halide")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = separable_convolution(image, vertical, horizontal, backend="halide")
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together)


def test_composite_without_outer_part_is_the_dense_operator_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    image, vertical, horizontal = (torch.randn(1, n, 23, 40, generator=generator) for n in (3, 5, 5))
    for backend in ("reference", "halide", "torch"):
        dense = separable_convolution(image, vertical, horizontal, backend=backend)  # type: ignore[call-overload]
        taps = TapPattern.composite(5, 0, "literal")
        assert torch.equal(dense, separable_convolution(image, vertical, horizontal, taps=taps, backend=backend))  # type: ignore[call-overload]


@pytest.mark.parametrize(("taps", "channels", "scale", "kind"), SMALL_MAPS)
@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    border=st.sampled_from(["zero", "replicate"]),
    image_layout=st.sampled_from(LAYOUTS),
    kernel_layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 1 << 30),
)
def test_small_maps(
    taps: int,
    channels: int,
    scale: int,
    kind: torch.dtype,
    batch: int,
    height: int,
    width: int,
    border: str,
    image_layout: str,
    kernel_layout: str,
    seed: int,
) -> None:
    """Maps upsampled as they are read, by Halide, against maps upsampled first, in float64."""
    generator = torch.Generator().manual_seed(seed)
    maps = (batch, taps, height, width)
    picture = (batch, channels, height * scale, width * scale)
    image, vertical, horizontal = (torch.randn(shape, generator=generator) for shape in (picture, maps, maps))
    given_types = [image, vertical.to(kind), horizontal.to(kind)]
    grad = torch.randn(image.shape, generator=generator)

    def run(backend: str, tensors: list[Tensor]) -> list[Tensor]:
        tensors = [t.requires_grad_() for t in tensors]
        with poisoned():
            out = separable_convolution(
                *tensors, border=border, scale=scale, backend=backend  # type: ignore[call-overload]
            )  # fmt: skip
            return [out.detach(), *torch.autograd.grad(out, tensors, grad.to(out.dtype))]

    layouts = (image_layout, kernel_layout, kernel_layout)
    laid = [laid_out(t, layout) for t, layout in zip(given_types, layouts, strict=True)]
    right = run("reference", [t.detach().double() for t in laid])
    for got, true, source in zip(run("halide", laid), right, (image, *given_types), strict=True):
        assert got.shape == true.shape
        assert got.dtype == source.dtype
        error, size = (got.double() - true).norm(), true.norm()
        assert error <= TOLERANCE[source.dtype] * size + 1e-6, f"{error} for {size}"
