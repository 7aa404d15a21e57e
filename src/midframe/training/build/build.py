"""The build of a data set from films: shards and a manifest.

First a `ProbeJob` for each film, then the `ClipJob`s of the films that can be used. The result of each job is stored in
the data set's folder `.work`. When all results are there, the samples are put in order and written as shards. A build
that was stopped at any moment therefore continues where it was, and its bytes depend neither on that nor on the number
of workers.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from midframe.errors import InputError
from midframe.files import atomic_write
from midframe.training.build.assemble import SearchedFilm, assemble, read_clip_report
from midframe.training.build.films import ListedFilm, find_films, identify_film
from midframe.training.build.jobs import ClipJob, Job, ProbeJob, clip_jobs
from midframe.training.build.pool import JobResults, local_pool
from midframe.training.build.ray import ray_pool
from midframe.training.build.settings import DatasetSettings
from midframe.training.build.work_folder import finished_counts, locked_work_folder
from midframe.training.data.shards import DESCRIPTION, WORK

CLIPS_PER_JOB = 8
"""Clips of a film in one job, and the most that is searched again after a stop. The data set does not depend on it."""


@dataclass(frozen=True)
class BuildProgress:
    """How far a build has come."""

    stage: str
    """"films" (probing), "clips" (searching) or "shards" (writing)."""
    done: int
    """Jobs of the stage that are done."""
    total: int
    """Jobs of the stage."""
    samples: int
    """Samples found so far."""
    seconds: float
    """Seconds since the start of this run."""


@dataclass(frozen=True)
class BuildSummary:
    """The result of a build. If the data set was finished before, only `out`, `counts` and `wall_seconds` are set."""

    out: Path
    """The data set's folder."""
    counts: Mapping[str, Any]
    """As in dataset.json: films, clips, samples, rejected windows and clips without a sample by reason, films left
    out."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the workers by kind of work, of all runs of this build."""
    wall_seconds: float = 0.0
    """Seconds of this run."""
    jobs: int = 0
    """Number of jobs of the build."""
    resumed_jobs: int = 0
    """How many of these an earlier run had done."""

    @property
    def decoding_fraction(self) -> float | None:
        """Return the fraction of the time on clips spent on opening films, seeking and decoding; None if unknown."""
        return self.seconds["decode"] / self.seconds["all"] if self.seconds.get("all") else None

    def json(self) -> dict[str, Any]:
        """Return the summary as plain data for JSON."""
        seconds = {"wall": self.wall_seconds, **dict(sorted(self.seconds.items()))}
        return {
            "output": {"path": str(self.out)},
            **self.counts,
            "seconds": {kind: round(value, 3) for kind, value in seconds.items()},
            "decoding_fraction": None if self.decoding_fraction is None else round(self.decoding_fraction, 4),
            "jobs": {"all": self.jobs, "done_before": self.resumed_jobs},
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
    """Build a data set from films in the folder `out`, or continue an unfinished build.

    films: files, and folders to search. exclude: file name patterns of films to leave out. workers: number of
    processes; None uses one for each core. ray: address of a Ray cluster that runs the jobs instead. progress: called
    after each job. Films that cannot be read are left out and named in the summary. The data set depends only on the
    films and the settings.

    Raises `InputError` (a film does not exist, or none gives a sample), `SettingError` (the folder holds a data set of
    other films or settings), `OutputError`, `DeviceError` (Ray is missing) and `WorkerLostError`. Results of jobs that
    were done before the error are kept.
    """
    settings, out = settings or DatasetSettings(), Path(out)
    began = time.monotonic()
    listed = [identify_film(path) for path in find_films(films, exclude)]
    chosen, left_out = _drop_duplicates(listed)
    if not chosen:
        raise InputError(f"none of {len(listed)} films can be read: {left_out[0].path.name}: {left_out[0].problem}")
    if (out / DESCRIPTION).exists():
        counts = finished_counts(out, settings, {film.film_id for film in chosen})
        shutil.rmtree(out / WORK, ignore_errors=True)
        return BuildSummary(out, counts, wall_seconds=time.monotonic() - began)
    with locked_work_folder(out, settings) as work:
        pool = local_pool(workers or _available_cores()) if ray is None else ray_pool(ray, workers)
        with pool as run_jobs:
            runner = _JobRunner(work, run_jobs, progress, began)
            searched = _search_films(chosen, settings, runner)
        runner.report("shards", 0, 1)
        description = assemble(out, work, settings, searched, left_out)
        runner.report("shards", 1, 1)
    shutil.rmtree(out / WORK, ignore_errors=True)
    wall_seconds = time.monotonic() - began
    return BuildSummary(
        out, description["counts"], runner.seconds, wall_seconds, runner.job_count, runner.resumed_count
    )


class _JobRunner:
    """Runs the jobs whose results are not stored yet, stores their results and reports progress."""

    def __init__(
        self,
        work: Path,
        run_jobs: Callable[[Iterable[Job]], JobResults],
        progress: Callable[[BuildProgress], None],
        began: float,
    ) -> None:
        self.work = work
        self.run_jobs = run_jobs
        self.progress = progress
        self.began = began
        self.seconds: Counter[str] = Counter()
        """Seconds of the workers by kind of work."""
        self.sample_count = 0
        self.job_count = 0
        self.resumed_count = 0
        """Jobs whose results an earlier run stored."""

    def run(self, stage: str, jobs: Sequence[Job]) -> None:
        """Run all jobs of a stage that have no stored result."""
        missing = [job for job in jobs if not (self.work / job.result_name).is_file()]
        missing_names = {job.result_name for job in missing}
        resumed = len(jobs) - len(missing)
        self.job_count += len(jobs)
        self.resumed_count += resumed
        for job in jobs:
            if job.result_name not in missing_names:
                self._count(job)
        self.report(stage, resumed, len(jobs))
        for done, (job, result) in enumerate(self.run_jobs(missing), start=resumed + 1):
            with atomic_write(self.work / job.result_name, part=self.work / f"{job.result_name}.part") as file:
                file.write(result)
            self._count(job)
            self.report(stage, done, len(jobs))

    def _count(self, job: Job) -> None:
        """Add the samples and seconds of a clip job's stored result to the totals."""
        if isinstance(job, ClipJob):
            report = read_clip_report(self.work / job.result_name)
            self.seconds.update(report["seconds"])
            self.sample_count += sum(clip["reason"] is None for clip in report["clips"])

    def report(self, stage: str, done: int, total: int) -> None:
        """Call the progress callback."""
        self.progress(BuildProgress(stage, done, total, self.sample_count, time.monotonic() - self.began))


def _search_films(films: Sequence[ListedFilm], settings: DatasetSettings, runner: _JobRunner) -> list[SearchedFilm]:
    """Run all jobs of the films, and return the films with the files of their results."""
    probes = [ProbeJob(str(film.path), film.film_id, settings) for film in films]
    runner.run("films", probes)
    properties = {probe.film_id: json.loads((runner.work / probe.result_name).read_bytes()) for probe in probes}
    jobs = {probe.film_id: list(clip_jobs(probe, properties[probe.film_id], CLIPS_PER_JOB)) for probe in probes}
    runner.run("clips", [job for jobs_of_film in jobs.values() for job in jobs_of_film])
    return [
        SearchedFilm(
            film.film_id,
            film.path.name,
            properties[film.film_id],
            tuple(runner.work / job.result_name for job in jobs[film.film_id]),
        )
        for film in films
    ]


def _drop_duplicates(listed: Sequence[ListedFilm]) -> tuple[list[ListedFilm], list[ListedFilm]]:
    """Return the films in the order of their ids, each once, and the films left out: unreadable ones and duplicates."""
    chosen: dict[str, ListedFilm] = {}
    left_out = []
    for film in sorted(listed, key=lambda film: (film.film_id, film.path.name, str(film.path))):
        if film.film_id and film.film_id not in chosen:
            chosen[film.film_id] = film
        elif film.problem:
            left_out.append(film)
        else:
            left_out.append(replace(film, problem=f"the same as {chosen[film.film_id].path.name}"))
    return list(chosen.values()), left_out


def _available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
