"""Convert randomly corrupted films with `scripts/fuzz.py`, which can also run many more cases."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_forty_corruptions(fuzz: ModuleType) -> None:
    """No traceback, crash, hang or leftover file, and no success without a warning if PyAV alone finds damage."""
    results = fuzz.fuzz(40, seed=7)
    assert [result for result in results if result.faults] == []
    endings = {result.plain for result in results}
    assert {"input error", "done, with warnings"} <= endings  # the corruptions have effects


def test_the_fuzzer_notices_crashes_and_hangs(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(b"")
    for program, word in (
        ("import os; print('{}', flush=True); input(); os.abort()", "crashed"),
        ("import time; print('{}', flush=True); time.sleep(60)", "hung"),
    ):
        script = tmp_path / "worker.py"
        script.write_text(program)
        monkeypatch.setattr(fuzz, "__file__", str(script))
        monkeypatch.setattr(fuzz, "LIMIT", 3.0 if word == "hung" else 30.0)
        result = fuzz.CaseResult("film", "none", 0)
        with fuzz.Worker([film]) as worker:
            worker.run(film, film, result)
        assert len(result.faults) == 1
        assert word in result.faults[0]
