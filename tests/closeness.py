"""Compare tensors by the norm of their difference."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}
"""For each type, the norm of the error of an operator's backend relative to the norm of the expected result."""


def assert_close_in_norm(name: str, result: Tensor, expected: Tensor, *, dtype: torch.dtype, tolerance: float) -> None:
    """Assert that a result has a type and the shape of the expected result, and a small relative error.

    name: the name of the tensor in messages. tolerance: the largest norm of the error relative to that of `expected`,
    to which 1e-6 is added.
    """
    assert result.shape == expected.shape, f"{name} has the shape {list(result.shape)}, not {list(expected.shape)}"
    assert result.dtype == dtype, f"{name} is {result.dtype}, not {dtype}"
    error, norm = (result.double() - expected.double()).norm(), expected.double().norm()
    assert error <= tolerance * norm + 1e-6, f"{name}: the error has the norm {error}, the expected result {norm}"
