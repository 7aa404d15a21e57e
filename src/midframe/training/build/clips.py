"""The work on one film, as it is given to worker processes: what a film is, and the windows of some of its clips.

A job is plain data and its result is bytes, so that it can be done anywhere: in another process, on another machine.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from midframe.errors import InputError
from midframe.training.build.settings import DatasetSettings
from midframe.training.data.shards import ShardSample, write_shard

Beat = Callable[[], None]
"""Called now and then by a job that is under way, so that one that hangs can be told."""

NOTES = "notes"
"""The key of what a piece says of its clips, after its samples."""


@dataclass(frozen=True)
class Look:
    """Say what a film is: gives JSON."""

    path: str
    film: str
    settings: DatasetSettings

    @property
    def result(self) -> str:
        """The name under which the result is kept."""
        return f"{self.film}.json"

    @property
    def about(self) -> str:
        return self.path

    def do(self, beat: Beat) -> bytes:
        return json.dumps(_look(self)).encode()

    def crashed(self, why: str) -> bytes:
        """The result where whoever did the job crashed each time."""
        return json.dumps({"status": "broken", "reason": why}).encode()


@dataclass(frozen=True)
class Cut:
    """Find a window in each of some clips of a film, the first being number `first`: gives a piece.

    A piece is a shard of the samples found, and after them `notes.json`: for each clip what was taken and rejected,
    and how many seconds the work took.
    """

    path: str
    film: str
    first: int
    clips: tuple[tuple[Fraction, Fraction], ...]
    settings: DatasetSettings

    @property
    def result(self) -> str:
        return f"{self.film}-{self.first:05d}.tar"

    @property
    def about(self) -> str:
        return f"{self.path}, clips {self.first} to {self.first + len(self.clips) - 1}"

    def do(self, beat: Beat) -> bytes:
        import torch

        torch.set_num_threads(1)  # there is a process for each core
        samples, clips, clock = [], [], Clock()
        for number, note, sample in _cut(self, clock):
            clips.append({"clip": number, **note})
            if sample is not None:
                samples.append(sample)
            beat()
        return _piece(samples, {"clips": clips, "seconds": clock.seconds})

    def crashed(self, why: str) -> bytes:
        return _piece([], {"clips": list(_all(self, why)), "seconds": {}})


Job = Look | Cut


class Clock:
    """Seconds spent on each kind of work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - began


def _look(job: Look) -> dict[str, Any]:
    from midframe.training.build.pictures import output_size, turned
    from midframe.video.clips import open_excerpts

    _require(job.path)
    try:
        with open_excerpts(job.path) as opened:
            film, length, start = opened.film, opened.length, opened.start
    except Exception as error:
        return {"status": "broken", "reason": _words(error, job.path)}
    shown = (film.height, film.width) if turned(film.display_matrix) else (film.width, film.height)
    width, height = output_size(*shown, job.settings.size)
    found = {
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
    why = None
    if lines < job.settings.least_lines:
        why = f"its short side has {lines} lines, {job.settings.least_lines} are needed"
    elif length is None or length <= 0:
        why = "its header does not say how long it lasts"
    elif film.interlaced:
        why = "it is interlaced"
    return {"status": "skipped", "reason": why, **found} if why else {"status": "good", **found}


def _cut(job: Cut, clock: Clock) -> Iterator[tuple[int, dict[str, Any], ShardSample | None]]:
    from midframe.training.build.windows import find_window
    from midframe.video.clips import open_excerpts

    _require(job.path)
    number = job.first
    try:
        with clock("all"), ExitStack() as stack:
            with clock("decode"):
                film = stack.enter_context(open_excerpts(job.path))
            for k, (start, end) in enumerate(job.clips):
                number = job.first + k
                key = f"{job.film}-{number:05d}"
                found = find_window(film, start, end, job.settings, clock)
                info = {"film": job.film, "name": Path(job.path).name, "clip": number, **found.info}
                yield number, found.note, ShardSample(key, found.frames, info) if found.frames else None
                number += 1
    except MemoryError:
        raise
    except Exception as error:  # whatever is wrong with a film, it is all that is lost
        for note in _all(job, _words(error, job.path)):
            if note["clip"] >= number:
                yield note.pop("clip"), note, None


def _all(job: Cut, why: str) -> Iterator[dict[str, Any]]:
    """The same note for each clip of a job."""
    for k, (start, end) in enumerate(job.clips):
        yield {"clip": job.first + k, "start": str(start), "end": str(end), "reason": why, "decoded": 0, "rejected": []}


def _piece(samples: list[ShardSample], notes: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    write_shard(buffer, [*samples, ShardSample(NOTES, (), notes)])
    return buffer.getvalue()


def _require(path: str) -> None:
    if not Path(path).is_file():
        raise InputError(f"{path} is not there any more (on every machine that builds it must be found by that name)")


def _words(error: Exception, path: str) -> str:
    """An error in one line, without the film's path."""
    text = " ".join(str(error).split()).replace(path, "").lstrip(": ")
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
