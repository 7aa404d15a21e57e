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
    """Does what it is called: see `do`. `notes`: a folder in which it leaves the id of each process that tried it."""

    name: str
    what: str
    notes: str

    @property
    def about(self) -> str:
        return f"task {self.name}"

    def do(self, beat: Callable[[], None]) -> bytes:
        tries = len(list(Path(self.notes).glob(f"{self.name}-*")))
        (Path(self.notes) / f"{self.name}-{tries}").write_text(str(os.getpid()))
        if self.what == "kill once" and tries == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.what == "hang":
            time.sleep(60)
        if self.what == "slow":
            for _ in range(6):
                time.sleep(0.5)
                beat()
        if self.what == "refuse":
            raise InputError(f"{self.name} is not to be done")
        if self.what == "fault":
            raise ZeroDivisionError("nobody thought of this")
        return self.name.encode()

    def crashed(self, why: str) -> bytes:
        return f"{self.name}: {why}".encode()
