"""Print what commands report: lines for people on standard error, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from midframe.errors import OutputError, error_reason


def print_message(text: str) -> None:
    """Print one line on standard error."""
    if sys.stderr is not None:  # None if it was closed; `print` would then write to standard output
        print(f"midframe: {text}", file=sys.stderr, flush=True)


def format_duration(seconds: float) -> str:
    """Format a duration as minutes and seconds, such as 1:05, or as hours, minutes and seconds, such as 2:00:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def write_json(data: dict[str, Any], to_stdout: bool, path: Path | None) -> None:
    """Write a JSON object to standard output, to the file `path`, to both or to neither. Raises `OutputError`."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    try:
        if to_stdout and sys.stdout is not None:
            sys.stdout.buffer.write(text.encode())
            sys.stdout.buffer.flush()
        if path is not None:
            path.write_bytes(text.encode())  # not an atomic write: `path` may be a pipe or a device
    except OSError as error:
        where = f"to {path}" if path is not None and not isinstance(error, BrokenPipeError) else "to standard output"
        raise OutputError(f"the JSON object cannot be written {where}: {error_reason(error)}") from None


def check_json_file(path: Path | None) -> None:
    """Raise `OutputError` if a JSON file cannot be written to `path`. Called before a command begins its work."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        problem = "it is a directory" if path.is_dir() else f"there is no folder {path.absolute().parent}"
        raise OutputError(f"the JSON file {path} cannot be written: {problem}")
