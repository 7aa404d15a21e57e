"""The jobs of a build: probe one film, or find the samples in some clips of a film.

A job is plain data and its result is bytes, so that any worker can run it: another process or another machine. PyAV
and torch are imported only when a job runs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from midframe.errors import InputError
from midframe.training.build.clips import clip_report, plan_clips
from midframe.training.build.settings import DatasetSettings
from midframe.training.build.stopwatch import Stopwatch
from midframe.training.data.shards import ShardSample, write_shard

Heartbeat = Callable[[], None]
"""Called by a running job after each clip, so that a slow worker can be told apart from one that hangs."""

REPORT_KEY = "report"
"""The key under which the result of a `ClipJob` holds its report, after the samples."""


@dataclass(frozen=True)
class ProbeJob:
    """Find out whether a film can be used; the result is JSON with its `status` and properties.

    status: "good"; "skipped" with a `reason` (too small, interlaced, unknown duration); "broken" with a `reason`.
    """

    path: str
    film_id: str
    settings: DatasetSettings

    @property
    def result_name(self) -> str:
        """Return the file name under which the result is stored."""
        return f"{self.film_id}.json"

    @property
    def description(self) -> str:
        """Return what the job works on, for messages."""
        return self.path

    def run(self, heartbeat: Heartbeat) -> bytes:
        """Do the job and return its result."""
        return json.dumps(_probe(self)).encode()

    def crash_result(self, reason: str) -> bytes:
        """Return the result of a job on which every worker crashed."""
        return json.dumps({"status": "broken", "reason": reason}).encode()


@dataclass(frozen=True)
class ClipJob:
    """Search consecutive clips of a film for one sample each; the result is a shard.

    The shard holds the samples and then, under `REPORT_KEY`, a report: `clips`, one entry a clip (see `clip_report`),
    and `seconds`, the time by kind of work.
    """

    path: str
    film_id: str
    first: int
    """Number of the first clip of the job among all clips of the film."""
    clips: tuple[tuple[Fraction, Fraction], ...]
    """(start, end) of each clip in seconds of the film's time."""
    settings: DatasetSettings

    @property
    def result_name(self) -> str:
        """Return the file name under which the result is stored."""
        return f"{self.film_id}-{self.first:05d}.tar"

    @property
    def description(self) -> str:
        """Return what the job works on, for messages."""
        return f"{self.path}, clips {self.first} to {self.first + len(self.clips) - 1}"

    def run(self, heartbeat: Heartbeat) -> bytes:
        """Do the job and return its result."""
        import torch

        torch.set_num_threads(1)  # there is a process for each core
        samples, reports, stopwatch = [], [], Stopwatch()
        for report, sample in _search_clips(self, stopwatch):
            reports.append(report)
            if sample is not None:
                samples.append(sample)
            heartbeat()
        return _encode_clip_result(samples, reports, stopwatch.seconds)

    def crash_result(self, reason: str) -> bytes:
        """Return the result of a job on which every worker crashed: no samples, the reason at every clip."""
        return _encode_clip_result([], [_failed_clip(self, k, reason) for k in range(len(self.clips))], {})


Job = ProbeJob | ClipJob


def clip_jobs(probe: ProbeJob, properties: Mapping[str, Any], clips_per_job: int) -> Iterator[ClipJob]:
    """Yield the jobs that search a probed film's clips, in order; none if the film cannot be used.

    properties: the result of the `ProbeJob`.
    """
    if properties["status"] != "good":
        return
    settings = probe.settings
    start, length = Fraction(properties["start"]), Fraction(properties["length"])
    clips = plan_clips(start, length, settings.clips, settings.seconds)
    for first in range(0, len(clips), clips_per_job):
        yield ClipJob(probe.path, probe.film_id, first, tuple(clips[first : first + clips_per_job]), settings)


def _probe(job: ProbeJob) -> dict[str, Any]:
    """Return the film's status and properties."""
    from midframe.training.build.frames import output_size, swaps_axes
    from midframe.video.clips import open_clip_reader

    _require_file(job.path)
    try:
        with open_clip_reader(job.path) as opened:
            film, length, start = opened.film, opened.duration, opened.start
    except Exception as error:
        return {"status": "broken", "reason": _one_line(error, job.path)}
    shown_size = (film.height, film.width) if swaps_axes(film.display_matrix) else (film.width, film.height)
    width, height = output_size(*shown_size, job.settings.size)
    properties = {
        "codec": film.codec,
        "coded": [film.width, film.height],
        "width": width,
        "height": height,
        "rate": str(film.rate),
        "start": str(start),
        "length": None if length is None else str(length),
        "colour": film.colour.describe(),
    }
    lines = min(film.width, film.height)
    reason = None
    if lines < job.settings.least_lines:
        reason = f"its short side has {lines} lines, {job.settings.least_lines} are needed"
    elif length is None or length <= 0:
        reason = "its header does not say how long it lasts"
    elif film.interlaced:
        reason = "it is interlaced"
    return {"status": "skipped", "reason": reason, **properties} if reason else {"status": "good", **properties}


def _search_clips(job: ClipJob, stopwatch: Stopwatch) -> Iterator[tuple[dict[str, Any], ShardSample | None]]:
    """Yield the report of each clip of a job, and its sample if there is one.

    If the film cannot be read any further, the remaining clips are reported with the error as their reason.
    """
    from midframe.training.build.windows import find_window
    from midframe.video.clips import open_clip_reader

    _require_file(job.path)
    done = 0
    try:
        with stopwatch("all"), ExitStack() as stack:
            with stopwatch("decode"):
                film = stack.enter_context(open_clip_reader(job.path))
            for start, end in job.clips:
                number = job.first + done
                found = find_window(film, start, end, job.settings, stopwatch)
                sample = None
                if found.frames:
                    info = {"film_id": job.film_id, "name": Path(job.path).name, "clip": number, **found.info}
                    sample = ShardSample(f"{job.film_id}-{number:05d}", found.frames, info)
                yield {"clip": number, **found.report}, sample
                done += 1
    except MemoryError:
        raise
    except Exception as error:  # a fault of one film must not end the build
        for k in range(done, len(job.clips)):
            yield _failed_clip(job, k, _one_line(error, job.path)), None


def _failed_clip(job: ClipJob, index: int, reason: str) -> dict[str, Any]:
    """Return the report of a clip of a job that could not be searched."""
    return {"clip": job.first + index, **clip_report(*job.clips[index]), "reason": reason}


def _encode_clip_result(
    samples: Sequence[ShardSample], clips: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]
) -> bytes:
    """Return the result of a `ClipJob`."""
    buffer = io.BytesIO()
    write_shard(buffer, [*samples, ShardSample(REPORT_KEY, (), {"clips": clips, "seconds": seconds})])
    return buffer.getvalue()


def _require_file(path: str) -> None:
    """Raise `InputError` if the film is not there."""
    if not Path(path).is_file():
        raise InputError(f"{path} is not there any more (on every machine that builds it must be found by that name)")


def _one_line(error: Exception, path: str) -> str:
    """Return an error as one line, without the film's path."""
    text = " ".join(str(error).split()).replace(path, "").lstrip(": ")
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
