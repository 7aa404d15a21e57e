"""What the commands print: people read standard error, machines read one JSON object."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from midframe.errors import MidframeError


def say(text: str) -> None:
    """One line for a person."""
    print(f"midframe: {text}", file=sys.stderr, flush=True)


def emit(data: dict[str, Any], to_stdout: bool, path: Path | None) -> None:
    """The JSON object, where it was asked for."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    if to_stdout:
        print(text, flush=True)
    if path is not None:
        path.write_text(text + "\n", encoding="utf-8")


def failure(error: MidframeError, arguments: list[str]) -> int:
    """One line for an error that was foreseen; returns its exit code."""
    _emit_error(error.code, str(error), error.exit_code, arguments)
    say(f"error: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return error.exit_code


def fault(error: Exception, debug: bool, arguments: list[str]) -> int:
    """One line for a fault of Midframe itself; the traceback goes to a file that the line names."""
    trace = "".join(traceback.format_exception(error))
    if debug:
        print(trace, file=sys.stderr)
        where = "see above"
    else:
        with tempfile.NamedTemporaryFile("w", prefix="midframe-", suffix=".log", delete=False, encoding="utf-8") as log:
            log.write(trace)
        where = f"details are in {log.name}"
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    _emit_error("fault", line, 1, arguments)
    say(f"a fault of Midframe itself: {line} ({where})")
    return 1


def _emit_error(code: str, message: str, exit_code: int, arguments: list[str]) -> None:
    """The JSON object of an error, where the arguments ask for one."""
    path = None
    for k, argument in enumerate(arguments):
        if argument == "--json-file" and k + 1 < len(arguments):
            path = Path(arguments[k + 1])
        elif argument.startswith("--json-file="):
            path = Path(argument.partition("=")[2])
    wanted = "--json" in arguments
    if not wanted and path is None:
        return
    command = next((a for a in arguments if not a.startswith("-")), "midframe")
    data = {
        "schema": f"midframe.{command}/1",
        "ok": False,
        "error": {"code": code, "message": message, "exit_code": exit_code},
    }
    try:
        emit(data, wanted, path)
    except OSError:
        say(f"the JSON file {path} cannot be written")
