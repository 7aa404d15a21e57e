"""The folder of a data set while it is built, and the checks that a folder belongs to the same build."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from midframe.errors import InputError, OutputError, SettingError
from midframe.files import atomic_write
from midframe.training.build.settings import DatasetSettings
from midframe.training.data.shards import DESCRIPTION, WORK


@contextmanager
def locked_work_folder(out: Path, settings: DatasetSettings) -> Iterator[Path]:
    """Create or reopen the folder of an unfinished build in `out`, and lock it against other processes.

    Raises `SettingError` if it belongs to a build with other settings, `OutputError` if `out` holds something else,
    another process builds there, or an `OSError` occurs in the block.
    """
    work = out / WORK
    settings_file = work / "settings.json"
    try:
        if not work.is_dir() and out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out} is not empty and holds no data set; give another folder")
        work.mkdir(parents=True, exist_ok=True)
        with (work / "lock").open("w") as lock:
            if not _try_lock(lock):
                raise OutputError(f"{out} is being built by another process")
            if settings_file.is_file():
                _require_same_settings(out, json.loads(settings_file.read_bytes()), settings)
            else:
                with atomic_write(settings_file, part=work / f"{settings_file.name}.part") as file:
                    file.write(json.dumps(settings.json()).encode())
            yield work
    except OSError as error:
        raise OutputError(f"the data set cannot be written to {out}: {error.strerror or error}") from None


def finished_counts(out: Path, settings: DatasetSettings, film_ids: set[str]) -> Mapping[str, Any]:
    """Return the counts of a finished data set.

    Raises `SettingError` if it was built from other films or with other settings, `InputError` if its description
    cannot be read.
    """
    try:
        description = json.loads((out / DESCRIPTION).read_bytes())
        settings_there, film_ids_there = description["settings"], set(description["film_ids"])
        counts: Mapping[str, Any] = description["counts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out / DESCRIPTION} is no description of a data set: {error}") from None
    _require_same_settings(out, settings_there, settings)
    if film_ids_there != film_ids:
        raise SettingError(
            f"{out} holds a data set of {len(film_ids_there)} films, not of these {len(film_ids)}; give another folder"
        )
    return counts


def _require_same_settings(out: Path, there: Mapping[str, Any], settings: DatasetSettings) -> None:
    """Raise `SettingError` if the settings of the data set in `out` differ from the ones given."""
    here = settings.json()
    different = [
        f"{k} {there.get(k)} there, {here.get(k)} here" for k in {**here, **there} if there.get(k) != here.get(k)
    ]
    if different:
        raise SettingError(f"{out} holds a data set with other settings ({'; '.join(different)}); give another folder")


def _try_lock(file: IO[str]) -> bool:
    """Lock a file until it is closed; return False if another process has locked it.

    Without `fcntl` (Windows) there is no lock, and the answer is True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
