"""Which backends an operator can run on here, and why not on the others.

A backend has one predicate: it gives the error that forcing this backend raises, or None where it can run. The same
sentence is logged at debug where `auto` passes it by, and printed by `midframe info`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor

from midframe.errors import DeviceError, MidframeError, SettingError

log = logging.getLogger(__name__)

AUTOMATIC = ("halide", "triton", "torch")
"""What `auto` tries, in this order. `reference` is never chosen: it is the definition, not a way to work."""


def choose(
    operator: str,
    backend: str,
    tensors: Sequence[Tensor],
    *,
    offered: Sequence[str] = AUTOMATIC,
) -> str:
    """The backend that runs `operator` on these tensors: one of `offered`, or `reference`.

    backend: `auto`, or the name of the one that must be used. offered: what the operator has, best first.
    Raises `DeviceError` (device or package) or `SettingError` (types, names) where a forced backend cannot run.
    """
    if backend != "auto":
        if backend not in (*offered, "reference"):
            known = ", ".join(("auto", "reference", *offered))
            raise SettingError(f"{operator} has no backend '{backend}'; there are: {known}")
        refusal = why_not(backend, tensors)
        if refusal is not None:
            raise refusal
        return backend
    for name in offered:
        refusal = why_not(name, tensors)
        if not torch.compiler.is_compiling():
            log.debug("%s on %s: %s", operator, name, refusal or "runs")
        if refusal is None:
            return name
    raise DeviceError(f"{operator} has no backend that runs here; `midframe info` says why")


def why_not(backend: str, tensors: Sequence[Tensor]) -> MidframeError | None:
    """Why this backend cannot run on these tensors, None where it can."""
    return PREDICATES[backend](tensors[0].device.type, {tensor.dtype for tensor in tensors})


def survey(device: str | None = None) -> list[tuple[str, bool, str]]:
    """Each backend, whether it runs on float32 tensors of a device (None: the best one here), and a sentence on it."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for name, predicate in PREDICATES.items():
        refusal = predicate(device, {torch.float32})
        rows.append((name, refusal is None, str(refusal) if refusal else _DESCRIPTIONS[name]()))
    return rows


def _any(_device: str, _types: set[torch.dtype]) -> None:
    return None


def _halide(device: str, types: set[torch.dtype]) -> MidframeError | None:
    if not _installed("halide"):
        return DeviceError("the halide backend needs the package halide; install it with `pip install halide`")
    if device != "cpu":
        return DeviceError(f"the halide backend runs on the CPU; the tensors are on {device}")
    return _low_precision_only("halide", types)


def _triton(device: str, types: set[torch.dtype]) -> MidframeError | None:
    if not _installed("triton"):
        return DeviceError("the triton backend needs the package triton; install it with `pip install triton`")
    if device != "cuda" and not _triton_interprets():
        return DeviceError(f"the triton backend runs on a CUDA or ROCm GPU; the tensors are on {device}")
    return _low_precision_only("triton", types)


def _low_precision_only(backend: str, types: set[torch.dtype]) -> MidframeError | None:
    for dtype in types - {torch.float32, torch.bfloat16, torch.float16}:
        found = str(dtype).removeprefix("torch.")
        return SettingError(f"the {backend} backend takes float32, bfloat16 and float16; a tensor is {found}")
    return None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _installed(package: str) -> bool:
    return find_spec(package) is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _triton_interprets() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


PREDICATES: dict[str, Callable[[str, set[torch.dtype]], MidframeError | None]] = {
    "halide": _halide,
    "triton": _triton,
    "torch": _any,
    "reference": _any,
}


def _describe_halide() -> str:
    from midframe.ops.halide.compiler import describe

    return describe()


def _describe_triton() -> str:
    mode = "interpreted on the CPU (TRITON_INTERPRET=1)" if _triton_interprets() else "kernels compiled at first use"
    return f"Triton {version('triton')}, {mode}"


_DESCRIPTIONS: dict[str, Callable[[], str]] = {
    "halide": _describe_halide,
    "triton": _describe_triton,
    "torch": lambda: f"torch {torch.__version__} on any device, in chunks of bounded memory",
    "reference": lambda: "the definition in plain torch, for tests and float64",
}
