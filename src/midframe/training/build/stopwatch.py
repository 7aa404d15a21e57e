"""Measurement of the time that each kind of work takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent on each kind of work.

    with stopwatch("decode"):
        ...
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """Seconds so far by kind of work."""

    @contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        """Add the duration of the block to the seconds of a kind of work."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - began
