"""The films of a build: found by name, known by what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from midframe.errors import InputError

SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("3gp", "asf", "avi", "flv", "gif", "m2ts", "m2v", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf"),
        *("nut", "ogv", "ts", "vob", "webm", "wmv", "y4m"),
    )
)
"""What the films in a folder are told by; a file that is named itself may be called anything."""

ENDS = 1 << 20
"""Bytes at either end of a film that its id is made from."""


@dataclass(frozen=True)
class Listed:
    """A film that was asked for. `film` is its id: 16 hexadecimal digits; "" where the file cannot be read."""

    path: Path
    film: str
    why: str = ""


def find_films(given: Sequence[str | os.PathLike[str]], exclude: Iterable[str] = ()) -> list[Path]:
    """The files that are named and those in folders that are named, at any depth, without those excluded.

    exclude: patterns such as `*.gif`, held against file names and whole paths. Raises `InputError` for a name behind
    which there is nothing, and where no film is left.
    """
    found: dict[Path, None] = {}
    for place in map(Path, given):
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found.update(dict.fromkeys(inside))
        elif place.exists():
            found[place] = None
        else:
            raise InputError(f"{place} does not exist")
    patterns = list(exclude)
    kept = [path for path in found if not any(fnmatch(path.name, p) or fnmatch(str(path), p) for p in patterns)]
    if not kept:
        left = f", and --exclude leaves none of {len(found)}" if found else ""
        raise InputError(f"there are no films in {', '.join(map(str, given)) or 'nothing'}{left}")
    return kept


def identify(path: Path) -> Listed:
    """A film by its id: a hash of its size and of its first and last MiB."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(ENDS)
            file.seek(max(0, size - ENDS))
            tail = file.read(ENDS)
    except OSError as error:
        return Listed(path, "", f"it cannot be read: {error.strerror}")
    return Listed(path, hashlib.sha256(b"%d\0" % size + head + tail).hexdigest()[:16])
