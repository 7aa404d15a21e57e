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
    verdicts = fuzz.fuzz(40, seed=7)
    assert [verdict for verdict in verdicts if verdict.faults] == []
    endings = {verdict.plain for verdict in verdicts}
    assert {"input error", "done, with words"} <= endings


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
        verdict = fuzz.Verdict("film", "none", 0)
        with fuzz.Worker([film]) as worker:
            worker.judge(film, film, verdict)
        assert len(verdict.faults) == 1
        assert word in verdict.faults[0]
