"""The command `midframe dataset`: JSON, messages, exit codes, signals, and continuing after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from films import Film, draw, text
from midframe.training.data.shards import read_shards
from process import InProcessCommand, expect_one_line, parse_json_object, run_midframe, start_midframe, wait_for_file


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    film = Film(width=240, height=192, frames=50, rate=Fraction(25), scene="texture")
    draw(film, folder / "one.mp4")
    for name in ("two", "three"):
        shutil.copy(folder / "one.mp4", folder / f"{name}.mp4")
        with (folder / f"{name}.mp4").open("ab") as file:
            file.write(b"\0\0\0\x08free")  # another film, by its bytes
    with (folder / "three.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")
    text(folder / "letter.mkv")
    return folder


@pytest.fixture(scope="module")
def built(films: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Return the folder and the process of a build by the real command."""
    out = tmp_path_factory.mktemp("built") / "data"
    result = run_midframe(
        "dataset", "build", films, "--out", out, "--workers", "2", "--held-films", "two*", "--json", timeout=300
    )
    assert result.returncode == 0, result.stderr
    return SimpleNamespace(out=out, result=result)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_build_reports_in_json_and_in_words(built: SimpleNamespace) -> None:
    data = parse_json_object(built.result.stdout)
    assert data["schema"] == "midframe.dataset/1"
    assert data["ok"] is True
    assert data["samples"] == {"train": 4, "validation": 2}
    assert data["films"] == {"broken": 1, "used": 3}
    assert 0 < data["decoding_fraction"] < 1
    assert "letter.mkv" in data["left_out"]
    assert "left out: letter.mkv" in built.result.stderr
    assert "4 samples for training, 2 for validation" in built.result.stderr
    assert {sample.info["name"] for sample in read_shards(built.out, "validation")} == {"two.mp4"}


def test_a_finished_data_set_is_reported_and_not_changed(
    built: SimpleNamespace, films: Path, run_in_process: InProcessCommand
) -> None:
    before = contents(built.out)
    result = run_in_process("dataset", "build", films, "--out", built.out, "--held-films", "two*")
    assert result.returncode == 0
    assert "there already" in result.stderr
    assert contents(built.out) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--window", "4"), 2, "3, 5 or 7"),
        (("--seconds", "soon"), 2, "'soon' is not a number"),
        (("--size", "big"), 2, "LONGxSHORT"),
        (("--workers", "0"), 2, "--workers 0"),
        (("--least-difference", "nan"), 2, "must be below"),
        (("--seed", "1", "--held-films", "two*"), 2, "seed 0 there, 1 here"),
        (("--exclude", "*"), 3, "leaves none of 4"),
        (("--clips",), 2, "requires an argument"),
    ],
)
def test_invalid_options_are_refused(
    built: SimpleNamespace,
    films: Path,
    run_in_process: InProcessCommand,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    result = run_in_process("dataset", "build", films, "--out", built.out, "--json", *arguments)
    assert result.returncode == code
    assert message in expect_one_line(result.stderr)
    assert parse_json_object(result.stdout)["error"]["exit_code"] == code


def test_unusable_films_and_folders_have_their_exit_codes(
    films: Path, run_in_process: InProcessCommand, tmp_path: Path
) -> None:
    assert run_in_process("dataset", "build", tmp_path / "none.mp4", "--out", tmp_path / "data").returncode == 3
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter").write_text("dear")
    assert run_in_process("dataset", "build", films, "--out", tmp_path / "taken").returncode == 4
    (tmp_path / "file").write_text("no folder")
    assert run_in_process("dataset", "build", films, "--out", tmp_path / "file").returncode == 4
    assert run_in_process("dataset", "preview", tmp_path, "--out", tmp_path / "a.png").returncode == 3


def test_preview_draws_samples_and_reports_motion(
    built: SimpleNamespace, run_in_process: InProcessCommand, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "preview.png"
    result = run_in_process("dataset", "preview", built.out, "--out", out, "--batches", "1", "--json")
    assert result.returncode == 0, result.stderr
    data = parse_json_object(result.stdout)
    motions = [sample.info["motion"] for sample in read_shards(built.out)]
    assert (data["samples"], data["motion"]["p50"]) == (4, pytest.approx(np.median(motions), abs=1e-3))
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert np.ptp(pixels, 2).max() > 30  # the samples' own colours, beside the one of the bars
    other = tmp_path / "other.png"
    assert (
        run_in_process("dataset", "preview", built.out, "--out", other, "--batches", "1", "--seed", "5").returncode == 0
    )
    assert other.read_bytes() != out.read_bytes()
    assert run_in_process("dataset", "preview", built.out, "--out", tmp_path / "no" / "where.png").returncode == 4
    assert run_in_process("dataset", "preview", built.out, "--out", out, "--split", "all").returncode == 2


def workers_of(process: subprocess.Popen[Any]) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == process.pid:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def ended(pids: list[int]) -> bool:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        alive = [pid for pid in pids if Path(f"/proc/{pid}/stat").exists()]
        if not [pid for pid in alive if " Z " not in Path(f"/proc/{pid}/stat").read_text()]:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_build_stopped_by_signals_continues(built: SimpleNamespace, films: Path, tmp_path: Path) -> None:
    """After SIGKILL and after SIGTERM no process is left; the next start ends with the same bytes."""
    out = tmp_path / "data"
    arguments = ("dataset", "build", films, "--out", out, "--held-films", "two*", "--workers", "1", "--json")
    for number, results in ((signal.SIGKILL, "*.json"), (signal.SIGTERM, "*-00000.tar")):
        process = start_midframe(*arguments)
        wait_for_file(out / ".work", f"[0-9a-f]{results}", process)
        there = workers_of(process)
        assert there
        os.kill(process.pid, number)
        output, error = process.communicate(timeout=60)
        assert ended(there)
        if number == signal.SIGTERM:
            assert process.returncode == 143
            assert "the same command goes on" in error
            assert json.loads(output)["error"]["code"] == "interrupted"
    result = run_midframe(*arguments, timeout=300)
    assert result.returncode == 0, result.stderr
    assert parse_json_object(result.stdout)["jobs"]["done_before"] > 0
    assert contents(out) == contents(built.out)
