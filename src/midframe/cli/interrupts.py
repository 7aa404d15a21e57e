"""Turn SIGINT and SIGTERM into an exception of the main thread."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(BaseException):
    """A signal asked the command to stop.

    It is raised in the main thread, which only waits while other threads work. A command may catch it and raise it
    again with another message.

    number: of the signal; the exit code is 128 + number.
    message: what the user is told, in one line.
    """

    def __init__(self, number: int, message: str = "interrupted; nothing was left behind") -> None:
        super().__init__(number, message)
        self.number = number
        self.message = message


def raise_on_signals() -> None:
    """Raise `Interrupted` in the main thread at the first SIGINT or SIGTERM, and ignore the later ones."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise_interrupted)


def _raise_interrupted(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)
