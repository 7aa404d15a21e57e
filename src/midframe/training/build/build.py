"""Building a data set: films in, shards and a manifest out.

Each film is looked at, then its clips, some at a time; what each of these jobs finds is kept in the folder's `.work`
under the film's id. When all is there the samples are put in order and written as shards. So a build that was stopped
at any instant goes on where it was, and neither that nor the number of workers can be told from the result.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from midframe.errors import InputError, OutputError, SettingError
from midframe.files import atomic_write
from midframe.training.build.assemble import Film, assemble, read_notes
from midframe.training.build.clips import Cut, Job, Look
from midframe.training.build.films import Listed, find_films, identify
from midframe.training.build.pool import Results, local_pool
from midframe.training.build.ray import ray_pool
from midframe.training.build.settings import DatasetSettings
from midframe.training.data.shards import DESCRIPTION, WORK

CLIPS_PER_JOB = 8
"""Clips of a film that are looked at by one job, and lost when it is stopped. It does not show in the result."""


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is: the stage ("films", "clips", "shards"), jobs done, samples found, and seconds so far."""

    stage: str
    done: int
    total: int
    samples: int
    seconds: float


@dataclass(frozen=True)
class BuildSummary:
    """What came of a build.

    counts: as in dataset.json: films, clips, samples, rejected windows and clips without a sample by reason, and the
    films that were left out, by name, with the reason; seconds: of the workers, by kind of work, for this data set
    altogether; wall: of this run; jobs: how many there were, `resumed` of which an earlier run had done. Of a data set
    that was there already only `counts` is known.
    """

    out: Path
    counts: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)
    wall: float = 0.0
    jobs: int = 0
    resumed: int = 0

    @property
    def decoding(self) -> float | None:
        """The share of the workers' time on clips that went into opening films, seeking and decoding."""
        return self.seconds["decode"] / self.seconds["all"] if self.seconds.get("all") else None

    def json(self) -> dict[str, Any]:
        return {
            "output": {"path": str(self.out)},
            **self.counts,
            "seconds": {"wall": round(self.wall, 3), **{k: round(v, 3) for k, v in sorted(self.seconds.items())}},
            "decoding_share": None if self.decoding is None else round(self.decoding, 4),
            "jobs": {"all": self.jobs, "done_before": self.resumed},
        }


def build_dataset(
    films: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: DatasetSettings | None = None,
    *,
    exclude: Sequence[str] = (),
    workers: int | None = None,
    ray: str | None = None,
    progress: Callable[[BuildProgress], None] = lambda _: None,
) -> BuildSummary:
    """Build a data set from films in the folder `out`, or go on with one.

    films: files, and folders that are searched; exclude: patterns of names to leave out; workers: processes (a core
    each where None); ray: address of a Ray cluster that does the work instead. Films that are broken are left out and
    named in the summary. The result depends on nothing but the films and the settings.

    Raises `InputError` (no such film, none of use), `SettingError` (a folder built from other films or by other
    settings), `OutputError`, `DeviceError` (no Ray) and `WorkerLostError`. What was done until then is kept.
    """
    settings, out = settings or DatasetSettings(), Path(out)
    began = time.monotonic()
    listed = [identify(path) for path in find_films(films, exclude)]
    chosen, left_out = _sorted_out(listed)
    if not chosen:
        raise InputError(f"none of {len(listed)} films can be read: {left_out[0].path.name}: {left_out[0].why}")
    if (out / DESCRIPTION).exists():
        counts = _already_built(out, settings, chosen)
        shutil.rmtree(out / WORK, ignore_errors=True)
        return BuildSummary(out, counts, wall=time.monotonic() - began)
    with _work_folder(out, settings) as work:
        pool = local_pool(workers or _cores()) if ray is None else ray_pool(ray, workers)
        run = _Run(work, progress, began)
        looks = [Look(str(film.path), film.film, settings) for film in chosen]
        with pool as do:
            run.through("films", looks, do)
            facts = {look.film: json.loads((work / look.result).read_bytes()) for look in looks}
            cuts = {look.film: list(_cuts(look, facts[look.film])) for look in looks}
            run.through("clips", [cut for those in cuts.values() for cut in those], do)
        run.say("shards", 0, 1)
        found = [
            Film(film.film, film.path.name, facts[film.film], tuple(work / cut.result for cut in cuts[film.film]))
            for film in chosen
        ]
        described = assemble(out, work, settings, found, left_out)
        run.say("shards", 1, 1)
    shutil.rmtree(out / WORK, ignore_errors=True)
    wall = time.monotonic() - began
    return BuildSummary(out, described["counts"], run.seconds, wall, run.jobs, run.resumed)


