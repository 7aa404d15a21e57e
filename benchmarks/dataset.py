"""Measure a data set build of real films, and check that its bytes survive kills of the build and of its workers.

    python benchmarks/dataset.py [FILMS] [--workers 2] [--kills 6] [--out benchmarks/results/dataset.json]

FILMS is ../shared/data/films by default. Four data sets are built:

- two without interruption, with different numbers of workers;
- one that is killed by SIGKILL at random moments and started again each time;
- one whose workers are killed at random moments.

The result holds the number of samples, the time and the fraction of it spent on decoding, all of the first build. It
also tells whether the other three have the same bytes in every file, and how many workers kept running after a build
was killed. Needs /proc.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common


def main() -> None:
    """Build the data sets, compare them, and write the result file."""
    parser = common.parser(__doc__, "dataset")
    parser.add_argument("films", type=Path, nargs="?", default=common.ROOT.parent / "shared/data/films")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=6, help="largest number of kills, of the build and of workers")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="seed of the moments of the kills")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    measured_on = common.machine()
    with tempfile.TemporaryDirectory() as temporary:
        out = [Path(temporary) / name for name in ("first", "second", "killed", "workers_killed")]
        first = measure_build(options.films, out[0], options.workers)
        print(f"built in {first.seconds:.0f} s", flush=True)
        second = measure_build(options.films, out[1], options.workers + 1)
        print(f"and again in {second.seconds:.0f} s", flush=True)
        seconds = min(first.seconds, second.seconds)
        killed = build_with_kills(options.films, out[2], options.workers, options.kills, seconds, rng)
        print(killed, flush=True)
        workers_killed = build_with_worker_kills(options.films, out[3], options.workers, options.kills, seconds, rng)
        print(workers_killed, flush=True)
        expected = hash_files(out[0])
        figures = {
            **summarise(first, second, options.workers, sum(path.stat().st_size for path in out[0].glob("*.tar"))),
            "same_bytes_as_first": {folder.name: hash_files(folder) == expected for folder in out[1:]},
            "seed": options.seed,
            "killed": killed,
            "workers_killed": workers_killed,
        }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    about = "builds of one data set: figures of the first, and whether each other gave the same bytes in every file"
    common.write_result(options, about, figures, measured_on)


def start_build(films: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    """Start `midframe dataset build` in the background."""
    command = [sys.executable, "-m", "midframe", "dataset", "build", str(films), "--out", str(out), "--json", "--quiet"]
    return subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True)


def finish_build(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a build and return its JSON summary."""
    output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the build ended with {process.returncode}: {output}")
    return dict(json.loads(output))


@dataclass(frozen=True)
class MeasuredBuild:
    """An uninterrupted build."""

    summary: dict[str, Any]
    """The JSON summary of `midframe dataset build`."""
    seconds: float
    """Wall time."""
    cpu_seconds: float
    """CPU time of the build and its workers."""


def measure_build(films: Path, out: Path, workers: int) -> MeasuredBuild:
    """Build a data set without interruption."""
    began, cpu_before = time.monotonic(), children_cpu_seconds()
    summary = finish_build(start_build(films, out, workers))
    return MeasuredBuild(summary, time.monotonic() - began, children_cpu_seconds() - cpu_before)


def children_cpu_seconds() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder, hidden ones too, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def worker_ids(build_id: int) -> list[int]:
    """Return the process ids of a build's workers: its children that run Python code.

    The resource tracker of multiprocessing is a child as well, but no worker.
    """
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == build_id and fields[0] != "Z" and b"spawn_main" in command:
            found.append(int(status.parent.name))
    return found


def is_running(process_id: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def build_with_kills(
    films: Path, out: Path, workers: int, kills: int, seconds: float, rng: random.Random
) -> dict[str, Any]:
    """Build a data set, killing the build up to `kills` times at random moments and starting it again.

    seconds: duration of an uninterrupted build.
    """
    kill_times: list[float] = []
    workers_left = 0
    while True:
        process = start_build(films, out, workers)
        wait = rng.uniform(1.0, 1.0 + 1.5 * seconds / max(kills, 1))
        if len(kill_times) == kills:
            break
        try:
            process.wait(timeout=wait)
            break
        except subprocess.TimeoutExpired:
            ids = worker_ids(process.pid)
            process.kill()
            process.communicate()
            kill_times.append(round(wait, 2))
            deadline = time.monotonic() + 30
            while any(map(is_running, ids)) and time.monotonic() < deadline:
                time.sleep(0.1)
            workers_left += sum(map(is_running, ids))
    summary = finish_build(process)
    return {
        "killed_after_seconds": kill_times,
        "workers_left": workers_left,
        "jobs_done_before_the_last_start": summary["jobs"]["done_before"],
    }


def build_with_worker_kills(
    films: Path, out: Path, workers: int, kills: int, seconds: float, rng: random.Random
) -> dict[str, Any]:
    """Build a data set, killing one of its workers up to `kills` times at random moments.

    seconds: duration of an uninterrupted build.
    """
    process = start_build(films, out, workers)
    killed = 0
    while process.poll() is None and killed < kills:
        time.sleep(rng.uniform(0, 1.5 * seconds / kills))
        if ids := worker_ids(process.pid):
            os.kill(rng.choice(ids), signal.SIGKILL)
            killed += 1
    finish_build(process)
    return {"kills": killed}


def summarise(first: MeasuredBuild, second: MeasuredBuild, workers: int, size: int) -> dict[str, Any]:
    """Return the measurements of the uninterrupted builds. size: total size of the first one's shards in bytes."""
    summary = first.summary
    summary_keys = (
        "films",
        "clips",
        "samples",
        "frames_decoded",
        "rejected_windows",
        "clips_without_sample",
        "left_out",
    )
    return {
        "workers": workers,
        "triplets": sum(summary["samples"].values()),
        "minutes": round(first.seconds / 60, 2),
        "cpu_minutes": round(first.cpu_seconds / 60, 2),
        "second_build": {
            "workers": workers + 1,
            "minutes": round(second.seconds / 60, 2),
            "cpu_minutes": round(second.cpu_seconds / 60, 2),
        },
        "decoding_fraction": summary["decoding_fraction"],
        "megabytes": round(size / 1e6, 1),
        **{name: summary[name] for name in (*summary_keys, "seconds")},
    }


if __name__ == "__main__":
    main()
