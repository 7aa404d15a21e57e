"""Compare the Triton backend with the reference. `test_triton.py` runs this file in a process of its own.

Triton decides at import whether its kernels are interpreted, so TRITON_INTERPRET=1 must not be set for the other tests.
If there is a GPU, the same cases run on it. The interpreter takes some milliseconds per row of taps, row of pixels and
channel, so the cases of `make test` are small.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from midframe.ops import separable_convolution
from midframe.ops.taps import TapPattern

GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU or TRITON_INTERPRET=1; test_triton.py sets it", allow_module_level=True)
DEVICE = "cuda" if GPU else "cpu"

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""The largest norm of the error relative to the norm of the reference, by the type of image or kernels."""


class Case(NamedTuple):
    """The sizes, types, memory layout and options of one call."""

    taps: TapPattern = TapPattern.dense(5)
    batch: int = 1
    channels: int = 2
    height: int = 3
    width: int = 9
    border: str = "zero"
    normalise: bool = False
    scale: int = 1
    image_type: torch.dtype = torch.float32
    kernel_type: torch.dtype = torch.float32
    layout: str = "contiguous"


@pytest.fixture(autouse=True)
def _fill_new_tensors_with_nan() -> Iterator[None]:
    """Fill new tensors with NaN, so that a pixel that no kernel writes is noticed."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def with_layout(values: Tensor, layout: str) -> Tensor:
    """Return the values in a memory layout."""
    match layout:
        case "channels_last":
            return values.contiguous(memory_format=torch.channels_last)
        case "view":  # every second column of a larger tensor
            wide = torch.full((*values.shape[:3], 2 * values.shape[3] + 1), float("nan"), dtype=values.dtype)
            wide[..., 1::2] = values
            return wide[..., 1::2]
        case "transposed":
            return values.mT.contiguous().mT
        case _:
            return values


def check(case: Case, seed: int = 0) -> None:
    """Compare output, weight sum and all three gradients with the reference in float64."""
    torch.manual_seed(seed)
    shapes = [(case.batch, case.channels, case.height, case.width)]
    shapes += 2 * [(case.batch, case.taps.size, case.height // case.scale, case.width // case.scale)]
    types = (case.image_type, case.kernel_type, case.kernel_type)
    tensors = [torch.randn(shape).to(kind) for shape, kind in zip(shapes, types, strict=True)]
    if case.normalise:
        tensors[1:] = [kernel.abs() + 0.1 for kernel in tensors[1:]]
    grads = torch.randn(shapes[0], dtype=torch.float64), torch.randn(case.batch, 1, *shapes[0][2:]).double()
    results = []
    for backend in ("reference", "triton"):
        dtypes = [torch.float64] * 3 if backend == "reference" else types
        placed = [with_layout(t.to(k), case.layout).to(DEVICE) for t, k in zip(tensors, dtypes, strict=True)]
        leaves = [tensor.detach().requires_grad_() for tensor in placed]
        out, weights = separable_convolution(
            *leaves,
            taps=case.taps,
            border=case.border,  # type: ignore[arg-type]
            normalise=case.normalise,
            return_weights=True,
            scale=case.scale,
            backend=backend,  # type: ignore[arg-type]
        )
        loss = (out.double() * grads[0].to(DEVICE)).sum() + (weights.double() * grads[1].to(DEVICE)).sum()
        results.append((out, weights, *torch.autograd.grad(loss, leaves)))
    bound = max(TOLERANCE[case.image_type], TOLERANCE[case.kernel_type])
    names = ("output", "weight sum", "gradient of the image", "gradient of vertical", "gradient of horizontal")
    for name, expected, actual in zip(names, *results, strict=True):
        error = (actual.double() - expected).norm() / expected.norm().clamp(min=1e-12)
        assert error < bound, f"{name} differs by {float(error):.2g} of its norm, more than {bound:g}; {case}"


COMPOSITES = [TapPattern.composite(3, 2), TapPattern.composite(3, 4, "axes"), TapPattern.composite(1, 4, "literal")]

CASES = [
    Case(),
    Case(border="replicate"),
    Case(taps=TapPattern.dense(1), batch=2, border="replicate"),
    Case(taps=TapPattern.dense(9), channels=1, height=3, width=5, border="replicate"),
    Case(taps=TapPattern.dense(3), channels=1, height=16, width=16),
    Case(taps=TapPattern.dense(3), channels=1, height=2, width=133),
    Case(batch=2, channels=4, height=1, width=1),
    Case(normalise=True, channels=3),
    Case(normalise=True, border="replicate", channels=1),
    Case(scale=2, height=4, width=8, channels=1),
    Case(layout="channels_last"),
    Case(layout="view", border="replicate"),
    Case(layout="transposed"),
    Case(image_type=torch.bfloat16, kernel_type=torch.bfloat16),
    Case(image_type=torch.float16, kernel_type=torch.float16, border="replicate"),
    Case(kernel_type=torch.bfloat16, channels=1),
    *(Case(taps=taps, channels=1, border=b) for taps, b in zip(COMPOSITES, ("zero", "replicate", "zero"), strict=True)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case) -> None:
    check(case)


def test_51_taps() -> None:
    check(Case(taps=TapPattern.dense(51), channels=1, height=1, width=40))


EXAMPLES = 100 if GPU else 5


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    taps=st.sampled_from([*(TapPattern.dense(size) for size in (1, 3, 5)), *COMPOSITES]),
    batch=st.integers(1, 2),
    channels=st.integers(1, 3),
    height=st.integers(1, 70 if GPU else 3),
    width=st.integers(1, 70 if GPU else 16),
    border=st.sampled_from(["zero", "replicate"]),
    layout=st.sampled_from(["contiguous", "channels_last", "view", "transposed"]),
    seed=st.integers(0, 99),
)
def test_any_shape(seed: int, **case: object) -> None:
    check(Case(**case), seed)  # type: ignore[arg-type]


def test_offsets_beyond_32_bits_are_addressed() -> None:
    """Convolve a batch whose second sample lies beyond 2^31 values."""
    if not GPU:
        pytest.skip("takes 9 GB; runs on a GPU")
    taps = TapPattern.dense(51)
    height, width = 4096, 5200
    kernels = torch.zeros(2, 51, height, width, device=DEVICE, dtype=torch.bfloat16)
    kernels[:, 25] = 1
    image = torch.rand(2, 1, height, width, device=DEVICE)
    assert kernels[1].storage_offset() * 2 > 2**31 - 2**26
    torch.testing.assert_close(separable_convolution(image, kernels, kernels, taps=taps, backend="triton"), image)


GRID = [
    Case(taps=taps, batch=batch, channels=channels, height=height, width=width, border=border, layout=layout)
    for (taps, border), (batch, channels, height, width), layout in product(
        product(
            [*(TapPattern.dense(size) for size in (1, 3, 5, 9, 51)), TapPattern.composite(11, 10)],
            ("zero", "replicate"),
        ),
        [(1, 1, 1, 1), (1, 3, 16, 16), (3, 4, 13, 7)] + ([(2, 3, 70, 67), (1, 2, 61, 300)] if GPU else []),
        ("contiguous", "channels_last", "view"),
    )
    if GPU or taps.size <= 9 or (height <= 16 and layout == "contiguous" and batch == 1)
]


@pytest.mark.slow
@pytest.mark.parametrize("case", GRID, ids=str)
def test_grid(case: Case) -> None:
    check(case)
