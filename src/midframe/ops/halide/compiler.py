"""Compile a Halide pipeline at its first use, cache it for later processes, and call it on tensors.

    run = load_pipeline("scale", __file__, define)  # define() -> (arguments, outputs), only called to compile
    run(image, 3, out)                              # a value for each argument, then a tensor for each output

If a C++ compiler is installed, the pipeline is linked to a shared object in the user's cache folder. The name of the
file contains a hash of everything that the pipeline depends on (the source files, Halide's version, the processor) and
a checksum of the file's content. The file is written to a temporary folder and then renamed, so that several processes
may compile the same pipeline at once. Without a compiler, or if the folder cannot be used, each process compiles its
pipelines anew.

The dimensions of a tensor are reversed in Halide: `[C, H, W]` is `f(x, y, c)`. Strides are passed on, so nothing is
copied. bfloat16 and float16 are passed as 16-bit integers; `to_float32` and `from_float32` convert them on any
processor, also on one without instructions for these types.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midframe.errors import MidframeError

log = logging.getLogger(__name__)

Run = Callable[..., None]
"""A compiled pipeline. It takes a value per argument, then a tensor per output, which it fills."""
Define = Callable[[], tuple[Sequence[Any], Sequence[Any]]]
"""A function that returns the arguments (`ImageParam`s and `Param`s) and the output `Func`s of a pipeline."""

_runs: dict[tuple[str, str], Run] = {}
_lock = threading.Lock()


def load_pipeline(name: str, source: str, define: Define) -> Run:
    """Return a pipeline, which is loaded from the cache or compiled at the first call.

    name: a C identifier, different for each variant of the pipeline (types, unrolled sizes). source: the file that
    defines the pipeline. define: called if the pipeline is not in the cache.
    """
    key = (source, name)
    if key not in _runs:
        with _lock:
            if key not in _runs:
                _runs[key] = _load_or_cache(name, source, define) or _compile_in_memory(name, define)
    return _runs[key]


def describe() -> str:
    """Return a sentence with Halide's version and the cache folder, or why pipelines are not cached."""
    cache = _find_cache()
    use = cache if isinstance(cache, str) else f"pipelines compiled at first use and kept in {cache.folder}"
    return f"Halide {version('halide')}, {use}"


def tensor_input(name: str, dtype: torch.dtype, dimensions: int) -> Any:
    """Return an input for tensors of this type, with any strides."""
    import halide as hl

    image = hl.ImageParam(hl.Float(32) if dtype is torch.float32 else hl.UInt(16), dimensions, name)
    image.dim(0).set_stride(hl.Expr())
    return image


def native_lanes() -> int:
    """Return how many float32 values a vector of this processor holds."""
    import halide as hl

    lanes: int = hl.get_host_target().natural_vector_size(hl.Float(32))
    return lanes


def to_float32(value: Any, dtype: torch.dtype) -> Any:
    """Convert a Halide expression, read from a tensor of this type, to float32."""
    import halide as hl

    if dtype is torch.float32:
        return value
    if dtype is torch.float16:
        return hl.cast(hl.Float(32), hl.reinterpret(hl.Float(16), value))
    return hl.reinterpret(hl.Float(32), hl.cast(hl.UInt(32), value) << 16)


def from_float32(value: Any, dtype: torch.dtype) -> Any:
    """Convert a float32 Halide expression for storage in a tensor of this type, rounded to nearest even."""
    import halide as hl

    if dtype is torch.float32:
        return value
    if dtype is torch.float16:
        return hl.reinterpret(hl.UInt(16), hl.cast(hl.Float(16), value))
    bits = hl.reinterpret(hl.UInt(32), value)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return hl.cast(hl.UInt(16), hl.select(hl.is_nan(value), hl.cast(hl.UInt(32), 0x7FC0), rounded))


