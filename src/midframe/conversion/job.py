"""A whole conversion: plan, run, verify, and only then give the file its name."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midframe.conversion.pairs import Pair, pairs
from midframe.conversion.pipeline import Pipeline, Stage, aside
from midframe.conversion.plan import Plan, check_target, make_plan
from midframe.conversion.settings import Settings
from midframe.conversion.source import Source, open_source
from midframe.conversion.summary import Counts, Summary
from midframe.conversion.target import open_sink, remove_part
from midframe.conversion.verify import verify
from midframe.errors import InputError, MidframeError, OutputError
from midframe.video.cuts import CutDetector
from midframe.video.damage import DamageLog
from midframe.video.frame import Frame
from midframe.video.probe import Film
from midframe.video.reader import ReadReport
from midframe.video.sink import Sink

if TYPE_CHECKING:
    from midframe.conversion.render import Renderer

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
    progress = progress or (lambda _: None)
    place = _claim(target)
    job: _Job | None = None
    try:
        job = _planned(source, target, settings, progress, cancel)
        with DamageLog(()):  # see `ffmpeg.decode_frames`: not turned on and off while stages log
            return job.dry_run() if dry_run else job.run()
    finally:
        if job is None or job.pipeline.join(0):
            _targets.discard(place)
        else:
            # An encoder that could not be interrupted deletes its file when it is done: not that of the next try.
            threading.Thread(target=_discard_later, args=(place, job.pipeline), daemon=True).start()


_targets: set[Path] = set()
_guard = threading.Lock()


def _claim(target: str) -> Path:
    """Note that a conversion of this process writes to a target; two would share its unfinished file."""
    place = Path(target).absolute()
    with _guard:
        if place in _targets and target != "-":
            raise OutputError(f"{target} is being written by another conversion of this process")
        _targets.add(place)
    return place


def _discard_later(place: Path, pipeline: Pipeline) -> None:
    pipeline.join(None)
    _targets.discard(place)


def _planned(
    source: str,
    target: str,
    settings: Settings,
    progress: Callable[[Progress], None],
    cancel: threading.Event,
) -> _Job:
    began = time.monotonic()
    check_target(source, target, settings)

    def work(stopped: Callable[[], bool]) -> tuple[Source, Plan, Settings]:
        opened = open_source(source, settings, stopped)
        settled = settings.of_film(opened.film.first_time)
        return opened, make_plan(opened.film, source, target, settled), settled

    opened, plan, settled = aside(
        work, lambda: progress(Progress("plan", 0, None, time.monotonic() - began)), cancel.is_set
    )
    return _Job(
        source,
        plan,
        opened,
        settled,
        cancel=cancel,
        progress=progress,
        seconds={"plan": time.monotonic() - began},
    )


class _Job:
    """One conversion on its way."""

    def __init__(
        self,
        source: str,
        plan: Plan,
        opened: Source,
        settings: Settings,
        *,
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
        self.pipeline = Pipeline(
            [
                Stage("decode", lambda _: self.opened.read(self.report, self._stopped)),
                Stage("pair", self._pairs),
                Stage("make", self._make),
                Stage("encode", self._encode),
            ]
        )

    def dry_run(self) -> Summary:
        """Only the plan, and what would make the frames."""
        self._maker()
        return self.summary(dry_run=True)

    def run(self) -> Summary:
        began, pipeline = time.monotonic(), self.pipeline
        log.info("%s to %s: %s frames planned", self.source, self.plan.target, self.plan.frames)
        try:
            pipeline.run(lambda: self._tell("convert", began), self.cancel.is_set)
            self.seconds |= pipeline.busy
            self._check_complete()
            sink = self.sink
            assert sink is not None
            verifying = time.monotonic()
            self._tell("verify", began)
            aside(
                lambda stopped: verify(sink, self.plan, self.counts.written, stopped),
                lambda: self._tell("verify", began),
                self.cancel.is_set,
            )
            self.seconds["verify"] = time.monotonic() - verifying
            sink.commit()
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
        report, film, end = self.report, self.plan.film, self.settings.end
        self.counts.read = report.frames
        ended = report.ended_early or (film.ends_early and (end is None or end > film.last_time))
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
            warnings=tuple(dict.fromkeys([*self.warnings, *_damage_warnings(film, report)])),
        )

    def _stopped(self) -> bool:
        return self.cancel.is_set() or self.pipeline.stop.is_set()

    def _pairs(self, frames: Iterator[Frame]) -> Iterator[Pair]:
        detector = CutDetector() if self.settings.cuts else None
        return pairs(frames, self.plan.timeline, self.plan.gap, self.plan.last_duration, detector)

    def _maker(self) -> Renderer:
        # Imported here, so that what cannot be converted is refused before networks are loaded.
        from midframe.conversion.render import Renderer

        film, form = self.plan.film, self.plan.form
        maker = Renderer(self.settings, film.layout, film.colour, (form.layout, form.colour))
        self.names = maker.names
        self.warnings += maker.warnings(self.plan.timeline)
        return maker

    def _make(self, steps: Iterator[Pair]) -> Iterator[Frame]:
        maker = self._maker()
        with maker.threads():
            for pair in steps:
                yield from maker.frames(pair, self.counts)
        self.warnings += maker.notes()

    def _encode(self, frames: Iterator[Frame]) -> Iterator[None]:
        # The first frame is there before the output is opened: a film that cannot be read leaves no trace.
        try:
            for frame in frames:
                if self.sink is None:
                    self.sink = open_sink(self.plan, self.settings)
                self._check_time(frame)
                self.sink.write(frame)
                self.counts.written += 1
                yield
            if self.sink is not None:
                self.sink.finish()
        except BaseException:
            if self.sink is not None:
                self.sink.abort()
            raise

    def _tell(self, stage: str, began: float) -> None:
        self.progress(Progress(stage, self.counts.written, self.plan.frames, time.monotonic() - began))

    def _check_time(self, frame: Frame) -> None:
        """Each frame comes when it was planned."""
        times, number = self.plan.times, self.counts.written
        if times is None:
            return
        if number >= len(times) or round(frame.time / self.plan.time_base) != times[number]:
            planned = f"{float(times[number] * self.plan.time_base):.6f} s" if number < len(times) else "nothing"
            raise MidframeError(f"output frame {number} came at {float(frame.time):.6f} s, {planned} was planned")

    def _check_complete(self) -> None:
        """As many frames were written as planned, or it was reported why not."""
        planned, report = self.plan.frames, self.report
        if self.counts.written == 0:
            raise InputError(f"{self.source}: there is no frame in it that can be read")
        if planned is not None and self.counts.written != planned and not report.ended_early:
            raise InputError(
                f"{self.source}: {planned} output frames were planned, {self.counts.written} came out; "
                f"{report.frames} frames were read"
            )


def _damage_warnings(film: Film, report: ReadReport) -> list[str]:
    said = _first_few(list(film.problems), "more signs of damage")
    if film.undecodable_start:
        said.append(f"{film.undecodable_start} frames before the first key frame cannot be decoded and are left out")
    if report.damaged and report.first_damaged is not None:
        said.append(f"{report.damaged} frames are damaged, the first at {float(report.first_damaged):.3f} s")
    if report.lost:
        said.append(f"{report.lost} frames could not be decoded; a frame beside them is held")
    if report.dropped > film.duplicate_frames:
        said.append(f"{report.dropped - film.duplicate_frames} frames that came at an unexpected time were dropped")
    if report.ended_early:
        said.append(f"the film ends early: {report.ended_early}")
    messages = [f"while reading, {t}" + (f" ({n} times)" if n > 1 else "") for t, n in report.messages.most_common()]
    said += _first_few(messages, "more messages while reading")
    if report.lost_side_data:
        said.append(f"{', '.join(sorted(report.lost_side_data))} cannot be kept")
    return said


def _first_few(texts: list[str], rest: str) -> list[str]:
    return texts if len(texts) <= 5 else [*texts[:4], f"{len(texts) - 4} {rest}"]
