"""Where frames go: each kind of output opened, written, verified, and given its name at the very end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from midframe.conversion.plan import Plan
from midframe.conversion.settings import Settings
from midframe.conversion.verify import verify_film, verify_sink
from midframe.errors import OutputError
from midframe.video.animations import GifWriter, WebpWriter
from midframe.video.frame import Frame
from midframe.video.pictures import PictureWriter
from midframe.video.sink import Sink
from midframe.video.streams import Carrier
from midframe.video.writer import FilmWriter
from midframe.video.y4m import Y4mWriter


class Target(Protocol):
    """An output on its way. `open`, `write` and `finish` are called from one thread, the rest after that.

    `abort` ends the writing and removes everything; `discard` only removes what is on the disk, for when the writing
    thread is still busy; `commit` gives the file its name.
    """

    def open(self) -> None: ...
    def write(self, frame: Frame) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...
    def discard(self) -> None: ...
    def verify(self, cancelled: Callable[[], bool]) -> None: ...
    def commit(self) -> None: ...


def open_target(plan: Plan, settings: Settings) -> Target:
    """The output that a plan asks for; nothing is created before its `open`."""
    if plan.container in ("matroska", "webm", "mp4", "mov"):
        return FilmTarget(plan, settings)
    return SinkTarget(plan, settings)


def part_of(target: str) -> Path:
    """The file that is written before the target gets its name, beside it."""
    where = Path(target)
    return where.with_name(f"{where.name}.{os.getpid()}.part")


class FilmTarget:
    """A film file."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan = plan
        self.overwrite = settings.overwrite
        self.part = part_of(plan.target)
        self.carrier: Carrier | None = None
        self.writer: FilmWriter | None = None

    def open(self) -> None:
        self.carrier = Carrier(self.plan.film, self.plan.streams, self.plan.container, self.plan.timeline)
        self.writer = FilmWriter(self.part, self.plan.target, self.plan.form, self.carrier)

    def write(self, frame: Frame) -> None:
        assert self.writer is not None
        self.writer.write(frame)

    def finish(self) -> None:
        assert self.writer is not None
        self.writer.finish()

    def abort(self) -> None:
        if self.writer is not None:
            self.writer.abort()
        if self.carrier is not None:
            self.carrier.close()
        self.discard()

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)

    def verify(self, cancelled: Callable[[], bool]) -> None:
        assert self.writer is not None
        assert self.carrier is not None
        verify_film(self.part, self.plan, self.writer.ticks, self.carrier.counts, cancelled)

    def commit(self) -> None:
        assert self.carrier is not None
        self.carrier.close()
        if Path(self.plan.target).exists() and not self.overwrite:
            raise OutputError(f"{self.plan.target} has appeared meanwhile; --overwrite replaces it")
        self.part.replace(self.plan.target)


class SinkTarget:
    """Pictures, an animation, or y4m."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan = plan
        self.settings = settings
        self.sink: Sink | None = None

    def open(self) -> None:
        self.sink = _sink(self.plan, self.settings)

    def write(self, frame: Frame) -> None:
        assert self.sink is not None
        self.sink.write(frame)

    def finish(self) -> None:
        assert self.sink is not None
        self.sink.finish()

    def abort(self) -> None:
        if self.sink is not None:
            self.sink.abort()

    def discard(self) -> None:
        self.abort()

    def verify(self, cancelled: Callable[[], bool]) -> None:
        assert self.sink is not None
        verify_sink(self.sink, self.plan, cancelled)

    def commit(self) -> None:
        assert self.sink is not None
        self.sink.commit()


def _sink(plan: Plan, settings: Settings) -> Sink:
    raise NotImplementedError
