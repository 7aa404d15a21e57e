"""The films of a build: listed from files and folders, and identified by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from midframe.errors import InputError

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "asf", "avi", "flv", "gif", "m2ts", "m2v", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf"),
        *("nut", "ogv", "ts", "vob", "webm", "wmv", "y4m"),
    )
)
"""File name suffixes of the films that are used from a folder; a file named by the user may have any suffix."""

HASHED_BYTES = 1 << 20
"""Bytes at the start and at the end of a film that enter its id."""


@dataclass(frozen=True)
class ListedFilm:
    """A film that the user asked for."""

    path: Path
    film_id: str
    """16 hexadecimal digits that depend on the content; empty if the file cannot be read."""
    problem: str = ""
    """Why the film is left out; empty if it is not."""


def find_films(paths: Sequence[str | os.PathLike[str]], exclude: Iterable[str] = ()) -> list[Path]:
    """List the films among files and folders.

    paths: files, taken whatever their suffix, and folders, searched at any depth for files with a film's suffix.
    exclude: patterns such as `*.gif`, matched against file names and whole paths. Raises `InputError` if a path does
    not exist or no film is left.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            in_folder = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found.update(dict.fromkeys(in_folder))
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"{path} does not exist")
    patterns = list(exclude)
    remaining = [path for path in found if not any(fnmatch(path.name, p) or fnmatch(str(path), p) for p in patterns)]
    if not remaining:
        excluded = f", and --exclude leaves none of {len(found)}" if found else ""
        raise InputError(f"there are no films in {', '.join(map(str, paths)) or 'nothing'}{excluded}")
    return remaining


def identify_film(path: Path) -> ListedFilm:
    """Compute a film's id: a hash of its size and of its first and last MiB."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HASHED_BYTES)
            file.seek(max(0, size - HASHED_BYTES))
            tail = file.read(HASHED_BYTES)
    except OSError as error:
        return ListedFilm(path, "", f"it cannot be read: {error.strerror}")
    return ListedFilm(path, hashlib.sha256(b"%d\0" % size + head + tail).hexdigest()[:16])
