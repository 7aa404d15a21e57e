"""A whole conversion: plan, run, verify, and only then give the file its name."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from midframe.conversion.make import Maker
from midframe.conversion.pairs import Pair, pairs
from midframe.conversion.pipeline import Pipeline, Stage
from midframe.conversion.plan import Plan, make_plan
from midframe.conversion.settings import Settings
from midframe.conversion.source import Source, open_source
from midframe.conversion.summary import Counts, Summary
from midframe.conversion.target import open_sink, remove_part
from midframe.conversion.verify import verify
from midframe.errors import InputError
from midframe.video.cuts import CutDetector
from midframe.video.frame import Frame
from midframe.video.reader import ReadReport
from midframe.video.sink import Sink

log = logging.getLogger("midframe.convert")


@dataclass(frozen=True)
class Progress:
    """How far a conversion is: frames written, how many there will be (None: unknown), and the seconds so far."""

    stage: str
    written: int
    total: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Frames written in a second."""
        return self.written / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        if self.total is None or self.written == 0:
            return None
        return (self.total - self.written) / self.rate


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    dry_run: bool = False,
    **wishes: Any,
) -> Summary:
    """Convert a film into a smoother one, with everything else in it untouched.

    source, target: file names (`-` for y4m on standard input or output, a folder or pattern for pictures). settings:
    or the fields of `Settings` as keywords, such as `factor=4`, `fps=Fraction(60)`. progress: called some ten times a
    second; cancel: set it to stop. With `dry_run` only the plan is made. Several conversions may run in one process.

    Raises a `MidframeError` (`InputError`, `OutputError`, `SettingError`, `DeviceError`, `Cancelled`); then nothing is
    left behind and a target that was there is untouched.
    """
    source, target = os.fspath(source), os.fspath(target)
    if settings is not None and wishes:
        settings = replace(settings, **wishes)
    settings = settings or Settings(**wishes)
    cancel = cancel or threading.Event()
    began = time.monotonic()
    opened = open_source(source, settings)
    plan = make_plan(opened.film, source, target, settings)
    seconds = {"plan": time.monotonic() - began}
    job = _Job(source, plan, opened, settings, cancel, progress or (lambda _: None), seconds)
    return job.summary(dry_run=True) if dry_run else job.run()


class _Job:
    """One conversion on its way."""

    def __init__(
        self,
        source: str,
        plan: Plan,
        opened: Source,
        settings: Settings,
        cancel: threading.Event,
        progress: Callable[[Progress], None],
        seconds: dict[str, float],
    ) -> None:
        self.source = source
        self.plan = plan
        self.opened = opened
        self.settings = settings
        self.cancel = cancel
        self.progress = progress
        self.seconds = seconds
        self.report = ReadReport()
        self.counts = Counts()
        self.warnings = list(plan.warnings)
        self.names = {"network": settings.network, "shader": settings.shader, "backend": "", "device": settings.device}
        self.sink: Sink | None = None

    def run(self) -> Summary:
        began = time.monotonic()
        pipeline = self._pipeline = Pipeline(
            [
                Stage("decode", lambda _: self.opened.read(self.report, self._stopped)),
                Stage("pair", self._pairs),
                Stage("make", self._make),
                Stage("encode", self._encode),
            ]
        )
        try:
            pipeline.run(lambda: self._tell("convert", began), self.cancel.is_set)
            self.seconds |= pipeline.busy
            self._check_complete()
            assert self.sink is not None
            self._tell("verify", began)
            verifying = time.monotonic()
            verify(self.sink, self.plan, self.counts.written, self.cancel.is_set)
            self.seconds["verify"] = time.monotonic() - verifying
            self.sink.commit()
        except BaseException:
            # An encoder that is busy cannot be interrupted: its file goes at once, its thread when it is done.
            if pipeline.join(1.0) and self.sink is not None:
                self.sink.abort()
            remove_part(self.plan.target)
            raise
        pipeline.join(1.0)
        self.seconds["total"] = time.monotonic() - began + self.seconds["plan"]
        return self.summary(dry_run=False)

    def summary(self, *, dry_run: bool) -> Summary:
        report = self.report
        self.counts.read = report.frames
        ended = report.ended_early or (self.plan.film.ends_early and not dry_run)
        return Summary(
            source=self.source,
            target=self.plan.target,
            dry_run=dry_run,
            complete=not (report.lost or ended),
            plan=self.plan,
            counts=self.counts,
            report=report,
            names=self.names,
            seconds=self.seconds,
            warnings=tuple(dict.fromkeys([*self.warnings, *_damage_warnings(report)])),
        )

    def _stopped(self) -> bool:
        return self.cancel.is_set() or self._pipeline.stop.is_set()

    def _pairs(self, frames: Iterator[Frame]) -> Iterator[Pair]:
        detector = CutDetector() if self.settings.cuts else None
        return pairs(frames, self.plan.timeline, self.plan.gap, self.plan.last_duration, detector)

    def _make(self, steps: Iterator[Pair]) -> Iterator[Frame]:
        film, form = self.plan.film, self.plan.form
        maker = Maker(self.settings, film.layout, film.colour, (form.layout, form.colour))
        self.names = maker.names
        self.warnings += maker.warnings(self.plan.timeline)
        for pair in steps:
            yield from maker.frames(pair, self.counts)

    def _encode(self, frames: Iterator[Frame]) -> Iterator[None]:
        # The first frame is there before the output is opened: a film that cannot be read leaves no trace.
        for frame in frames:
            if self.sink is None:
                self.sink = open_sink(self.plan, self.settings)
            self.sink.write(frame)
            self.counts.written += 1
            yield
        if self.sink is not None:
            self.sink.finish()

    def _tell(self, stage: str, began: float) -> None:
        self.progress(Progress(stage, self.counts.written, self.plan.frames, time.monotonic() - began))

    def _check_complete(self) -> None:
        """What was written is what was planned, or something was reported that says why not."""
        planned, report = self.plan.frames, self.report
        excused = report.ended_early or report.dropped or report.unshown
        if planned is not None and self.counts.written != planned and not excused:
            raise InputError(
                f"{self.source}: {planned} output frames were planned, {self.counts.written} came out; "
                f"{report.frames} frames were read"
            )


def _damage_warnings(report: ReadReport) -> list[str]:
    said = []
    if report.damaged and report.first_damaged is not None:
        said.append(f"{report.damaged} frames are damaged, the first at {float(report.first_damaged):.3f} s")
    if report.lost:
        said.append(f"{report.lost} frames could not be decoded; the frame before them is held")
    if report.dropped:
        said.append(f"{report.dropped} frames whose time does not rise were dropped")
    if report.unshown:
        said.append(f"{report.unshown} frames before the first key frame cannot be decoded")
    if report.ended_early:
        said.append(f"the film ends early: {report.ended_early}")
    for text, count in report.messages.most_common(5):
        said.append(f"while reading, {text}" + (f" ({count} times)" if count > 1 else ""))
    if report.losses:
        said.append(f"{', '.join(sorted(report.losses))} cannot be kept")
    return said
