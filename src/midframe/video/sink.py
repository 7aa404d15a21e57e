"""Where frames go: what every writer of films, pictures, pipes and animations has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from midframe.errors import OutputError
from midframe.files import write_error
from midframe.video.frame import Frame


class Sink(Protocol):
    """Takes the frames of one output in order.

    A sink is made with all it needs to know and opens its output at once, under the name `part` beside the target
    (None for standard output); the target itself is not touched. Then:

        write(frame)   takes one frame in the sink's own layout and size; `frame.time` and `frame.duration` are output
                       times, rising
        finish()       writes what is still held back, and closes; `part` is then whole and can be verified
        commit()       puts it under its final name; once, after `finish()`
        abort()        closes and deletes everything that was written; does nothing after `commit()`

    All of them raise `OutputError` where the output cannot be written. For verification each kind has a function
    `read_back(part)`, the times of all frames in a finished output (of pictures, their number), and
    `decode_frame(part, k)`, its k-th frame as planes.
    """

    @property
    def part(self) -> Path | None: ...

    def write(self, frame: Frame) -> None: ...

    def finish(self) -> None: ...

    def commit(self) -> None: ...

    def abort(self) -> None: ...


def check_target(target: str | Path, overwrite: bool) -> None:
    """Raise `OutputError` where a file cannot be put there: its folder is missing, or it exists already."""
    target = Path(target)
    if not target.parent.is_dir():
        raise OutputError(f"{target} cannot be written: there is no folder {target.parent}")
    if target.is_dir():
        raise OutputError(f"{target} is a directory; give a file name")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; --overwrite replaces it")


def put_in_place(part: Path, target: str | Path, overwrite: bool) -> None:
    """Give a finished file its final name."""
    check_target(target, overwrite)
    try:
        part.replace(target)
    except OSError as error:
        raise write_error(target, error) from None
