"""The command line: parsing and printing only."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run `midframe` with the arguments of this process, and end it with the documented exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    arguments = sys.argv[1:]
    code = 1
    try:
        code = _run(arguments)
    except Interrupted as stop:
        from midframe.cli.report import failed

        code = failed("interrupted", "interrupted; nothing was left behind", 128 + stop.number, arguments)
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        # An encoder thread that is still busy must not keep the process.
        os._exit(code)


class Interrupted(BaseException):
    """A signal asked the program to stop. Raised in the main thread, which never does the work itself."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


def _run(arguments: list[str]) -> int:
    import typer

    from midframe.cli.app import app
    from midframe.cli.report import failed, failure, fault
    from midframe.errors import MidframeError

    usage_error = typer.BadParameter.__mro__[1]  # click's or, in newer versions of Typer, its own
    try:
        result = app(arguments or ["--help"], standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return failed("interrupted", "interrupted", 130, arguments)
    except Exception as error:
        if isinstance(error, usage_error):
            text = str(getattr(error, "format_message", error.__str__)())
            command = next((a for a in arguments if not a.startswith("-")), "")
            known = {c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands}
            known |= {group.name for group in app.registered_groups}
            hint = f"midframe {command} --help" if command in known else "midframe --help"
            return failed("setting", f"{text.rstrip('.')} (see {hint})", 2, arguments)
        if isinstance(error, MidframeError):
            return failure(error, arguments)
        return fault(error, arguments)
