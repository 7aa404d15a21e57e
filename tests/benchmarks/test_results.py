"""The stored results and those that benchmarks write have the schema that `benchmarks/common.py` describes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
RESULT_KEYS = {
    "schema", "benchmark", "about", "command", "date", "revision", "machine", "versions", "figures"
}  # fmt: skip
MACHINE_KEYS = {"processor", "instructions", "cores", "memory_gib", "system", "load_before"}
VERSION_KEYS = {"python", "torch", "halide", "av", "numpy", "opencv-python-headless"}


@pytest.fixture
def common() -> ModuleType:
    """The module benchmarks/common.py."""
    spec = importlib.util.spec_from_file_location("common", ROOT / "benchmarks" / "common.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_has_schema(result: dict[str, Any], name: str) -> None:
    assert result.keys() == RESULT_KEYS
    assert result["schema"] == "midframe.result/1"
    assert result["benchmark"] == name
    assert result["machine"].keys() == MACHINE_KEYS
    assert result["versions"].keys() == VERSION_KEYS
    assert result["about"]
    assert result["figures"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_stored_result_has_the_schema(path: Path) -> None:
    assert_has_schema(json.loads(path.read_text("utf-8")), path.stem)


def test_written_result_has_the_schema(common: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "result.json"
    arguments = ["--out", str(out)]
    monkeypatch.setattr(common.sys, "argv", [str(ROOT / "scripts" / "fuzz.py"), *arguments])
    monkeypatch.setattr(common, "revision", lambda: "1234567+")
    common.write_result(common.parser("", "fuzz").parse_args(arguments), "cases", {"cases": 1})
    result = json.loads(out.read_text("utf-8"))
    assert_has_schema(result, "fuzz")
    assert result["command"] == "python scripts/fuzz.py --out result.json"
    assert result["revision"] == "1234567+"
    assert result["versions"]["torch"]


def test_best_of_calls_the_function_once_more_than_it_times(common: ModuleType) -> None:
    calls: list[None] = []
    assert common.best_of(lambda: calls.append(None), rounds=3) >= 0
    assert len(calls) == 4
