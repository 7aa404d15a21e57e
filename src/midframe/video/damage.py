"""Collect the errors that FFmpeg logs while a film is read or written."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Collection
from types import TracebackType
from typing import ClassVar

import av.logging


class DamageLog(logging.Handler):
    """A context manager that counts the errors which the named demuxers and decoders log while it is open.

    FFmpeg has one log for the whole process, which PyAV passes to the logger "libav". A message from a thread that has
    opened a log of its own is not counted in the others. A decoder's worker threads, however, do not tell which film
    they work for: if the same decoder decodes two films side by side, both logs count what its workers report.
    """

    LIMIT = 100
    """Most different messages that are kept, as a damaged film can log without end."""

    _open: ClassVar[list[DamageLog]] = []
    _lock: ClassVar[threading.Lock] = threading.Lock()
    _settings_before: ClassVar[tuple[int | None, bool]] = (None, True)
    """PyAV's log level and skip_repeated flag from before the first log was opened."""

    def __init__(self, components: Collection[str], messages: Counter[str] | None = None) -> None:
        """Create a log for FFmpeg components by their names ("matroska,webm", "h264"), counting in `messages`."""
        super().__init__(logging.ERROR)
        self.components = frozenset(components)
        self.messages: Counter[str] = Counter() if messages is None else messages
        self.thread = 0
        """Identity of the thread that opened the log."""

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
        with DamageLog._lock:
            if not DamageLog._open:
                DamageLog._settings_before = (av.logging.get_level(), av.logging.get_skip_repeated())
                av.logging.set_level(max(av.logging.ERROR, DamageLog._settings_before[0] or 0))
                # PyAV skips a message that equals the one before it, even if that concerned another film.
                av.logging.set_skip_repeated(False)
            DamageLog._open.append(self)
        logging.getLogger("libav").addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("libav").removeHandler(self)
        with DamageLog._lock:
            DamageLog._open.remove(self)
            if not DamageLog._open:
                level, skip_repeated = DamageLog._settings_before
                av.logging.set_level(level)
                av.logging.set_skip_repeated(skip_repeated)
