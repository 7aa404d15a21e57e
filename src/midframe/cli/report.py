"""What the commands print: people read standard error, machines read one JSON object."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Any

from midframe.errors import MidframeError, OutputError


def say(text: str) -> None:
    """One line for a person."""
    if sys.stderr is not None:  # it may have been closed; print would then write to standard output
        print(f"midframe: {text}", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """A span of time for a person: 1:05 or 2:00:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def emit(data: dict[str, Any], to_stdout: bool, path: Path | None) -> None:
    """The JSON object, where it was asked for. Raises `OutputError` where it cannot be written."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    try:
        if to_stdout and sys.stdout is not None:
            sys.stdout.buffer.write(text.encode())
            sys.stdout.buffer.flush()
        if path is not None:
            path.write_bytes(text.encode())
    except OSError as error:
        where = f"to {path}" if path is not None and not isinstance(error, BrokenPipeError) else "to standard output"
        raise OutputError(f"the JSON object cannot be written {where}: {error.strerror or error}") from None


def check_json_file(path: Path | None) -> None:
    """Refuse, before any work, a JSON file that could not be written afterwards."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        what = "it is a directory" if path.is_dir() else f"there is no folder {path.absolute().parent}"
        raise OutputError(f"the JSON file {path} cannot be written: {what}")


def failure(error: MidframeError, arguments: list[str]) -> int:
    """One line for an error that was foreseen; returns its exit code."""
    if "--debug" in arguments:
        _print_trace(error)
    return failed(error.code, " ".join(str(error).split()) or type(error).__name__, error.exit_code, arguments)


def fault(error: Exception, arguments: list[str]) -> int:
    """One line for a fault of Midframe itself; the traceback goes to a file that the line names."""
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    if "--debug" in arguments:
        _print_trace(error)
        where = "see above"
    else:
        with tempfile.NamedTemporaryFile("w", prefix="midframe-", suffix=".log", delete=False, encoding="utf-8") as log:
            log.write("".join(traceback.format_exception(error)))
        where = f"details are in {log.name}"
    return failed("fault", f"a fault of Midframe itself: {line} ({where})", 1, arguments)


def failed(code: str, message: str, exit_code: int, arguments: list[str]) -> int:
    """Say why there is no result, to people and, where the arguments ask for it, to machines; the exit code."""
    say(message if code in ("interrupted", "fault") else f"error: {message}")
    named = _parsed(arguments)
    target = named.get("target")
    path = next((Path(given) for given in _values(arguments, "--json-file")), None)
    data = {
        "schema": f"midframe.{named.get('command', 'convert')}/1",
        "ok": False,
        "input": {"path": named.get("source")},
        "output": {"path": target},
        "error": {"code": code, "message": message, "exit_code": exit_code},
    }
    try:
        emit(data, "--json" in arguments and target != "-", path)
    except OutputError as second:
        if "JSON" not in message:
            say(str(second))
    return exit_code


def _parsed(arguments: list[str]) -> dict[str, Any]:
    """What can be understood of arguments that may be wrong: the command, its input and its output."""
    import typer

    from midframe.cli.app import app

    group: Any = typer.main.get_command(app)
    at = next((k for k, a in enumerate(arguments) if a in group.commands), None)
    if at is None:
        return {}
    command = arguments[at]
    try:
        given = group.commands[command].make_context(command, arguments[at + 1 :], resilient_parsing=True).params
    except Exception:
        return {"command": command}
    return {"command": command, "source": given.get("source") or given.get("first"), "target": given.get("target")}


def _values(arguments: list[str], option: str) -> list[str]:
    """The values of an option, whether given as `--option value` or as `--option=value`."""
    apart = [value for name, value in pairwise(arguments) if name == option]
    return apart + [a.partition("=")[2] for a in arguments if a.startswith(f"{option}=")]


def _print_trace(error: BaseException) -> None:
    if sys.stderr is not None:
        traceback.print_exception(error, file=sys.stderr)
