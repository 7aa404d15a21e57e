"""The names of pictures: folders and patterns, in which order they are meant, and how new ones are numbered."""

from __future__ import annotations

import os
import re
from pathlib import Path

from midframe.errors import InputError, SettingError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""The picture types, by file name suffix."""


def is_image_sequence(path: str) -> bool:
    """Whether a name means a folder or pattern of pictures rather than one film.

    That is an existing folder, a name that ends in a slash, or a pattern whose suffix is that of a picture type: one
    number (`%d`, `%05d`), or `*` and `?` in the file name. A file of just that name is no pattern.
    """
    if path == "-" or Path(path).is_file():
        return False
    if path.endswith(("/", os.sep)) or Path(path).is_dir():
        return True
    name = Path(path).name
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and (
        split_pattern(name) is not None or "*" in name or "?" in name
    )


def list_images(path: str) -> list[Path]:
    """The picture files that a folder or pattern names, 9 before 10; hidden files and other types are left out.

    Raises `InputError` where there are none.
    """
    where = Path(path)
    whole = path.endswith(("/", os.sep)) or where.is_dir()
    folder = where if whole else where.parent
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_file()]
    except FileNotFoundError:
        raise InputError(f"{folder} does not exist") from None
    except NotADirectoryError:
        raise InputError(f"{folder} is a file, not a folder of pictures") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    found = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if not whole:
        found = matching(where.name, found)
    if not found:
        asked = "has no pictures" if whole else f"has no picture that matches {where.name}"
        raise InputError(
            f"{folder} {asked} (found: {len(names)} other files; picture types: {' '.join(IMAGE_SUFFIXES)})"
        )
    return [folder / name for name in sorted(found, key=_natural)]


def output_pattern(target: str) -> tuple[Path, str]:
    """The folder and the name pattern that an output name means."""
    where = Path(target)
    if target.endswith(("/", os.sep)) or where.is_dir():
        return where, "%05d.png"
    if split_pattern(where.name) is None:
        raise SettingError(f"'{where.name}' does not say how to number pictures; give a pattern such as frame%05d.png")
    return where.parent, where.name


_NUMBER = re.compile(r"%(?:0([1-9]))?d")


def split_pattern(name: str) -> tuple[str, str] | None:
    """What stands before and after the one number of a pattern."""
    parts = _NUMBER.split(name)
    return (parts[0], parts[2]) if len(parts) == 3 and "%" not in parts[0] + parts[2] else None


def image_name(pattern: str, number: int) -> str:
    """The pattern's name of one number; `%05d` has at least five digits."""
    return _NUMBER.sub(lambda found: str(number).zfill(int(found[1] or 1)), pattern)


def image_number(pattern: str, name: str) -> int | None:
    """The number of which this is the pattern's name."""
    before, after = split_pattern(pattern) or ("", "")
    digits = name[len(before) : len(name) - len(after)]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return None
    return int(digits) if image_name(pattern, int(digits)) == name else None


def matching(pattern: str, names: list[str]) -> list[str]:
    """The names that a pattern means: its numbers, or whatever stands for its `*` and `?`."""
    if split_pattern(pattern) is not None:
        return [name for name in names if image_number(pattern, name) is not None]
    wild = re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), re.DOTALL)
    return [name for name in names if wild.fullmatch(name)]


def _natural(name: str) -> tuple[list[str | int], str]:
    """A sorting key by which 9 comes before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], name
