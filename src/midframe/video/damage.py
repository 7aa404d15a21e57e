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

    messages: where they are counted. FFmpeg's log is one for the whole process. What the thread that opened another
    log says is not taken; but a decoder's own threads say nothing of whom they work for, so of two films that are
    decoded side by side with the same decoder both count what its threads log. A damaged film can log without end:
    only `LIMIT` different messages are kept.
    """

    LIMIT = 100
    _open: ClassVar[list[DamageLog]] = []
    _guard: ClassVar[threading.Lock] = threading.Lock()
    _before: ClassVar[tuple[int | None, bool]] = (None, True)

    def __init__(self, components: Collection[str], messages: Counter[str] | None = None) -> None:
        super().__init__(logging.ERROR)
        self.components = frozenset(components)
        self.messages: Counter[str] = Counter() if messages is None else messages
        self.thread = 0

    def emit(self, record: logging.LogRecord) -> None:
        component = record.name.removeprefix("libav.")
        if component not in self.components:
            return
        if record.thread != self.thread and any(log.thread == record.thread for log in DamageLog._open):
            return
        message = f"{component.split(',')[0]}: {record.getMessage().strip()}"
        if message in self.messages or len(self.messages) < self.LIMIT:
            self.messages[message] += 1

    def __enter__(self) -> DamageLog:
        self.thread = threading.get_ident()
        with DamageLog._guard:
            if not DamageLog._open:
                DamageLog._before = (av.logging.get_level(), av.logging.get_skip_repeated())
                av.logging.set_level(max(av.logging.ERROR, DamageLog._before[0] or 0))
                # PyAV leaves out what equals the message before it, be that another film's.
                av.logging.set_skip_repeated(False)
            DamageLog._open.append(self)
        logging.getLogger("libav").addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("libav").removeHandler(self)
        with DamageLog._guard:
            DamageLog._open.remove(self)
            if not DamageLog._open:
                level, skip = DamageLog._before
                av.logging.set_level(level)
                av.logging.set_skip_repeated(skip)
