"""Checkpoint files: always complete, restored exactly, and never a way to run code."""

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

CONTENTS = {"step": 3, "weights": {"a": torch.arange(6.0).view(2, 3)}, "times": [0.5], "config": {"depths": (1, 2)}}


def test_contents_are_restored(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(CONTENTS, path)
    found = load_checkpoint(path)
    assert torch.equal(found["weights"]["a"], CONTENTS["weights"]["a"])  # type: ignore[index]
    assert (found["step"], found["times"], found["config"]) == (3, [0.5], {"depths": (1, 2)})
    assert os.listdir(tmp_path) == ["checkpoint.pt"]  # noqa: PTH208


def test_a_process_killed_while_writing_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(CONTENTS, path)
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


def test_a_failed_write_leaves_the_previous_checkpoint_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(CONTENTS, path)

    def save_to_full_disk(contents: Any, file: Any) -> None:
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", save_to_full_disk)
    with pytest.raises(OutputError, match="no space left on the disk"):
        save_checkpoint(CONTENTS, path)
    assert os.listdir(tmp_path) == ["checkpoint.pt"]  # noqa: PTH208
    assert load_checkpoint(path)["step"] == 3


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(CONTENTS, path)
    complete = path.read_bytes()
    for content in (b"", complete[:-200], complete[:100], b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no checkpoint that can be read"):
            load_checkpoint(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="midframe-checkpoint/1"):
        load_checkpoint(path)


class PrintsWhenUnpickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_no_code_in_a_file_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(pickle.dumps(PrintsWhenUnpickled(), protocol=2))
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        load_checkpoint(path)
    assert not capsys.readouterr().out
