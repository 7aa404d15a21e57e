"""Files of others that training uses, fetched when asked and kept in the user's data folder."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from midframe.errors import InputError, SettingError, error_reason
from midframe.files import atomic_write, write_error


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched."""

    url: str
    sha256: str
    """The checksum, or as much of its beginning as its publisher states."""
    description: str

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2]


REMOTES = {
    "vgg19": Remote(
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "dcbb9e9d",
        "VGG-19 trained on ImageNet, as torchvision publishes it (575 MB), for the perceptual and adversarial losses",
    ),
}

Told = Callable[[int, int | None], None]


def fetch(
    name: str, *, url: str | None = None, progress: Told = lambda done, total: None, timeout: float = 30.0
) -> Path:
    """Fetch one of `REMOTES`, unless it is there already; returns its path.

    url: another place that has the file; its checksum must be the same. progress is told the bytes so far and, where
    known, of the whole. timeout: seconds without an answer. The file appears under its name when it is whole and its
    checksum right. Raises `SettingError` for a name that is not known, `InputError` where the file cannot be had or is
    another one, `OutputError` where it cannot be written.
    """
    if name not in REMOTES:
        raise SettingError(f"'{name}' cannot be fetched; what can be is: {', '.join(REMOTES)}")
    remote, target = REMOTES[name], place_of(name)
    if target.is_file() and _checksum(target).startswith(remote.sha256):
        return target
    source = url or remote.url
    digest, done = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(target, error) from error
    with atomic_write(target) as file:
        for chunk, total in _chunks(source, target, timeout):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
        if not digest.hexdigest().startswith(remote.sha256):
            raise InputError(
                f"{source} gave another file than {name}: its SHA-256 begins with {digest.hexdigest()[:16]}, "
                f"{remote.sha256} is needed; nothing was kept"
            )
    return target


def place_of(name: str) -> Path:
    """Where a fetched file lies, or would."""
    return data_folder() / "models" / REMOTES[name].file


def data_folder() -> Path:
    """The folder for what is fetched: MIDFRAME_HOME, or `midframe` in the user's data folder (XDG_DATA_HOME)."""
    if own := os.environ.get("MIDFRAME_HOME"):
        return Path(own)
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_DATA_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path("~/.local/share").expanduser()
    return root / "midframe"


_CHUNK = 1 << 20


def _chunks(url: str, target: Path, timeout: float) -> Iterator[tuple[bytes, int | None]]:
    """What is at a URL, piece by piece, and where stated the length of the whole."""
    try:
        with urlopen(url, timeout=timeout) as answer:
            stated, done = answer.headers.get("Content-Length"), 0
            total = int(stated) if stated else None
            while chunk := answer.read(_CHUNK):
                done += len(chunk)
                yield chunk, total
        if total is not None and done != total:
            raise http.client.HTTPException(f"it broke off after {done} of {total} bytes")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError(
            f"{url} cannot be fetched: {_reason(error)}; try again, or put the file at {target} yourself"
        ) from None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}"
    cause = error.reason if isinstance(error, URLError) else error
    return error_reason(cause) if isinstance(cause, BaseException) else str(cause)
