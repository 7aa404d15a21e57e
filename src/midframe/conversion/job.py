"""Run a whole conversion: plan, convert, verify, and only then give the output its final name."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from midframe.conversion.output import delete_part, open_sink
from midframe.conversion.pairs import FramePair, frame_pairs
from midframe.conversion.pipeline import Pipeline, Stage, run_in_thread
from midframe.conversion.plan import Plan, make_plan
from midframe.conversion.progress import Progress, ProgressCallback
from midframe.conversion.settings import Settings
from midframe.conversion.source import Source, open_source
from midframe.conversion.summary import Counts, Summary
from midframe.conversion.target import check_target
from midframe.conversion.verify import verify
from midframe.conversion.warnings import collect_warnings
from midframe.errors import InputError, MidframeError, OutputError
from midframe.video.cuts import CutDetector
from midframe.video.damage import DamageLog
from midframe.video.frame import Frame
from midframe.video.reader import ReadReport
from midframe.video.sink import Sink

if TYPE_CHECKING:
    from midframe.conversion.render import Renderer

log = logging.getLogger("midframe.convert")


def run_conversion(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    settings: Settings,
    *,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    dry_run: bool = False,
) -> Summary:
    """Convert a film as `midframe.convert` does, with all settings in one object.

    Raises a `MidframeError`; then nothing is left behind, and a target that existed is unchanged.
    """
    control = _Control(progress or (lambda _: None), cancel or threading.Event())
    source, target = os.fspath(source), os.fspath(target)
    claimed = _claim_target(target)
    job: _Job | None = None
    try:
        job = _plan_job(source, target, settings, control)
        # The log stays open throughout, although it collects nothing; `ffmpeg.decode_frames` says why.
        with DamageLog(()):
            return job.dry_run() if dry_run else job.run()
    finally:
        if job is None or job.pipeline.join(0):
            _claimed_targets.discard(claimed)
        else:
            # An encoder that cannot be interrupted deletes its unfinished file when it ends. Until then the target
            # stays claimed, because that could be the file of the next conversion.
            threading.Thread(target=_release_target, args=(claimed, job.pipeline), daemon=True).start()


_claimed_targets: set[Path] = set()
"""The targets that conversions of this process write to."""

_claim_lock = threading.Lock()


def _claim_target(target: str) -> Path:
    """Register a target and return its absolute path. Raises `OutputError` if another conversion writes to it."""
    path = Path(target).absolute()
    with _claim_lock:
        if path in _claimed_targets and target != "-":
            raise OutputError(f"{target} is being written by another conversion of this process")
        _claimed_targets.add(path)
    return path


def _release_target(claimed: Path, pipeline: Pipeline) -> None:
    """Release a claimed target once its pipeline has ended."""
    pipeline.join(None)
    _claimed_targets.discard(claimed)


@dataclass(frozen=True)
class _Control:
    """How the caller observes and stops a conversion."""

    progress: ProgressCallback
    cancel: threading.Event
    """Set by the caller to stop the conversion."""


def _plan_job(source: str, target: str, settings: Settings, control: _Control) -> _Job:
    """Open the source and plan the conversion, in a thread of its own."""
    began = time.monotonic()
    check_target(source, target, settings)

    def plan(stopped: Callable[[], bool]) -> tuple[Source, Plan, Settings]:
        opened = open_source(source, settings, stopped)
        resolved = settings.with_start(opened.film.first_time)
        return opened, make_plan(opened.film, source, target, resolved), resolved

    def report() -> None:
        control.progress(Progress("plan", 0, None, time.monotonic() - began))

    opened, planned, resolved = run_in_thread(plan, report, control.cancel.is_set)
    return _Job(opened, planned, resolved, control, time.monotonic() - began)


class _Job:
    """One planned conversion. `dry_run` or `run` is called once."""

    def __init__(
        self, opened: Source, plan: Plan, settings: Settings, control: _Control, planning_seconds: float
    ) -> None:
        self.opened = opened
        self.plan = plan
        self.settings = settings
        self.control = control
        self.seconds = {"plan": planning_seconds}
        self.report = ReadReport()
        self.counts = Counts()
        self.render_warnings: list[str] = []
        self.names = {"network": settings.network, "shader": settings.shader, "backend": "", "device": settings.device}
        self.sink: Sink | None = None
        self.began = time.monotonic()
        self.pipeline = Pipeline(
            [
                Stage("decode", lambda _: self.opened.read(self.report, self._is_stopped)),
                Stage("pair", self._pair),
                Stage("render", self._render),
                Stage("encode", self._encode),
            ]
        )

    def dry_run(self) -> Summary:
        """Return the plan, with the names of the network and device that would be used."""
        self.render_warnings = self._make_renderer().warnings(self.plan.timeline)
        return self._summarise(dry_run=True)

    def run(self) -> Summary:
        """Convert the film, verify the output and give it its name; on any failure delete the output."""
        log.info("%s to %s: %s frames planned", self.plan.source, self.plan.target, self.plan.frame_count)
        self.began = time.monotonic()
        try:
            self.pipeline.run(lambda: self._report_progress("convert"), self.control.cancel.is_set)
            self.seconds |= self.pipeline.busy
            self._check_frame_count()
            self._verify()
            assert self.sink is not None
            self.sink.commit()
        except BaseException:
            self._discard_output()
            raise
        self.pipeline.join(1.0)
        self.seconds["total"] = time.monotonic() - self.began + self.seconds["plan"]
        return self._summarise(dry_run=False)

    def _pair(self, frames: Iterator[Frame]) -> Iterator[FramePair]:
        """Stage 2: combine neighbouring frames into pairs."""
        detector = CutDetector() if self.settings.cuts else None
        return frame_pairs(frames, self.plan.timeline, self.plan.gap_limit, self.plan.last_duration, detector)

    def _render(self, pairs: Iterator[FramePair]) -> Iterator[Frame]:
        """Stage 3: render the output frames of each pair."""
        renderer = self._make_renderer()
        with renderer.threads():
            for pair in pairs:
                yield from renderer.frames(pair, self.counts)
        self.render_warnings = renderer.warnings(self.plan.timeline)

    def _encode(self, frames: Iterator[Frame]) -> Iterator[None]:
        """Stage 4: write the frames. The output is opened only when the first frame arrives."""
        try:
            for frame in frames:
                if self.sink is None:
                    self.sink = open_sink(self.plan, self.settings)
                self._check_frame_time(frame)
                self.sink.write(frame)
                self.counts.written += 1
                yield
            if self.sink is not None:
                self.sink.finish()
        except BaseException:
            if self.sink is not None:
                self.sink.abort()
            raise

    def _make_renderer(self) -> Renderer:
        """Load the network and return the renderer."""
        # Imported here, so that a film that cannot be converted is refused before PyTorch is loaded.
        from midframe.conversion.render import Renderer

        film, output = self.plan.film, self.plan.format
        renderer = Renderer(self.settings, film.layout, film.colour, (output.layout, output.colour))
        self.names = renderer.names
        return renderer

    def _is_stopped(self) -> bool:
        """Return whether the source should stop reading."""
        return self.control.cancel.is_set() or self.pipeline.stop.is_set()

    def _report_progress(self, stage: Literal["convert", "verify"]) -> None:
        """Call the progress callback."""
        seconds = time.monotonic() - self.began
        self.control.progress(Progress(stage, self.counts.written, self.plan.frame_count, seconds))

    def _check_frame_time(self, frame: Frame) -> None:
        """Raise `MidframeError` if the next output frame is not at its planned time."""
        ticks, number = self.plan.ticks, self.counts.written
        if ticks is None:
            return
        if number >= len(ticks) or round(frame.time / self.plan.time_base) != ticks[number]:
            planned = f"{float(ticks[number] * self.plan.time_base):.6f} s" if number < len(ticks) else "nothing"
            raise MidframeError(f"output frame {number} came at {float(frame.time):.6f} s, {planned} was planned")

    def _check_frame_count(self) -> None:
        """Raise `InputError` if fewer or more frames were written than planned, and the film did not end early."""
        planned, report, source = self.plan.frame_count, self.report, self.plan.source
        if self.counts.written == 0:
            raise InputError(f"{source}: there is no frame in it that can be read")
        if planned is not None and self.counts.written != planned and not report.ended_early:
            raise InputError(
                f"{source}: {planned} output frames were planned, {self.counts.written} came out; "
                f"{report.frames} frames were read"
            )

    def _verify(self) -> None:
        """Verify the finished output, in a thread of its own. Raises `OutputError`."""
        began, sink = time.monotonic(), self.sink
        assert sink is not None
        self._report_progress("verify")
        run_in_thread(
            lambda stopped: verify(sink, self.plan, self.counts.written, stopped),
            lambda: self._report_progress("verify"),
            self.control.cancel.is_set,
        )
        self.seconds["verify"] = time.monotonic() - began

    def _discard_output(self) -> None:
        """Delete the unfinished output."""
        if self.pipeline.join(1.0) and self.sink is not None:
            self.sink.abort()
        # An encoder in the middle of a long call cannot be interrupted, so its file is deleted while it is still open.
        delete_part(self.plan.target)

    def _summarise(self, *, dry_run: bool) -> Summary:
        """Return the result of the conversion."""
        report, film, end = self.report, self.plan.film, self.settings.end
        self.counts.read = report.frames
        ends_early = report.ended_early or (film.ends_early and (end is None or end > film.last_time))
        return Summary(
            dry_run=dry_run,
            complete=not (report.lost or ends_early),
            plan=self.plan,
            counts=self.counts,
            report=report,
            names=self.names,
            seconds=self.seconds,
            warnings=collect_warnings(self.plan, self.settings, self.render_warnings, report),
        )
