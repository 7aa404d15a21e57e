"""The command line of Midframe. Its modules parse arguments and print results; the work is done elsewhere."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run `midframe` with the arguments of this process, and exit with the documented exit code.

    This is the entry point of the installed command. The modules it needs are imported here, so that
    `import midframe.cli` stays cheap.
    """
    from midframe.cli.interrupts import Interrupted, raise_on_signals

    raise_on_signals()
    try:
        from midframe.cli.app import run

        code = run(sys.argv[1:])
    except Interrupted as stop:  # while the modules were imported, or while a failure was reported
        print(f"midframe: {stop.message}", file=sys.stderr)
        code = 128 + stop.number
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        # Ends the process even if an encoder's thread is still busy.
        os._exit(code)
