"""Choose the backend that runs an operator, and report which backends can run.

Each operator declares its backends once, in a table in its `op.py`, and calls `choose_backend` there:

    BACKENDS = BackendTable(
        "warp",
        (
            Backend("halide", "one pass over the image", module="midframe.ops.warp.halide"),
            Backend("torch", "`grid_sample`", forward=pytorch.forward),
            Backend("reference", "four gathered neighbours", forward=reference.forward),
        ),
    )

    def run(image, flow, backend):
        chosen = choose_backend(BACKENDS, backend, image, flow)
        if chosen.forward is not None:
            return chosen.forward(image, flow)
        return _warp(image, flow, chosen.name)  # registered with torch.library; runs BACKENDS[name].load().forward

A new backend of an operator is one module and one line in its table. If a backend cannot run, one sentence says why:
a forced backend raises it, `auto` logs it at level debug, and `midframe info` prints it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from midframe.errors import DeviceError, SettingError

log = logging.getLogger(__name__)

AUTO_ORDER = ("halide", "triton", "torch")
"""The backends that `auto` tries, in this order. It never takes `reference`, which defines the operator."""


@dataclass(frozen=True)
class Backend:
    """One backend of one operator."""

    name: str
    """`halide`, `triton`, `torch` or `reference`."""
    description: str
    """A phrase that names the method, and the extra memory that it needs, if that is much."""
    module: str | None = None
    """Full name of a module with the function `forward` and a function for each gradient. It is imported when the
    backend first runs."""
    forward: Callable[..., Any] | None = None
    """Instead of a module: a function of differentiable torch operations, whose gradients torch's autograd derives."""
    limits: Callable[..., str | None] | None = None
    """A function of the tensors and arguments given to `choose_backend`. It returns a sentence that says why this
    backend cannot run on them, or None if it can. A backend without limits takes everything that the operator takes."""

    def load(self) -> ModuleType:
        """Import the module of this backend."""
        assert self.module is not None, f"the backend {self.name} has no module"
        return import_module(self.module)


@dataclass(frozen=True)
class BackendTable:
    """The backends of one operator. Creating a table adds it to those that `operator_availability` reports."""

    operator: str
    backends: tuple[Backend, ...]

    def __post_init__(self) -> None:
        _TABLES[self.operator] = self

    def __getitem__(self, name: str) -> Backend:
        """Return the backend of this name. Raise `SettingError` if the operator has none."""
        for backend in self.backends:
            if backend.name == name:
                return backend
        known = ", ".join(("auto", *(backend.name for backend in self.backends)))
        raise SettingError(f"{self.operator} has no backend '{name}'; there are: {known}")

    def __contains__(self, name: str) -> bool:
        return any(backend.name == name for backend in self.backends)


def torch_and_reference(description: str, forward: Callable[..., Any]) -> tuple[Backend, Backend]:
    """Return the backends `torch` and `reference` of an operator whose torch backend is the reference itself."""
    return (
        Backend("torch", f"the same as the reference: {description}", forward=forward),
        Backend("reference", description, forward=forward),
    )


_TABLES: dict[str, BackendTable] = {}


def choose_backend(table: BackendTable, backend: str, *tensors: Tensor, **arguments: object) -> Backend:
    """Return the backend that runs an operator on these tensors.

    backend: `auto` takes the first of `AUTO_ORDER` that can run; a name forces that backend. tensors: the operator's
    tensors; their devices and types determine which backends can run. arguments: further arguments of the function
    `Backend.limits`.
    Raises `DeviceError` (device or package) or `SettingError` (types, limits, unknown name) if a forced backend cannot
    run, and `DeviceError` if `auto` finds none.
    """
    if backend != "auto":
        chosen = table[backend]
        refusal = _refusal(chosen, tensors, arguments)
        if refusal is not None:
            raise refusal
        _record(table.operator, backend)
        return chosen
    for name in AUTO_ORDER:
        if name not in table:
            continue
        refusal = _refusal(table[name], tensors, arguments)
        if not torch.compiler.is_compiling():
            log.debug("%s on %s: %s", table.operator, name, refusal or "runs")
        if refusal is None:
            _record(table.operator, name)
            return table[name]
    raise DeviceError(f"{table.operator} has no backend that runs here; `midframe info` says why")


@contextmanager
def record_backends(record: dict[str, set[str]]) -> Iterator[None]:
    """While the context is active, add the name of each backend that runs an operator to `record[operator]`.

    Only operators that this thread runs are recorded. Calls inside a graph of `torch.compile` are not recorded.
    """
    _RECORDS.set((*_RECORDS.get(), record))
    try:
        yield
    finally:
        _RECORDS.set(tuple(active for active in _RECORDS.get() if active is not record))


