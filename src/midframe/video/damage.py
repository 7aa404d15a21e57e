"""What FFmpeg's demuxers and decoders complain of while a film is read."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Collection
from types import TracebackType
from typing import ClassVar

import av.logging


class DamageLog(logging.Handler):
    """Collects the errors that the named demuxers and decoders log while it is open; a context manager.

    FFmpeg's log is one for the whole process: of two conversions that run side by side with the same decoder, both see
    what either logs. A damaged film can log without end, so only `LIMIT` different messages are kept.
    """

    LIMIT = 100
    _open: ClassVar[int] = 0
    _guard = threading.Lock()

    def __init__(self, components: Collection[str]) -> None:
        super().__init__(logging.ERROR)
        self.components = frozenset(components)
        self.messages: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        component = record.name.removeprefix("libav.")
        message = f"{component.split(',')[0]}: {record.getMessage().strip()}"
        if component in self.components and (message in self.messages or len(self.messages) < self.LIMIT):
            self.messages[message] += 1

    def __enter__(self) -> DamageLog:
        with DamageLog._guard:
            if DamageLog._open == 0:
                av.logging.set_level(av.logging.ERROR)
            DamageLog._open += 1
        logging.getLogger("libav").addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("libav").removeHandler(self)
        with DamageLog._guard:
            DamageLog._open -= 1
            if DamageLog._open == 0:
                av.logging.set_level(None)
