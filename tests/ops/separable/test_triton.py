"""Test the Triton backend: compare it with the reference, and compile it for GPUs that this machine need not have."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs triton: pip install triton", allow_module_level=True)

CASES = Path(__file__).with_name("triton_cases.py")


def run_cases(selection: str, limit: int) -> None:
    """Run the marked tests of `triton_cases.py` in a process of its own, for at most `limit` seconds."""
    environment = os.environ if torch.cuda.is_available() else {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", selection, str(CASES), "-p", "no:cacheprovider"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_equals_the_reference() -> None:
    run_cases("not slow", 600)


@pytest.mark.slow
def test_equals_the_reference_on_the_whole_grid() -> None:
    run_cases("slow", 7200)


KERNELS = ("_forward", "_gradient_kernels", "_gradient_image")
LOW_PRECISION = ("image", "vertical", "horizontal", "out", "grad_out", "grad_vertical", "grad_horizontal", "grad_image")


class Build(NamedTuple):
    """A variant of a kernel to compile."""

    capability: int
    """Compute capability of the GPU, times 10."""
    taps: int
    """Taps per side."""
    tile_taps: int
    """Taps of a tile: the next power of two."""
    dtype: str
    """Triton's name of the type of image and kernels."""
    table: bool
    """Whether the offsets come from a table, as for composite patterns."""


def compile_kernel(kernel: str, build: Build) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from midframe.ops.separable import triton as backend

    function = getattr(backend, kernel)
    constants = {
        "CHANNELS": 3,
        "SIZE": build.taps,
        "TAPS": build.tile_taps,
        "BLOCK": min(128, backend.TILE // build.tile_taps),
    }
    constants |= {"TABLE": build.table, "REPLICATE": not build.table}
    constants |= {name: 1 for name in function.arg_names if name.endswith("_x")}
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    signature = dict.fromkeys(function.arg_names, "i32")
    signature |= {name: f"*{build.dtype}" for name in LOW_PRECISION if name in signature}
    signature |= {name: "*fp32" for name in ("weight_sum", "grad_weight_sum") if name in signature}
    signature |= {"table": "*i32", **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(fn=function, signature=signature, constexprs=constants)
    options = {"num_warps": backend.WARPS}
    return triton.compile(source, target=GPUTarget("cuda", build.capability, 32), options=options)


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="interpreted kernels cannot be compiled")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "build",
    [
        Build(80, 5, 8, "fp32", table=False),
        Build(90, 5, 8, "bf16", table=True),
        Build(90, 51, 64, "fp32", table=False),
        pytest.param(Build(80, 51, 64, "fp16", table=False), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_compiles_ahead_of_time(kernel: str, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled = compile_kernel(kernel, build)
    assert f".target sm_{build.capability}" in compiled.asm["ptx"]
    assert compiled.asm["cubin"].startswith(b"\x7fELF")
