"""The script for GPU machines: a dry run without a GPU, and failures that it must report."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # needed by dataclasses in the script
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton: pip install triton")
def test_dry_run(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TRITON_INTERPRET")}
    command = [sys.executable, str(SCRIPT), "--dry-run", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(out.read_text())
    assert result == json.loads(done.stdout)
    assert result["failures"] == []
    assert [check["passed"] for check in result["checks"]] == [True, True]
    for check in result["checks"]:
        assert len(check["errors"]) == 5
        assert all(0 < error < check["tolerance"] for error in check["errors"].values())
    operator = result["operator_ms"]
    assert {name.split(", ")[1] for name in operator} == {
        "loop forward",
        *(f"{b} {w}" for b in ("triton", "torch") for w in ("forward", "gradient_kernels", "gradient_image")),
    }
    assert all(times["best"] > 0 for times in operator.values())
    assert {name.split()[0] for name in result["network_ms"]} >= {"average", "paper", "guided"}


def test_a_full_run_checks_every_variant_of_the_taps(script: ModuleType) -> None:
    cases = list(script.kernel_cases(script.Session("cuda", False, time.monotonic() + 60)))
    assert {case.taps.variant for case in cases if not case.taps.is_dense} == {"rings", "axes", "literal"}
    assert len({case.name for case in cases}) == len(cases)


def test_an_error_is_recorded_and_the_rest_goes_on(script: ModuleType) -> None:
    session = script.Session("cpu", True, time.monotonic() + 60)

    def fail() -> None:
        raise RuntimeError("out of\nmemory")

    assert session.attempt("first", fail) == "first: RuntimeError: out of memory"
    assert session.attempt("second", lambda: 7) == 7
    assert session.failures == ["first: RuntimeError: out of memory"]


def test_a_wrong_kernel_is_reported(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    session = script.Session("cpu", True, time.monotonic() + 60)
    monkeypatch.setattr(script, "relative_errors", lambda *_: {"output": 0.5, "weight_sum": float("nan")})
    results = script.check_kernels(session)
    assert [result["passed"] for result in results] == [False, False]
    assert len(session.failures) == 2


def test_nothing_starts_after_the_deadline(script: ModuleType) -> None:
    session = script.Session("cpu", True, time.monotonic() - 1)
    assert session.attempt("late", lambda: 7) is None
    assert session.failures == ["late: not started, the time was over"]
