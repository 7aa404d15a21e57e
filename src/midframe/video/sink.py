"""What all writers of outputs have in common: their interface, and checks of the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from midframe.errors import OutputError
from midframe.files import write_error
from midframe.video.frame import Frame

T = TypeVar("T")


class Sink(Protocol):
    """Takes the frames of one output in order and writes them to a file, folder or pipe.

    The constructor opens the output as `part`; the target itself is not touched before `commit`. All methods raise
    `OutputError` if the output cannot be written.

    For verification, the module of each writer but `FilmWriter` has two functions: `count_frames(part)` returns the
    number of frames of a finished output, and `decode_frames(part, indices)` decodes some of them.
    """

    @property
    def part(self) -> Path | None:
        """The file or folder that is written, beside the target; None for standard output."""

    def write(self, frame: Frame) -> None:
        """Write one frame of the layout and size of the sink; its time is an output time, later than the last one."""

    def finish(self) -> None:
        """Write what is still buffered and close the output, which can then be verified."""

    def commit(self) -> None:
        """Give the output its final name; called once, after `finish`."""

    def abort(self) -> None:
        """Close the output and delete everything that was written; does nothing after `commit`."""


def check_target(target: str | Path, overwrite: bool) -> None:
    """Raise `OutputError` if a file cannot be put at `target`: its folder is missing, or the target exists already."""
    target = Path(target)
    if not target.parent.is_dir():
        raise OutputError(f"{target} cannot be written: there is no folder {target.parent}")
    if target.is_dir():
        raise OutputError(f"{target} is a directory; give a file name")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; --overwrite replaces it")


def put_in_place(part: Path, target: str | Path, overwrite: bool) -> None:
    """Give a finished file its final name. Raises `OutputError` like `check_target`, or if it cannot be renamed."""
    check_target(target, overwrite)
    try:
        part.replace(target)
    except OSError as error:
        raise write_error(target, error) from None


def pick(items: Iterable[T], indices: Sequence[int], path: Path) -> Iterator[T]:
    """Yield the items of an output file with the given indices, which rise from 0, in one pass.

    Raises `OutputError`, naming the file, if there are too few items.
    """
    wanted = iter(indices)
    index = next(wanted, None)
    for number, item in enumerate(items):
        if index is None:
            return
        if number == index:
            yield item
            index = next(wanted, None)
    if index is not None:
        raise OutputError(f"{path} has no frame {index}")
