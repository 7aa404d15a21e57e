"""Compile a Halide pipeline at its first use, keep it for later processes, and call it on tensors.

    run = compiled("scale", __file__, define)     # define() -> (arguments, outputs), called only when nothing is kept
    run(image, 3, out)                            # tensors, ints and floats as in arguments, then the outputs

Where a C++ compiler is at hand, the pipeline is linked to a shared object in the user's cache folder, named by the hash
of what pipelines are written in and take numbers from, Halide's version and the processor, and that of its content. It
is written beside its place and renamed, so that processes may meet there. Where there is no compiler or the folder
cannot be used, Halide compiles anew in each process.

A tensor's dimensions are reversed: `[C, H, W]` is `f(x, y, c)`. Strides are passed on, so nothing is copied. bfloat16
and float16 travel as 16 bits; `read` and `write` convert them, which needs no help of the processor's.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midframe.errors import MidframeError

log = logging.getLogger(__name__)

Run = Callable[..., None]
Define = Callable[[], tuple[Sequence[Any], Sequence[Any]]]

_runs: dict[tuple[str, str], Run] = {}
_lock = threading.Lock()


def compiled(name: str, source: str, define: Define) -> Run:
    """The pipeline `name` of the file `source`, compiled or loaded at the first call.

    name: a C identifier, unique in its file for each variant (types, unrolled sizes). define: gives the arguments
    (`ImageParam`s and `Param`s) and the output `Func`s.
    """
    key = (source, name)
    if key not in _runs:
        with _lock:
            if key not in _runs:
                _runs[key] = _load_kept(name, source, define) or _compile_here(name, define)
    return _runs[key]


def describe() -> str:
    """One sentence: which Halide, and whether what it compiles is kept."""
    kept = _keeping()
    where = f"pipelines compiled at first use and kept in {kept[1]}" if isinstance(kept, tuple) else kept
    return f"Halide {version('halide')}, {where}"


def parameter(name: str, dtype: torch.dtype, dimensions: int) -> Any:
    """An input picture or map of this type, with any strides."""
    import halide as hl

    image = hl.ImageParam(hl.Float(32) if dtype is torch.float32 else hl.UInt(16), dimensions, name)
    image.dim(0).set_stride(hl.Expr())
    return image


def read(value: Any, dtype: torch.dtype) -> Any:
    """A stored value as float32."""
    import halide as hl

    if dtype is torch.float32:
        return value
    if dtype is torch.float16:
        return hl.cast(hl.Float(32), hl.reinterpret(hl.Float(16), value))
    return hl.reinterpret(hl.Float(32), hl.cast(hl.UInt(32), value) << 16)


def write(value: Any, dtype: torch.dtype) -> Any:
    """A float32 value as it is stored, rounded to nearest even."""
    import halide as hl

    if dtype is torch.float32:
        return value
    if dtype is torch.float16:
        return hl.reinterpret(hl.UInt(16), hl.cast(hl.Float(16), value))
    bits = hl.reinterpret(hl.UInt(32), value)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return hl.cast(hl.UInt(16), hl.select(hl.is_nan(value), hl.cast(hl.UInt(32), 0x7FC0), rounded))


def new_maps(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An empty tensor for large results, on huge pages where the system lends them: else its page faults, one for each
    4 KiB, cost as much as half of the arithmetic."""
    maps = torch.empty(tuple(shape), dtype=dtype)
    if sys.platform == "linux" and maps.nbytes >= _HUGE_PAGE:
        start = -(-maps.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (maps.data_ptr() + maps.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
        # It is advice: what the system answers does not matter.
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
    return maps


_HUGE_PAGE = 2 << 20


def _load_kept(name: str, source: str, define: Define) -> Run | None:
    kept = _keeping()
    if not isinstance(kept, tuple):
        log.debug("Halide pipeline %s: %s", name, kept)
        return None
    import halide as hl

    linker, folder = kept
    target = hl.get_host_target()
    digest = hashlib.sha256(f"{name} {version('halide')} {target}".encode())
    package = Path(__file__).parents[2]  # pipelines share pieces, and take numbers from the definitions
    shared = {file for name in ("halide*.py", "halide/*.py", "reference.py") for file in package.rglob(name)}
    for file in (Path(source), *sorted(shared)):
        digest.update(file.read_bytes())
    stem = f"{name}-{digest.hexdigest()[:16]}"
    try:
        path = next((file for file in folder.glob(f"{stem}-*.so") if _is_whole(file)), None)
        if path is None:
            with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as work:
                arguments, outputs = define()
                object_file, linked = Path(work, "pipeline.o"), Path(work, "pipeline.so")
                hl.Pipeline(list(outputs)).compile_to_object(str(object_file), list(arguments), name, target)
                command = [linker, "-shared", "-o", str(linked), str(object_file), "-lpthread", "-ldl", "-lm"]
                subprocess.run(command, check=True, capture_output=True, timeout=120)
                path = linked.replace(folder / f"{stem}-{_checksum(linked)}.so")
            log.debug("Halide pipeline %s compiled and kept as %s", name, path)
        return _callable_from(ctypes.CDLL(str(path)), name)
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        log.debug("Halide pipeline %s cannot be kept: %s", name, error)
        return None


def _is_whole(path: Path) -> bool:
    """A shared object that lost its end in a crash would kill the process that loads it; it is removed."""
    if path.stem.endswith(f"-{_checksum(path)}"):
        return True
    path.unlink(missing_ok=True)
    return False


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _keeping() -> tuple[str, Path] | str:
    """The linker and the folder that pipelines are kept with, or why they are not kept, as the end of a sentence."""
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
    return linker, folder


def _compile_here(name: str, define: Define) -> Run:
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

    run.handler = handler  # type: ignore[attr-defined] # the library keeps only its address
    return run


def _argument(value: Tensor | int | float) -> Any:
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
    """A tensor's strides; where there is one element, torch leaves any number there, and pipelines may ask for 1."""
    return [stride if size > 1 else 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
