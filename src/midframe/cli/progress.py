"""Show the progress of a command on standard error."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from midframe.cli.report import print_message

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_INTERVAL = 5.0
"""Seconds between two lines of progress, where there is no bar."""


class ProgressDisplay:
    """Shows progress while its context is open: a bar on a terminal, otherwise a line now and then.

    with ProgressDisplay() as display:
        display.show("films", "3 of 7", done=3, total=7)
    """

    def __init__(self, *, quiet: bool = False, bar: bool = True, line_interval: float | None = None) -> None:
        """Prepare a display.

        quiet: show nothing. bar: allow a bar; False prints lines on a terminal as well. line_interval: the least
        number of seconds between two lines; `LINE_INTERVAL` by default, 0 for a line at every call of `show`.
        """
        self._quiet = quiet
        self._use_bar = bar and not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._line_interval = LINE_INTERVAL if line_interval is None else line_interval
        self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._use_bar:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=None, text="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, stage: str, text: str, *, done: float = 0, total: float | None = None) -> None:
        """Show how far a command has come.

        stage: what it is doing, in a word. text: the progress in words. done, total: the length of the bar; a total
        of None means that it is not known.
        """
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=stage, total=total, completed=done, text=text)
        elif not self._quiet and time.monotonic() - self._last_line >= self._line_interval:
            self._last_line = time.monotonic()
            print_message(f"{stage}: {text}")
