"""Interpret the names of image sequences: folders, patterns, the order of their files, and new file names.

An image sequence is named by a folder or by a pattern. A pattern is a file name with either one number (`%d`, or `%05d`
for at least five digits) or the wildcards `*` and `?`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from midframe.errors import InputError, SettingError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""The suffixes of the image types that can be read and written, in lower case."""


def is_image_sequence(path: str) -> bool:
    """Return whether a name stands for an image sequence rather than for one film.

    It does if it is an existing folder, ends in a slash, or is a pattern with the suffix of an image type. An existing
    file of exactly that name is no pattern.
    """
    if path == "-" or Path(path).is_file():
        return False
    if path.endswith(("/", os.sep)) or Path(path).is_dir():
        return True
    name = Path(path).name
    is_pattern = split_pattern(name) is not None or "*" in name or "?" in name
    return is_pattern and Path(name).suffix.lower() in IMAGE_SUFFIXES


def list_images(path: str) -> list[Path]:
    """Return the image files of a folder or pattern in natural order (9 before 10).

    Hidden files and files of other types are left out. Raises `InputError` if there are no images.
    """
    is_folder = path.endswith(("/", os.sep)) or Path(path).is_dir()
    folder = Path(path) if is_folder else Path(path).parent
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_file()]
    except FileNotFoundError:
        raise InputError(f"{folder} does not exist") from None
    except NotADirectoryError:
        raise InputError(f"{folder} is a file, not a folder of pictures") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    images = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if not is_folder:
        images = matching_names(Path(path).name, images)
    if not images:
        missing = "has no pictures" if is_folder else f"has no picture that matches {Path(path).name}"
        raise InputError(
            f"{folder} {missing} (found: {len(names)} other files; picture types: {' '.join(IMAGE_SUFFIXES)})"
        )
    return [folder / name for name in sorted(images, key=_natural_key)]


def output_pattern(target: str) -> tuple[Path, str]:
    """Return the folder and the pattern of file names for an output name; in a folder, files are named 00001.png etc.

    Raises `SettingError` if the name is neither a folder nor a pattern with a number.
    """
    path = Path(target)
    if target.endswith(("/", os.sep)) or path.is_dir():
        return path, "%05d.png"
    if split_pattern(path.name) is None:
        raise SettingError(f"'{path.name}' does not say how to number pictures; give a pattern such as frame%05d.png")
    return path.parent, path.name


def split_pattern(name: str) -> tuple[str, str] | None:
    """Return the parts of a pattern before and after its number; None if it does not have exactly one number."""
    parts = _NUMBER.split(name)  # the group of the expression, the number of digits, is the second of three parts
    return (parts[0], parts[2]) if len(parts) == 3 and "%" not in parts[0] + parts[2] else None


def image_name(pattern: str, number: int) -> str:
    """Return the file name that a pattern gives to a number."""
    return _NUMBER.sub(lambda found: str(number).zfill(int(found[1] or 1)), pattern)


def image_number(pattern: str, name: str) -> int | None:
    """Return the number to which a pattern gives this file name; None if there is no such number."""
    before, after = split_pattern(pattern) or ("", "")
    digits = name[len(before) : len(name) - len(after)]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_DIGITS:
        return None
    return int(digits) if image_name(pattern, int(digits)) == name else None


def matching_names(pattern: str, names: list[str]) -> list[str]:
    """Return the file names that match a pattern with a number or with wildcards."""
    if split_pattern(pattern) is not None:
        return [name for name in names if image_number(pattern, name) is not None]
    wildcards = {"*": ".*", "?": "."}
    expression = re.compile("".join(wildcards.get(c, re.escape(c)) for c in pattern), re.DOTALL)
    return [name for name in names if expression.fullmatch(name)]


_NUMBER = re.compile(r"%(?:0([1-9]))?d")
"""The number in a pattern; its group is the least number of digits."""

_MAX_DIGITS = 18
"""Longer numbers do not fit into 64 bits; such files are not part of a sequence."""


def _natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sorting key that compares digits as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], name
