"""The progress of a conversion, as the `progress` callback receives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """How far a conversion has come."""

    stage: Literal["plan", "convert", "verify"]
    written: int
    """Output frames written so far."""
    total: int | None
    """Output frames in all; None while that is not known, and for a pipe."""
    seconds: float
    """Seconds since the conversion, or its planning, began."""

    @property
    def rate(self) -> float:
        """Frames written a second."""
        return self.written / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The estimated time to the end in seconds; None if there is no estimate yet."""
        if self.total is None or self.written == 0:
            return None
        return (self.total - self.written) / self.rate


ProgressCallback = Callable[[Progress], None]
