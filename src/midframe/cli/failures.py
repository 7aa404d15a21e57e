"""Report why a command failed: one line for people and, on request, one JSON object for programs."""

from __future__ import annotations

import tempfile
import traceback
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from midframe.cli.report import print_message, write_json
from midframe.errors import OutputError


@dataclass(frozen=True)
class Failure:
    """Why a command gave no result."""

    code: str
    """The kind of failure in JSON: the `code` of a `MidframeError`, `fault` or `interrupted`."""
    message: str
    """The explanation in one line."""
    exit_code: int


@dataclass(frozen=True)
class Request:
    """What could be understood of a command's arguments, which may be invalid."""

    command: str | None = None
    source: str | None = None
    """The input; of `midframe frame` the first picture."""
    target: str | None = None
    json: bool = False
    """Whether a JSON object is wanted on standard output."""
    json_file: Path | None = None
    """The file for the JSON object."""


def parse_request(group: Any, arguments: list[str]) -> Request:
    """Return what can be understood of the arguments of the command `group` (a click group)."""
    json_file = next((Path(value) for value in _option_values(arguments, "--json-file")), None)
    request = Request(json="--json" in arguments, json_file=json_file)
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command is None or command not in group.commands:
        return request
    rest = arguments[arguments.index(command) + 1 :]
    try:
        given = group.commands[command].make_context(command, rest, resilient_parsing=True).params
    except Exception:  # whatever click makes of invalid arguments
        given = {}
    return Request(
        command, given.get("source") or given.get("first"), given.get("target"), request.json, request.json_file
    )


def describe_fault(error: BaseException, *, traceback_printed: bool) -> Failure:
    """Return the failure for an exception that Midframe did not foresee.

    Unless it has been printed, the traceback is written to a temporary file that the message names.
    """
    if traceback_printed:
        details = "see above"
    else:
        with tempfile.NamedTemporaryFile("w", prefix="midframe-", suffix=".log", delete=False, encoding="utf-8") as log:
            log.write("".join(traceback.format_exception(error)))
        details = f"details are in {log.name}"
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    return Failure("fault", f"a fault of Midframe itself: {line} ({details})", 1)


def report_failure(failure: Failure, request: Request) -> int:
    """Print a failure on standard error, write it as JSON if that was requested, and return the exit code."""
    is_error = failure.code not in ("interrupted", "fault")
    print_message(f"error: {failure.message}" if is_error else failure.message)
    data = {
        "schema": f"midframe.{request.command or 'convert'}/1",
        "ok": False,
        "input": {"path": request.source},
        "output": {"path": request.target},
        "error": {"code": failure.code, "message": failure.message, "exit_code": failure.exit_code},
    }
    try:
        write_json(data, to_stdout=request.json and request.target != "-", path=request.json_file)
    except OutputError as error:
        if "JSON" not in failure.message:
            print_message(str(error))
    return failure.exit_code


def _option_values(arguments: list[str], option: str) -> list[str]:
    """Return the values of an option, whether given as `--option value` or as `--option=value`."""
    separate = [value for name, value in pairwise(arguments) if name == option]
    return separate + [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{option}=")]
