"""Write files that are either whole or absent, and explain why a write failed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from midframe.errors import OutputError, error_reason


@contextmanager
def atomic_write(path: str | Path, *, part: Path | None = None) -> Iterator[BinaryIO]:
    """Open a binary file whose content replaces `path` in one step when the block ends.

        with atomic_write(path) as file:
            file.write(data)

    The data go to the file `part` (by default `part_path(path)`), are flushed to the disk (fsync), and only then take
    the name `path`. A process killed at any moment therefore leaves the previous file or the complete new one. `part`
    must be on the same file system as `path`. If the block raises, `part` is deleted and `path` is untouched. An
    `OSError` in the block or in writing becomes an `OutputError`; all other exceptions pass through unchanged.
    """
    path = Path(path)
    part = part or part_path(path)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def part_path(target: str | Path) -> Path:
    """Return the path of the unfinished output beside its target: `NAME.PID.part`."""
    target = Path(target)
    if target.is_dir():  # "." has no name, and a symbolic link may lead to another file system
        target = target.resolve()
    return target.with_name(f"{target.name}.{os.getpid()}.part")


def sync_file(path: Path) -> None:
    """Flush a closed file to the disk (fsync). Raises `OSError`, for example if the disk is full."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_error(target: str | Path, error: BaseException) -> OutputError:
    """Return the `OutputError` that explains in one line why `target` could not be written."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return OutputError(f"{target} cannot be written: no space left on the disk")
    if isinstance(error, BrokenPipeError):
        return OutputError(f"{target} cannot be written: the program that read it has ended")
    return OutputError(f"{target} cannot be written: {error_reason(error)}")