class _Run:
    """The jobs of one run: what was done before, what is done now, what was found."""

    def __init__(self, work: Path, progress: Callable[[BuildProgress], None], began: float) -> None:
        self.work = work
        self.progress = progress
        self.began = began
        self.seconds: Counter[str] = Counter()
        self.samples = 0
        self.jobs = 0
        self.resumed = 0

    def through(self, stage: str, jobs: Sequence[Job], do: Callable[[Iterable[Job]], Results]) -> None:
        """Do the jobs whose results are not there yet."""
        missing = [job for job in jobs if not (self.work / job.result).is_file()]
        before = len(jobs) - len(missing)
        self.jobs += len(jobs)
        self.resumed += before
        for job in jobs:
            if isinstance(job, Cut) and (self.work / job.result).is_file():
                self.count(job)
        self.say(stage, before, len(jobs))
        for number, (job, result) in enumerate(do(missing), start=before + 1):
            with atomic_write(self.work / job.result, part=self.work / f"{job.result}.part") as file:
                file.write(result)
            if isinstance(job, Cut):
                self.count(job)
            self.say(stage, number, len(jobs))

    def count(self, job: Cut) -> None:
        notes = read_notes(self.work / job.result)
        self.seconds.update(notes["seconds"])
        self.samples += sum(clip["reason"] is None for clip in notes["clips"])

    def say(self, stage: str, done: int, total: int) -> None:
        self.progress(BuildProgress(stage, done, total, self.samples, time.monotonic() - self.began))


def _sorted_out(listed: Sequence[Listed]) -> tuple[list[Listed], list[Listed]]:
    """(the films in the order of their ids, each once; those that cannot be read, and repetitions)."""
    chosen: dict[str, Listed] = {}
    left_out = []
    for film in sorted(listed, key=lambda film: (film.film, film.path.name, str(film.path))):
        if film.film and film.film not in chosen:
            chosen[film.film] = film
        else:
            left_out.append(film if film.why else replace(film, why=f"the same as {chosen[film.film].path.name}"))
    return list(chosen.values()), left_out


def _cuts(look: Look, facts: Mapping[str, Any]) -> Iterator[Cut]:
    """The clips of a film that is of use, in jobs of some each."""
    from midframe.training.build.select import plan_clips

    if facts["status"] != "good":
        return
    settings = look.settings
    clips = plan_clips(Fraction(facts["start"]), Fraction(facts["length"]), settings.clips, settings.seconds)
    for first in range(0, len(clips), CLIPS_PER_JOB):
        yield Cut(look.path, look.film, first, tuple(clips[first : first + CLIPS_PER_JOB]), settings)


def _already_built(out: Path, settings: DatasetSettings, chosen: Sequence[Listed]) -> Mapping[str, Any]:
    """The counts of a finished data set; raises `SettingError` where it is another one."""
    try:
        described = json.loads((out / DESCRIPTION).read_bytes())
        there, films = described["settings"], set(described["films"])
        counts: Mapping[str, Any] = described["counts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out / DESCRIPTION} is no description of a data set: {error}") from None
    _same_settings(out, there, settings)
    if films != {film.film for film in chosen}:
        raise SettingError(
            f"{out} holds a data set of {len(films)} films, not of these {len(chosen)}; give another folder"
        )
    return counts


def _same_settings(out: Path, there: Mapping[str, Any], settings: DatasetSettings) -> None:
    wanted = settings.json()
    other = [
        f"{k} {there.get(k)} there, {wanted.get(k)} here" for k in {**wanted, **there} if there.get(k) != wanted.get(k)
    ]
    if other:
        raise SettingError(f"{out} holds a data set with other settings ({'; '.join(other)}); give another folder")


@contextmanager
def _work_folder(out: Path, settings: DatasetSettings) -> Iterator[Path]:
    """The folder of an unfinished build, which no other process uses meanwhile. Raises `OutputError`."""
    work = out / WORK
    noted = work / "settings.json"
    try:
        if not work.is_dir() and out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out} is not empty and holds no data set; give another folder")
        work.mkdir(parents=True, exist_ok=True)
        with (work / "lock").open("w") as lock:
            if not _locked(lock):
                raise OutputError(f"{out} is being built by another process")
            if noted.is_file():
                _same_settings(out, json.loads(noted.read_bytes()), settings)
            else:
                with atomic_write(noted, part=work / f"{noted.name}.part") as file:
                    file.write(json.dumps(settings.json()).encode())
            yield work
    except OSError as error:
        raise OutputError(f"the data set cannot be written to {out}: {error.strerror or error}") from None


def _locked(file: IO[str]) -> bool:
    """Lock a file until it is closed, where the system can; False where another process has."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
