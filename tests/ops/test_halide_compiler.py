"""Test that Halide pipelines are cached, work without a cache, and convert 16-bit floats as torch does."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from midframe.errors import MidframeError
from midframe.ops.halide import compiler
from midframe.ops.halide.compiler import describe, load_pipeline, tensor_input


class Doubling:
    """A small pipeline that counts how often it is compiled; each `run` loads it as a new process does."""

    def __init__(self) -> None:
        self.compiled = 0

    def define(self) -> tuple[list[Any], list[Any]]:
        import halide as hl

        self.compiled += 1
        x, y = hl.Var("x"), hl.Var("y")
        values, factor, out = tensor_input("values", torch.float32, 2), hl.Param(hl.Float(32), "factor"), hl.Func("out")
        out[x, y] = values[x, y] * factor
        return [values, factor], [out]

    def run(self) -> None:
        compiler._runs.pop((__file__, "doubling"), None)
        for values in (torch.rand(3, 4), torch.rand(4, 3).t(), torch.rand(1, 4).expand(3, 4)):
            out = torch.full((3, 4), float("nan"))
            load_pipeline("doubling", __file__, self.define)(values, 2.0, out)
            assert torch.equal(out, 2 * values)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def cached_files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.skipif(sys.platform == "win32", reason="pipelines are cached on Linux and macOS only")
def test_a_cached_pipeline_is_not_compiled_again(cache: Path) -> None:
    doubling = Doubling()
    doubling.run()
    doubling.run()
    assert doubling.compiled == 1
    (cached,) = cached_files(cache)
    assert f"kept in {cached.parent}" in describe()


@pytest.mark.skipif(sys.platform == "win32", reason="pipelines are cached on Linux and macOS only")
def test_a_damaged_file_is_not_loaded(cache: Path) -> None:
    """Loading a truncated shared object would kill the process, so it must be detected before."""
    doubling = Doubling()
    doubling.run()
    (cached,) = cached_files(cache)
    content = cached.read_bytes()
    # Write a new file, because the one that this process has loaded must not change.
    cached.unlink()
    cached.write_bytes(content[:1000])
    doubling.run()
    assert doubling.compiled == 2
    (cached,) = cached_files(cache)
    assert len(cached.read_bytes()) > 1000
    doubling.run()
    assert doubling.compiled == 2


NOT_CACHED = "compiled anew in each process"


def put_file_in_place_of_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file where the folder should be")


def let_others_write(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache / "midframe" / "halide"
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def hide_compilers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)


def take_home_away(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/dev/null/nowhere")


def break_linker(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(put_file_in_place_of_folder, NOT_CACHED, id="a file in place of the folder"),
        pytest.param(let_others_write, NOT_CACHED, id="others may write"),
        pytest.param(hide_compilers, NOT_CACHED, id="no compiler"),
        pytest.param(take_home_away, NOT_CACHED, id="no home"),
        pytest.param(break_linker, "cannot be kept", id="linking fails"),
    ],
)
def test_without_a_cache_each_process_compiles_anew(
    cache: Path,
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil(cache, monkeypatch)
    doubling = Doubling()
    with caplog.at_level(logging.DEBUG, logger="midframe"):
        doubling.run()
        doubling.run()
    assert doubling.compiled >= 2
    assert message in caplog.text
    assert not cached_files(cache) or cache.is_file()
    if message == NOT_CACHED:
        assert message in describe()


PROGRAM = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("doubling", {__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.Doubling().run()
"""


def test_two_processes_may_compile_the_same_pipeline_at_once(cache: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", PROGRAM], env=os.environ) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert cached_files(cache)
    assert all(path.suffix == ".so" for path in cached_files(cache))
    doubling = Doubling()
    doubling.run()
    assert doubling.compiled == 0


def test_sixteen_bit_values_are_read_and_rounded_as_torch_does() -> None:
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(256, 256)
    for dtype in (torch.bfloat16, torch.float16):
        stored = patterns.view(dtype)

        def define(dtype: torch.dtype = dtype) -> tuple[list[Any], list[Any]]:
            import halide as hl

            x, y = hl.Var("x"), hl.Var("y")
            values, out = tensor_input("values", dtype, 2), hl.Func("out")
            exact = compiler.to_float32(values[x, y], dtype)
            out[x, y] = (exact, compiler.from_float32(exact * hl.f32(1.001), dtype))
            return [values], [out]

        read, rounded = torch.empty(256, 256), torch.empty(256, 256, dtype=dtype)
        load_pipeline(f"convert_{str(dtype)[6:]}", __file__, define)(stored, read, rounded)
        torch.testing.assert_close(read, stored.float(), rtol=0, atol=0, equal_nan=True)
        expected = (stored.float() * torch.tensor(1.001)).to(dtype)
        torch.testing.assert_close(rounded, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "in memory"])
def test_arguments_of_wrong_sizes_raise_instead_of_crashing(cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cached:
        monkeypatch.setattr(compiler, "_find_cache", lambda: "compiled anew in each process")
    compiler._runs.pop((__file__, "doubling"), None)
    run = load_pipeline("doubling", __file__, Doubling().define)
    with pytest.raises(MidframeError, match=r"pipeline doubling failed: .*beyond"):
        run(torch.zeros(2, 4), 1.0, torch.zeros(3, 4))
