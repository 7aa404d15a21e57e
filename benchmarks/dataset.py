"""Builds a data set of real films: once, once more, killed at random instants, and robbed of its workers.

    python benchmarks/dataset.py [FILMS] [--workers 2] [--kills 6] [--out benchmarks/results/dataset.json]

FILMS is ../shared/data/films unless given. Stored are the triplets, the minutes and the share of them spent decoding of
the first build; whether a second one (another number of workers), one that SIGKILL ended at random instants and that
was started again each time, and one whose workers were killed at random instants gave the same bytes in every file; and
whether any process of a killed build was left. Needs /proc.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import Any

from throughput import machine

ROOT = Path(__file__).resolve().parents[1]


def start(films: Path, out: Path, workers: int, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "midframe", "dataset", "build", str(films), "--out", str(out), "--json", "--quiet"]
    return subprocess.Popen([*command, "--workers", str(workers), *options], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the build ended with {process.returncode}: {output}")
    return dict(json.loads(output))


def build(films: Path, out: Path, workers: int) -> tuple[dict[str, Any], float, float]:
    """What a build says, its seconds, and the processor seconds of it and its workers."""
    began, busy = time.monotonic(), processor_seconds()
    said = finish(start(films, out, workers))
    return said, time.monotonic() - began, processor_seconds() - busy


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file that is in a folder, hidden ones too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def children(process: int) -> list[int]:
    """The workers of a build: its children that run Python code (and not the tracker of multiprocessing)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            words = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != "Z" and b"spawn_main" in words:
            found.append(int(status.parent.name))
    return found


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def killed_build(
    films: Path, out: Path, workers: int, kills: int, seconds: float, rng: random.Random
) -> dict[str, Any]:
    """A build that is killed at random instants, and goes on each time."""
    instants, left, resumed = [], 0, 0
    while True:
        process = start(films, out, workers)
        wait = rng.uniform(1.0, 1.0 + 1.5 * seconds / max(kills, 1))
        try:
            if len(instants) == kills:
                result = finish(process)
                break
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            there = children(process.pid)
            process.kill()
            process.communicate()
            instants.append(round(wait, 2))
            until = time.monotonic() + 30
            while any(map(running, there)) and time.monotonic() < until:
                time.sleep(0.1)
            left += sum(map(running, there))
            continue
        result = finish(process)
        break
    resumed = result["jobs"]["done_before"]
    return {"killed_after_seconds": instants, "workers_left": left, "jobs_done_before_the_last_start": resumed}


def robbed_build(
    films: Path, out: Path, workers: int, kills: int, seconds: float, rng: random.Random
) -> dict[str, Any]:
    """A build of which one worker is killed now and then."""
    process = start(films, out, workers)
    robbed = 0
    while process.poll() is None and robbed < kills:
        time.sleep(rng.uniform(0, 1.5 * seconds / kills))
        if victims := children(process.pid):
            os.kill(rng.choice(victims), signal.SIGKILL)
            robbed += 1
    finish(process)
    return {"workers_killed": robbed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, nargs="?", default=ROOT.parent / "shared/data/films")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/dataset.json")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        out = [Path(place) / name for name in ("first", "second", "killed", "robbed")]
        first, seconds, busy = build(given.films, out[0], given.workers)
        print(f"built in {seconds:.0f} s", flush=True)
        truth = contents(out[0])
        _, again, busy_again = build(given.films, out[1], given.workers + 1)
        print(f"and again in {again:.0f} s", flush=True)
        killed = killed_build(given.films, out[2], given.workers, given.kills, min(seconds, again), rng)
        print(killed, flush=True)
        robbed = robbed_build(given.films, out[3], given.workers, given.kills, min(seconds, again), rng)
        print(robbed, flush=True)
        same = {folder.name: contents(folder) == truth for folder in out[1:]}
        size = sum(path.stat().st_size for path in out[0].glob("*.tar"))
    result = {
        "about": "builds of one data set; `same` says which gave the same bytes in every file as the first",
        "command": f"python benchmarks/dataset.py --workers {given.workers} --kills {given.kills} --seed {given.seed}",
        "machine": {**machine(), "load_before": round(load, 2)},
        "workers": given.workers,
        "triplets": sum(first["samples"].values()),
        "minutes": round(seconds / 60, 2),
        "processor_minutes": round(busy / 60, 2),
        "second_build": {
            "workers": given.workers + 1,
            "minutes": round(again / 60, 2),
            "processor_minutes": round(busy_again / 60, 2),
        },
        "decoding_fraction": first["decoding_fraction"],
        "megabytes": round(size / 1e6, 1),
        "films": first["films"],
        "clips": first["clips"],
        "samples": first["samples"],
        "frames_decoded": first["frames_decoded"],
        "rejected_windows": first["rejected_windows"],
        "clips_without_sample": first["clips_without_sample"],
        "left_out": first["left_out"],
        "seconds": first["seconds"],
        "same": same,
        "killed": killed,
        "robbed": robbed,
    }
    given.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
