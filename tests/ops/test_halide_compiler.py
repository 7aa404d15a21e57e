"""Halide pipelines are kept between processes where they can be, and work where they cannot; types survive."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from midframe.errors import MidframeError
from midframe.ops.halide import compiler as halide_build
from midframe.ops.halide.compiler import compiled, describe, parameter


class Doubling:
    """A small pipeline that counts how often it is compiled; `run` starts like a new process."""

    def __init__(self) -> None:
        self.compiled = 0

    def define(self) -> tuple[list[Any], list[Any]]:
        import halide as hl

        self.compiled += 1
        x, y = hl.Var("x"), hl.Var("y")
        values, factor, out = parameter("values", torch.float32, 2), hl.Param(hl.Float(32), "factor"), hl.Func("out")
        out[x, y] = values[x, y] * factor
        return [values, factor], [out]

    def run(self) -> None:
        halide_build._runs.pop((__file__, "doubling"), None)
        for values in (torch.rand(3, 4), torch.rand(4, 3).t(), torch.rand(1, 4).expand(3, 4)):
            out = torch.full((3, 4), float("nan"))
            compiled("doubling", __file__, self.define)(values, 2.0, out)
            assert torch.equal(out, 2 * values)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.skipif(sys.platform == "win32", reason="pipelines are kept on Linux and macOS only")
def test_what_is_kept_is_not_compiled_again(cache: Path) -> None:
    doubling = Doubling()
    doubling.run()
    doubling.run()
    assert doubling.compiled == 1
    (kept,) = files(cache)
    assert f"kept in {kept.parent}" in describe()


@pytest.mark.skipif(sys.platform == "win32", reason="pipelines are kept on Linux and macOS only")
def test_a_damaged_file_is_not_loaded(cache: Path) -> None:
    """Loading a shared object that was cut short kills the process: it must be told apart before."""
    doubling = Doubling()
    doubling.run()
    (kept,) = files(cache)
    whole = kept.read_bytes()
    # A new file: the one that this process has loaded must not change under it.
    kept.unlink()
    kept.write_bytes(whole[:1000])
    doubling.run()
    assert doubling.compiled == 2
    (kept,) = files(cache)
    assert len(kept.read_bytes()) > 1000
    doubling.run()
    assert doubling.compiled == 2


@pytest.mark.parametrize("trouble", ["a file in its place", "others may write", "no compiler", "no home", "no linking"])
def test_without_a_cache_it_compiles_anew(
    cache: Path, trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = "compiled anew in each process"
    if trouble == "a file in its place":
        cache.write_text("a file where the folder should be")
    elif trouble == "others may write":
        (cache / "midframe" / "halide").mkdir(parents=True)
        (cache / "midframe" / "halide").chmod(0o777)
    elif trouble == "no compiler":
        monkeypatch.setenv("PATH", "")
        monkeypatch.delenv("CXX", raising=False)
    elif trouble == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "/dev/null/nowhere")
    else:
        monkeypatch.setenv("CXX", "false")
        expected = "cannot be kept"
    doubling = Doubling()
    with caplog.at_level(logging.DEBUG, logger="midframe"):
        doubling.run()
        doubling.run()
    assert doubling.compiled >= 2
    assert expected in caplog.text
    assert not files(cache) or trouble == "a file in its place"
    if expected != "cannot be kept":
        assert expected in describe()


PROGRAM = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("doubling", {__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.Doubling().run()
"""


def test_processes_may_meet_in_the_cache(cache: Path) -> None:
    together = [subprocess.Popen([sys.executable, "-c", PROGRAM], env=os.environ) for _ in range(2)]
    assert [process.wait(timeout=120) for process in together] == [0, 0]
    assert files(cache)
    assert all(path.suffix == ".so" for path in files(cache))
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
            values, out = parameter("values", dtype, 2), hl.Func("out")
            exact = halide_build.read(values[x, y], dtype)
            out[x, y] = (exact, halide_build.write(exact * hl.f32(1.001), dtype))
            return [values], [out]

        read, rounded = torch.empty(256, 256), torch.empty(256, 256, dtype=dtype)
        compiled(f"convert_{str(dtype)[6:]}", __file__, define)(stored, read, rounded)
        torch.testing.assert_close(read, stored.float(), rtol=0, atol=0, equal_nan=True)
        expected = (stored.float() * torch.tensor(1.001)).to(dtype)
        torch.testing.assert_close(rounded, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kept", [True, False])
def test_a_call_that_does_not_fit_is_an_error_not_a_crash(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kept:
        monkeypatch.setattr(halide_build, "_find_cache", lambda: "compiled anew in each process")
    halide_build._runs.pop((__file__, "doubling"), None)
    run = compiled("doubling", __file__, Doubling().define)
    with pytest.raises(MidframeError, match=r"pipeline doubling failed: .*beyond"):
        run(torch.zeros(2, 4), 1.0, torch.zeros(3, 4))
