"""Download files of other projects that training uses, and keep them in the user's data folder."""

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
class RemoteFile:
    """A file that can be downloaded."""

    url: str
    """Address of the file; its last part is the file name."""
    sha256: str
    """SHA-256 in hexadecimal, or as many of its first digits as the publisher states."""
    description: str
    """What the file is, in one line."""

    @property
    def file_name(self) -> str:
        """Name of the file without its folder."""
        return self.url.rpartition("/")[2]


REMOTE_FILES = {
    "vgg19": RemoteFile(
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "dcbb9e9d",
        "VGG-19 trained on ImageNet, as torchvision publishes it (575 MB), for the perceptual and adversarial losses",
    ),
}
"""The files that `fetch` knows, by name."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes downloaded so far and the size of the file, None if the server does not state it."""

CHUNK_SIZE = 1 << 20
"""Bytes that are read at a time."""


def fetch(
    name: str, *, url: str | None = None, progress: Progress = lambda done, total: None, timeout: float = 30.0
) -> Path:
    """Download one of `REMOTE_FILES`, unless it was downloaded before, and return its path.

    url: another address of the same file; the checksum must match. progress: called after every chunk. timeout: seconds
    without an answer after which the download fails. The file gets its name only once it is complete and its checksum
    is right.

    Raises `SettingError` for an unknown name, `InputError` if the download fails or the checksum differs, and
    `OutputError` if the file cannot be written.
    """
    if name not in REMOTE_FILES:
        raise SettingError(f"'{name}' cannot be fetched; what can be is: {', '.join(REMOTE_FILES)}")
    remote, target = REMOTE_FILES[name], local_path(name)
    if target.is_file() and _sha256(target).startswith(remote.sha256):
        return target
    source = url or remote.url
    digest, done = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(target, error) from error
    with atomic_write(target) as file:
        for chunk, total in _download(source, target, timeout):
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


def local_path(name: str) -> Path:
    """Return the path of one of `REMOTE_FILES` on this machine, whether it was downloaded or not."""
    return data_folder() / "models" / REMOTE_FILES[name].file_name


def data_folder() -> Path:
    """Return the folder for downloaded files: MIDFRAME_HOME, or `midframe` in the user's data folder.

    The user's data folder is XDG_DATA_HOME (`~/.local/share` by default), on Windows LOCALAPPDATA.
    """
    if home := os.environ.get("MIDFRAME_HOME"):
        return Path(home)
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_DATA_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path("~/.local/share").expanduser()
    return root / "midframe"


def _download(url: str, target: Path, timeout: float) -> Iterator[tuple[bytes, int | None]]:
    """Yield the chunks of a file and, with each, its size, None if it is not stated; `InputError` on any failure."""
    try:
        with urlopen(url, timeout=timeout) as response:
            stated, done = response.headers.get("Content-Length"), 0
            total = int(stated) if stated else None
            while chunk := response.read(CHUNK_SIZE):
                done += len(chunk)
                yield chunk, total
        if total is not None and done != total:
            raise http.client.HTTPException(f"it broke off after {done} of {total} bytes")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError(
            f"{url} cannot be fetched: {_download_reason(error)}; try again, or put the file at {target} yourself"
        ) from None


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download_reason(error: Exception) -> str:
    """Return why a download failed, in a few words."""
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}"
    cause = error.reason if isinstance(error, URLError) else error
    return error_reason(cause) if isinstance(cause, BaseException) else str(cause)
