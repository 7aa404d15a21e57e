"""Checkpoints: whole or not there, and never a way to run code."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from midframe.errors import InputError, OutputError
from midframe.training.train.checkpoints import load_checkpoint, save_checkpoint

STATE = {"step": 3, "weights": {"a": torch.arange(6.0).view(2, 3)}, "times": [0.5], "config": {"depths": (1, 2)}}


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(STATE, path)
    found = load_checkpoint(path)
    assert torch.equal(found["weights"]["a"], STATE["weights"]["a"])  # type: ignore[index]
    assert (found["step"], found["times"], found["config"]) == (3, [0.5], {"depths": (1, 2)})
    assert os.listdir(tmp_path) == ["checkpoint.pt"]  # noqa: PTH208


def test_killed_while_it_is_written_the_old_one_stands(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(STATE, path)
    before = path.read_bytes()
    program = (
        "import os, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from midframe.training.train.checkpoints import save_checkpoint\n"
        "def killed(state, file):\n"
        "    file.write(b'half of it'); file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = killed\n"
        "save_checkpoint({'step': 9}, Path(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode == -9
    assert path.read_bytes() == before


def test_where_it_cannot_be_written_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(STATE, path)

    def full(state: Any, file: Any) -> None:
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(STATE, path)
    assert os.listdir(tmp_path) == ["checkpoint.pt"]  # noqa: PTH208
    assert load_checkpoint(path)["step"] == 3


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(STATE, path)
    whole = path.read_bytes()
    for content in (b"", whole[:-200], whole[:100], b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no checkpoint that can be read"):
            load_checkpoint(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="midframe-checkpoint/1"):
        load_checkpoint(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_nothing_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(InputError):
        load_checkpoint(path)
    assert not capsys.readouterr().out
