"""Convert forty randomly corrupted films; `scripts/fuzz.py` converts more of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    """The script as a module."""
    path = Path(__file__).resolve().parents[2] / "scripts" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_corrupted_films_give_errors_or_warnings(fuzz: ModuleType) -> None:
    """No traceback, crash, time-out or file left behind, and a warning whenever PyAV alone finds damage."""
    results = fuzz.run_cases(40, seed=7)
    assert [result for result in results if result.faults] == []
    endings = {result.without_keep_going for result in results}
    assert {"input error", "done, with warnings"} <= endings  # the corruptions have an effect


@pytest.mark.parametrize(
    ("program", "time_limit", "fault"),
    [
        pytest.param("import os; print('{}', flush=True); input(); os.abort()", 30.0, "crashed", id="crash"),
        pytest.param("import time; print('{}', flush=True); time.sleep(60)", 3.0, "timed out", id="time-out"),
    ],
)
def test_worker_that_ends_or_hangs_is_a_fault(
    program: str, time_limit: float, fault: str, fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(b"")
    script = tmp_path / "worker.py"
    script.write_text(program)
    monkeypatch.setattr(fuzz, "__file__", str(script))
    monkeypatch.setattr(fuzz, "TIME_LIMIT", time_limit)
    result = fuzz.CaseResult("film", "none", 0)
    with fuzz.Worker([film]) as worker:
        worker.convert(film, film, result)
    assert len(result.faults) == 1
    assert fault in result.faults[0]
