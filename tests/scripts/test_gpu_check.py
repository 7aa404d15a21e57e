"""The script for GPU machines runs through on a machine without one, and says when something is wrong."""

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
    assert [check["good"] for check in result["checks"]] == [True, True]
    for check in result["checks"]:
        assert len(check["errors"]) == 5
        assert all(0 < error < check["allowed"] for error in check["errors"].values())
    operator = result["operator_ms"]
    assert {job.split(", ")[1] for job in operator} == {
        "loop forward",
        *(f"{b} {w}" for b in ("triton", "torch") for w in ("forward", "gradient_kernels", "gradient_image")),
    }
    assert all(answer["best"] > 0 for answer in operator.values())
    assert {name.split()[0] for name in result["network_ms"]} >= {"average", "paper", "guided"}


def test_an_error_is_recorded_and_the_rest_goes_on(script: ModuleType) -> None:
    run = script.Run("cpu", True, time.monotonic() + 60)

    def broken() -> None:
        raise RuntimeError("out of\nmemory")

    assert run.guarded("first", broken) == "first: RuntimeError: out of memory"
    assert run.guarded("second", lambda: 7) == 7
    assert run.failures == ["first: RuntimeError: out of memory"]


def test_a_wrong_kernel_is_found(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    run = script.Run("cpu", True, time.monotonic() + 60)
    monkeypatch.setattr(script, "errors_of", lambda *_: {"output": 0.5, "weight_sum": float("nan")})
    answers = script.checks(run)
    assert [answer["good"] for answer in answers] == [False, False]
    assert len(run.failures) == 2


def test_nothing_starts_after_the_deadline(script: ModuleType) -> None:
    run = script.Run("cpu", True, time.monotonic() - 1)
    assert run.guarded("late", lambda: 7) is None
    assert run.failures == ["late: not started, the time was over"]
