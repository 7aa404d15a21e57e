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
    code = 1
    try:
        code = _run(sys.argv[1:])
    except Interrupted as stop:
        from midframe.cli.report import say

        code = 128 + stop.number
        say("interrupted; nothing was left behind")
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - what reads our output is gone
        code = 4
    try:
        sys.stdout.flush()
        sys.stderr.flush()
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
    import click

    from midframe.cli.app import app
    from midframe.cli.report import failure, fault
    from midframe.errors import MidframeError, SettingError

    debug = "--debug" in arguments
    try:
        result = app(arguments, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        return failure(SettingError(error.format_message()), arguments)
    except click.ClickException as error:
        return failure(SettingError(error.format_message()), arguments)
    except click.Abort:
        return 130
    except MidframeError as error:
        if debug:
            raise
        return failure(error, arguments)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        return fault(error, debug, arguments)
