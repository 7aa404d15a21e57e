"""Compare every backend with the reference: outputs and gradients for generated shapes, types, layouts and options."""

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
"""The largest norm of the error relative to the norm of the reference, by the coarsest type of the inputs."""

LAYOUTS = ["contiguous", "channels_last", "slice", "transposed", "expanded"]


@dataclass(frozen=True)
class Case:
    """The sizes, types, memory layouts and options of one call."""

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
    """Generate cases.

    every_pipeline: False limits half precision to three channels, because each number of channels that is computed
    together has a pipeline to compile.
    """
    if composite:
        taps = TapPattern.composite(
            draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([2, 4])),
            draw(st.sampled_from(["rings", "axes", "literal"])),
        )  # fmt: skip
    else:
        taps = TapPattern.dense(draw(st.sampled_from([1, 3, 5, 9, 51])))
    # The reference keeps the products of all taps for its gradients.
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


def with_layout(values: Tensor, layout: str) -> Tensor:
    """Return the values in a memory layout; `expanded` repeats the first column with stride 0."""
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
def filled_with_nan() -> Iterator[None]:
    """Fill new tensors with NaN, so that a value that no kernel writes is noticed."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def outputs_and_gradients(case: Case, tensors: list[Tensor], grads: list[Tensor], backend: str) -> dict[str, Tensor]:
    """Return output, weight sum and the gradients of all tensors by name. grads: the gradients of both outputs."""
    options: dict[str, Any] = {"taps": case.taps, "border": case.border, "normalise": case.normalise}
    with filled_with_nan():
        out, weights = separable_convolution(
            *tensors, scale=case.scale, return_weights=True, backend=backend, **options  # type: ignore[call-overload]
        )  # fmt: skip
        gradients = torch.autograd.grad([out, weights], tensors, [grads[0].to(out.dtype), grads[1].to(weights.dtype)])
    names = ("image", "vertical", "horizontal")
    return {"out": out, "weights": weights, **{f"gradient of {n}": g for n, g in zip(names, gradients, strict=True)}}


def check(case: Case, backend: str) -> None:
    """Compare a backend with the reference in float64 on random tensors."""
    generator = torch.Generator().manual_seed(case.height * 71 + case.width)

    def random_tensor(dtype: torch.dtype, layout: str, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        # Normalisation divides by the sum of the weights; a sum near zero would magnify rounding errors.
        return with_layout((values.abs() + 0.2 if case.normalise else values).to(dtype), layout)

    image_shape = (case.batch, case.channels, case.height, case.width)
    maps_shape = (case.batch, case.taps.size, case.height // case.scale, case.width // case.scale)
    tensors = [random_tensor(case.image_type, case.image_layout, *image_shape)]
    tensors += [random_tensor(case.kernel_type, case.kernel_layout, *maps_shape) for _ in range(2)]
    grads = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in (image_shape, (case.batch, 1, *image_shape[2:]))
    ]

    actual = outputs_and_gradients(case, [t.requires_grad_() for t in tensors], grads, backend)
    expected = outputs_and_gradients(case, [t.detach().double().requires_grad_() for t in tensors], grads, "reference")
    coarsest = max((case.image_type, case.kernel_type), key=TOLERANCE.__getitem__)
    for name, value in actual.items():
        error = (value.double() - expected[name]).norm() / expected[name].norm().clamp(min=1e-30)
        assert error <= TOLERANCE[coarsest], f"{name} differs by {error:.2g} of its norm; {case}"
    assert actual["out"].dtype == case.image_type
    assert actual["gradient of vertical"].dtype == case.kernel_type


FLOATS = (torch.float32, torch.bfloat16, torch.float16)
quick = settings(max_examples=60, deadline=None, derandomize=True)
long = settings(max_examples=1000, deadline=None)


def has_float64_in_all_or_none(case: Case) -> bool:
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
@given(cases(composite=False, types=(*FLOATS, torch.float64)).filter(has_float64_in_all_or_none))
def test_torch(case: Case) -> None:
    check(case, "torch")


@settings(quick, max_examples=30)
@given(cases(composite=True, types=FLOATS, largest=40))
def test_torch_composite(case: Case) -> None:
    check(case, "torch")


@pytest.mark.slow
@pytest.mark.parametrize("composite", [False, True], ids=["dense", "composite"])
@pytest.mark.parametrize("backend", ["halide", "torch"])
def test_many_cases(backend: str, composite: bool) -> None:
    @long
    @given(cases(composite=composite, types=FLOATS))
    def check_case(case: Case) -> None:
        check(case, backend)

    check_case()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_halide_result_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    image, vertical, horizontal = (torch.randn(1, n, 23, 40, generator=generator) for n in (3, 5, 5))
    with_current_threads = separable_convolution(image, vertical, horizontal, backend="halide")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = separable_convolution(image, vertical, horizontal, backend="halide")
    finally:
        torch.set_num_threads(before)
    assert torch.equal(with_current_threads, result)


def test_composite_pattern_without_outer_taps_equals_the_dense_operator_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    image, vertical, horizontal = (torch.randn(1, n, 23, 40, generator=generator) for n in (3, 5, 5))
    for backend in ("reference", "halide", "torch"):
        dense = separable_convolution(image, vertical, horizontal, backend=backend)  # type: ignore[call-overload]
        taps = TapPattern.composite(5, 0, "literal")
        assert torch.equal(dense, separable_convolution(image, vertical, horizontal, taps=taps, backend=backend))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("taps", "channels", "scale", "kernel_type"),
    [
        pytest.param(5, 3, 2, torch.float32, id="5 taps, 3 channels, scale 2"),
        pytest.param(3, 1, 4, torch.float32, id="3 taps, 1 channel, scale 4"),
        pytest.param(5, 3, 2, torch.bfloat16, id="5 taps, 3 channels, scale 2, bfloat16"),
        pytest.param(7, 1, 2, torch.float32, id="7 taps, 1 channel, scale 2"),
    ],
)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_halide_upsamples_small_maps(
    data: st.DataObject, taps: int, channels: int, scale: int, kernel_type: torch.dtype
) -> None:
    """Compare maps that Halide upsamples as it reads them with maps upsampled first, in float64."""
    batch, rows, columns = (data.draw(st.integers(1, largest)) for largest in (3, 40, 40))
    border = data.draw(st.sampled_from(["zero", "replicate"]))
    layouts = data.draw(st.sampled_from(LAYOUTS)), *[data.draw(st.sampled_from(LAYOUTS))] * 2
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1 << 30)))
    maps_shape = (batch, taps, rows, columns)
    image_shape = (batch, channels, rows * scale, columns * scale)
    image, vertical, horizontal = (
        torch.randn(shape, generator=generator) for shape in (image_shape, maps_shape, maps_shape)
    )
    tensors = [image, vertical.to(kernel_type), horizontal.to(kernel_type)]
    grad = torch.randn(image.shape, generator=generator)

    def run(backend: str, tensors: list[Tensor]) -> list[Tensor]:
        tensors = [t.requires_grad_() for t in tensors]
        with filled_with_nan():
            out = separable_convolution(
                *tensors, border=border, scale=scale, backend=backend  # type: ignore[call-overload]
            )  # fmt: skip
            return [out.detach(), *torch.autograd.grad(out, tensors, grad.to(out.dtype))]

    inputs = [with_layout(t, layout) for t, layout in zip(tensors, layouts, strict=True)]
    expected = run("reference", [t.detach().double() for t in inputs])
    names = ("output", "gradient of the image", "gradient of vertical", "gradient of horizontal")
    for name, actual, right, source in zip(names, run("halide", inputs), expected, (image, *tensors), strict=True):
        assert actual.shape == right.shape, name
        assert actual.dtype == source.dtype, name
        error, norm = (actual.double() - right).norm(), right.norm()
        assert error <= TOLERANCE[source.dtype] * norm + 1e-6, f"{name} differs by {error} of {norm}"
