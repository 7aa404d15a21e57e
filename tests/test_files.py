"""`midframe.files`: a file is replaced whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from midframe.errors import OutputError
from midframe.files import atomic_write, part_path, write_error


def test_the_file_is_replaced_only_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        assert part_path(path).exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_data_reach_the_disk_before_the_file_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    sizes_at_sync: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda number: sizes_at_sync.append((os.fstat(number).st_size, path.exists())))
    with atomic_write(path) as file:
        file.write(b"new")
    assert sizes_at_sync == [(3, False)]


@pytest.mark.parametrize("error", [ArithmeticError("no result"), KeyboardInterrupt("stop")], ids=["error", "interrupt"])
def test_an_exception_in_the_block_leaves_the_old_file_and_passes_through(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write(b"ne")
            raise error

    with pytest.raises(type(error), match=str(error)):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_system_error_becomes_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "result.json"
    with pytest.raises(OutputError, match=r"result\.json cannot be written: No such file"), atomic_write(path):
        pass


def test_the_part_may_lie_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with atomic_write(tmp_path / "result.json", part=tmp_path / "work" / "result.part") as file:
        file.write(b"new")
        assert (tmp_path / "work" / "result.part").exists()
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk", id="full disk"),
        pytest.param(BrokenPipeError(), "the program that read it has ended", id="broken pipe"),
        pytest.param(PermissionError(errno.EACCES, "Permission denied", "a.mp4"), "Permission denied", id="permission"),
        pytest.param(ValueError("no such encoder"), "no such encoder", id="text"),
        pytest.param(ValueError(), "ValueError", id="no text"),
    ],
)
def test_write_errors_name_their_reason(error: Exception, reason: str) -> None:
    assert str(write_error("a.mp4", error)) == f"a.mp4 cannot be written: {reason}"
