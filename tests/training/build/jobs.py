"""Jobs for the tests of worker pools, in a module of their own so that workers can import them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from midframe.errors import InputError


@dataclass(frozen=True)
class Task:
    """A job that behaves as it is told, and records the id of each process that runs it."""

    name: str
    behaviour: str
    """What the job does: see `run`. Empty: it ends at once."""
    folder: str
    """Where each attempt leaves a file `NAME-ATTEMPT` with the id of its process."""

    @property
    def description(self) -> str:
        return f"task {self.name}"

    def run(self, heartbeat: Callable[[], None]) -> bytes:
        attempt = len(list(Path(self.folder).glob(f"{self.name}-*")))
        (Path(self.folder) / f"{self.name}-{attempt}").write_text(str(os.getpid()))
        if self.behaviour == "kill once" and attempt == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.behaviour == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.behaviour == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.behaviour == "hang":
            time.sleep(60)
        if self.behaviour == "slow":
            for _ in range(6):
                time.sleep(0.5)
                heartbeat()
        if self.behaviour == "refuse":
            raise InputError(f"{self.name} is not to be done")
        if self.behaviour == "fault":
            raise ZeroDivisionError("nobody thought of this")
        return self.name.encode()

    def crash_result(self, reason: str) -> bytes:
        return f"{self.name}: {reason}".encode()