_RECORDS: ContextVar[tuple[dict[str, set[str]], ...]] = ContextVar("records of backends", default=())


def _record(operator: str, backend: str) -> None:
    if not torch.compiler.is_compiling():
        for record in _RECORDS.get():
            record.setdefault(operator, set()).add(backend)


def describe_record(record: dict[str, set[str]]) -> str:
    """Return a record in words: `halide` if that ran everything, else each backend with its operators in brackets."""
    names = sorted({name for backends in record.values() for name in backends})
    if len(names) < 2:
        return "".join(names)
    operators = {name: sorted(o for o, backends in record.items() if name in backends) for name in names}
    return ", ".join(f"{name} ({', '.join(operators[name])})" for name in names)


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run; if it cannot, the reason."""

    runs: bool
    why: str
    """A description of the backend if it can run; else the message of the error that is raised if it is forced."""


def backend_availability(device: str) -> dict[str, Availability]:
    """Return for each backend whether this machine can run it on float32 tensors of a device (`cpu`, `cuda`, ...).

    An operator need not have all of them: see `operator_availability`.
    """
    found = {}
    for name, requirements in REQUIREMENTS.items():
        refusal = requirements(device, {torch.float32})
        found[name] = Availability(refusal is None, _DESCRIPTIONS[name]() if refusal is None else str(refusal))
    return found


def operator_availability(device: str) -> dict[str, dict[str, Availability]]:
    """Return for each operator and each of its backends whether it can run on float32 tensors of a device.

    `Backend.limits` is not checked, because it depends on the operator's arguments. Only operators whose modules are
    imported are reported.
    """
    found: dict[str, dict[str, Availability]] = {}
    for table in _TABLES.values():
        found[table.operator] = {}
        for backend in table.backends:
            refusal = REQUIREMENTS[backend.name](device, {torch.float32})
            why = backend.description if refusal is None else str(refusal)
            found[table.operator][backend.name] = Availability(refusal is None, why)
    return found


def _refusal(
    backend: Backend, tensors: tuple[Tensor, ...], arguments: dict[str, object]
) -> DeviceError | SettingError | None:
    """Return the error that says why a backend cannot run on these tensors, None if it can."""
    refusal = REQUIREMENTS[backend.name](tensors[0].device.type, {tensor.dtype for tensor in tensors})
    if refusal is None and backend.limits is not None:
        sentence = backend.limits(*tensors, **arguments)
        refusal = None if sentence is None else SettingError(sentence)
    return refusal


def _require_nothing(_device: str, _types: set[torch.dtype]) -> None:
    return None


def _require_halide(device: str, types: set[torch.dtype]) -> DeviceError | SettingError | None:
    if not _is_installed("halide"):
        return DeviceError("the halide backend needs the package halide; install it with `pip install halide`")
    if device != "cpu":
        return DeviceError(f"the halide backend runs on the CPU; the tensors are on {device}")
    return _require_single_or_half_precision("halide", types)


def _require_triton(device: str, types: set[torch.dtype]) -> DeviceError | SettingError | None:
    if not _is_installed("triton"):
        return DeviceError("the triton backend needs the package triton; install it with `pip install triton`")
    if device != "cuda" and not _triton_interprets():
        return DeviceError(f"the triton backend runs on a CUDA or ROCm GPU; the tensors are on {device}")
    return _require_single_or_half_precision("triton", types)


def _require_single_or_half_precision(backend: str, types: set[torch.dtype]) -> SettingError | None:
    for dtype in types - {torch.float32, torch.bfloat16, torch.float16}:
        found = str(dtype).removeprefix("torch.")
        return SettingError(f"the {backend} backend takes float32, bfloat16 and float16; a tensor is {found}")
    return None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _triton_interprets() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


Requirements = Callable[[str, set[torch.dtype]], DeviceError | SettingError | None]

REQUIREMENTS: dict[str, Requirements] = {
    "halide": _require_halide,
    "triton": _require_triton,
    "torch": _require_nothing,
    "reference": _require_nothing,
}
"""For each backend, a function of a device type and dtypes: the error if no operator can run with these, else None."""


def _describe_halide() -> str:
    from midframe.ops.halide.compiler import describe

    return describe()


def _describe_triton() -> str:
    mode = "interpreted on the CPU (TRITON_INTERPRET=1)" if _triton_interprets() else "kernels compiled at first use"
    return f"Triton {version('triton')}, {mode}"


_DESCRIPTIONS: dict[str, Callable[[], str]] = {
    "halide": _describe_halide,
    "triton": _describe_triton,
    "torch": lambda: f"torch {torch.__version__}, on any device and in any floating-point type",
    "reference": lambda: "the definition of each operator in plain torch, for tests and float64",
}