def empty_in_huge_pages(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return an empty tensor for large results, in huge pages if the system has them.

    With pages of 4 KiB, page faults would add half to the time that the kernel gradients take.
    """
    result = torch.empty(tuple(shape), dtype=dtype)
    if sys.platform == "linux" and result.nbytes >= _HUGE_PAGE:
        start = -(-result.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (result.data_ptr() + result.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
        # This is advice to the system, so its return value does not matter.
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
    return result


_HUGE_PAGE = 2 << 20
"""Bytes of a huge page of Linux on most processors. Smaller tensors do not fill one."""


@dataclass(frozen=True)
class _Cache:
    """The linker and the folder that are needed to cache pipelines."""

    linker: str
    """Path of a C++ compiler."""
    folder: Path
    """Where the shared objects are stored."""


def _load_or_cache(name: str, source: str, define: Define) -> Run | None:
    """Load a pipeline from the cache, after compiling it into the cache if needed; None if there is no cache."""
    cache = _find_cache()
    if isinstance(cache, str):
        log.debug("Halide pipeline %s: %s", name, cache)
        return None
    try:
        stem = f"{name}-{_digest(name, source)}"
        path = next((file for file in cache.folder.glob(f"{stem}-*.so") if _is_intact(file)), None)
        if path is None:
            path = _compile_to_cache(name, define, cache, stem)
            log.debug("Halide pipeline %s compiled and kept as %s", name, path)
        return _callable_from(ctypes.CDLL(str(path)), name)
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        log.debug("Halide pipeline %s cannot be kept: %s", name, error)
        return None


def _digest(name: str, source: str) -> str:
    """Return a hash of everything that a compiled pipeline depends on.

    Pipelines share parts and take constants from the reference implementations, so the hash covers all Halide and
    reference files of the package.
    """
    import halide as hl

    digest = hashlib.sha256(f"{name} {version('halide')} {hl.get_host_target()}".encode())
    package = Path(__file__).parents[2]
    shared = {file for pattern in ("halide.py", "halide/*.py", "reference.py") for file in package.rglob(pattern)}
    for file in (Path(source), *sorted(shared)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _compile_to_cache(name: str, define: Define, cache: _Cache, stem: str) -> Path:
    """Compile and link a pipeline. Return the shared object in the cache folder, `{stem}-{checksum}.so`."""
    import halide as hl

    with tempfile.TemporaryDirectory(dir=cache.folder, prefix="building-") as work:
        arguments, outputs = define()
        object_file, linked = Path(work, "pipeline.o"), Path(work, "pipeline.so")
        pipeline = hl.Pipeline(list(outputs))
        pipeline.compile_to_object(str(object_file), list(arguments), name, hl.get_host_target())
        command = [cache.linker, "-shared", "-o", str(linked), str(object_file), "-lpthread", "-ldl", "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return linked.replace(cache.folder / f"{stem}-{_checksum(linked)}.so")


def _is_intact(path: Path) -> bool:
    """Return whether a shared object has the checksum in its name, and remove it if not.

    Loading a file that was truncated in a crash would kill the process.
    """
    if path.stem.endswith(f"-{_checksum(path)}"):
        return True
    path.unlink(missing_ok=True)
    return False


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _find_cache() -> _Cache | str:
    """Return the linker and the folder for caching, or, if pipelines cannot be cached, a phrase that says why."""
    anew = "pipelines compiled anew in each process"
    if sys.platform == "win32":
        return f"{anew} (kept on Linux and macOS only)"
    names = (os.environ.get("CXX"), "c++", "g++", "clang++")
    linker = next((path for name in names if name and (path := shutil.which(name))), None)
    if linker is None:
        return f"{anew} (no C++ compiler found to keep them)"
    try:
        base = os.environ.get("XDG_CACHE_HOME") or ""
        root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
        folder = root / "midframe" / "halide"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            return f"{anew} ({folder} can be written by other users)"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"{anew} ({folder} cannot be written)"
    except (OSError, RuntimeError) as error:
        return f"{anew} (no cache folder: {error})"
    return _Cache(linker, folder)


def _compile_in_memory(name: str, define: Define) -> Run:
    """Compile a pipeline for this process only."""
    import halide as hl

    arguments, outputs = define()
    function = hl.Pipeline(list(outputs)).compile_to_callable(list(arguments), hl.get_host_target())
    log.debug("Halide pipeline %s compiled for this process", name)

    def run(*values: Tensor | int | float) -> None:
        try:
            function(*(_buffer(value) if isinstance(value, Tensor) else value for value in values))
        except hl.HalideError as error:
            raise MidframeError(f"the Halide pipeline {name} failed: {str(error).strip()}") from error

    def _buffer(tensor: Tensor) -> Any:
        tensor = tensor.detach().as_strided(tensor.shape, _strides(tensor))
        if tensor.dtype in (torch.bfloat16, torch.float16):
            return hl.Buffer(tensor.view(torch.int16).numpy().view("uint16"))
        return hl.Buffer(tensor.numpy())

    return run


class _Dimension(ctypes.Structure):
    """`halide_dimension_t` of Halide's runtime."""

    _fields_ = (
        ("min", ctypes.c_int32),
        ("extent", ctypes.c_int32),
        ("stride", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    )


class _Buffer(ctypes.Structure):
    """`halide_buffer_t` of Halide's runtime."""

    _fields_ = (
        ("device", ctypes.c_uint64),
        ("device_interface", ctypes.c_void_p),
        ("host", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("dimensions", ctypes.c_int32),
        ("dim", ctypes.POINTER(_Dimension)),
        ("padding", ctypes.c_void_p),
    )


_CODES = {torch.float32: (2, 32), torch.float16: (1, 16), torch.bfloat16: (1, 16), torch.int32: (0, 32)}
"""Halide's type code (0 signed, 1 unsigned, 2 float) and bits of a tensor's type."""

_ErrorHandler = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)


def _callable_from(library: ctypes.CDLL, name: str) -> Run:
    """Return the pipeline of a shared object as a function that raises `MidframeError` if the pipeline fails."""
    function = library[name]
    function.restype = ctypes.c_int
    messages: list[str] = []
    handler = _ErrorHandler(lambda _context, message: messages.append(message.decode(errors="replace").strip()))
    library.halide_set_error_handler(handler)

    def run(*values: Tensor | int | float) -> None:
        if function(*map(_argument, values)) != 0:
            reason = "; ".join(messages) or "no reason given"
            messages.clear()
            raise MidframeError(f"the Halide pipeline {name} failed: {reason}")

    run.handler = handler  # type: ignore[attr-defined] # else it would be freed
    return run


def _argument(value: Tensor | int | float) -> Any:
    """Return a value as the C function of a pipeline takes it; a tensor as a pointer to a `halide_buffer_t`."""
    if isinstance(value, int):
        return ctypes.c_int32(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    dimensions = value.dim()
    sizes = zip(reversed(value.shape), reversed(_strides(value)), strict=True)
    dims = (_Dimension * dimensions)(*(_Dimension(0, size, stride, 0) for size, stride in sizes))
    code, bits = _CODES[value.dtype]
    return ctypes.byref(_Buffer(0, None, value.data_ptr(), 0, code, bits, 1, dimensions, dims, None))


def _strides(tensor: Tensor) -> list[int]:
    """Return the strides of a tensor, with 1 for dimensions of size 1.

    torch allows any stride in such a dimension, but pipelines may require 1.
    """
    return [stride if size > 1 else 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
