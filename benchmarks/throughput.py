"""How well a conversion overlaps its stages: wall time against the slowest stage alone and the processor time it takes.

    python benchmarks/throughput.py FILM [--seconds 5] [--runs 3] [--out benchmarks/results/throughput.json]

The film is converted with the averaging network and the default encoder. In each run every stage is also timed alone:
decoding, making with all frames in memory, encoding with all frames in memory. The aim: wall time at most
1.15 x max(slowest stage alone, total processor seconds / cores). Each figure is the best of the runs: other work on the
machine can only lengthen it, so that the lowest ratio of a single run would be the one whose bound was disturbed most.
Where other processes wanted the cores before the first run, the figures are stored but the aim is not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from midframe.conversion import run_conversion
from midframe.conversion.output import open_sink
from midframe.conversion.pairs import frame_pairs
from midframe.conversion.plan import make_plan
from midframe.conversion.render import Maker
from midframe.conversion.settings import Settings
from midframe.conversion.source import open_source
from midframe.conversion.summary import Counts
from midframe.video.cuts import CutDetector
from midframe.video.reader import ReadReport

AIM = 1.15


@dataclass(frozen=True)
class Run:
    """Seconds of one run, all measured one after the other."""

    decode: float
    make: float
    encode: float
    wall: float
    cpu: float
    load: float
    """Processes that wanted a core in the minute before: of the first run, those of others."""


def judge(runs: list[Run]) -> dict[str, Any]:
    """The ratio from the best of each figure; `reached` is None where the machine was not quiet."""
    stages = {name: min(getattr(run, name) for run in runs) for name in ("decode", "make", "encode")}
    cpu = min(run.cpu for run in runs)
    bound = max(*stages.values(), cpu / cores())
    ratio = min(run.wall for run in runs) / bound
    quiet = runs[0].load < cores()
    return {
        "bound": round(bound, 3),
        "ratio": round(ratio, 3),
        "quiet": quiet,
        "reached": ratio <= AIM if quiet else None,
    }


def measure(film: Path, settings: Settings, folder: Path) -> Run:
    """Time each stage alone, then the whole."""
    load = os.getloadavg()[0]
    opened = open_source(str(film), settings)
    plan = make_plan(opened.film, str(film), str(folder / "alone.mp4"), settings)

    began = time.perf_counter()
    frames = list(opened.read(ReadReport(), lambda: False))
    decode = time.perf_counter() - began

    began = time.perf_counter()
    maker = Maker(settings, opened.film.layout, opened.film.colour, (plan.format.layout, plan.format.colour))
    steps = frame_pairs(iter(frames), plan.timeline, plan.gap_limit, plan.last_duration, CutDetector())
    made = [frame for pair in steps for frame in maker.frames(pair, Counts())]
    make = time.perf_counter() - began

    began = time.perf_counter()
    sink = open_sink(plan, settings)
    for frame in made:
        sink.write(frame)
    sink.finish()
    encode = time.perf_counter() - began
    sink.abort()
    del frames, made

    began, busy = time.perf_counter(), cpu_seconds()
    run_conversion(film, folder / "whole.mp4", settings)
    return Run(decode, make, encode, time.perf_counter() - began, cpu_seconds() - busy, load)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cores() -> int:
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ": unknown")
    return {"processor": model.partition(":")[2].strip(), "cores": cores(), "system": platform.system()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--seconds", type=Fraction, default=Fraction(5))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "throughput.json")
    given = parser.parse_args()
    settings = Settings(network="average", duration=given.seconds, overwrite=True, device="cpu")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.runs):
            run = measure(given.film, settings, Path(folder))
            print(run)
            runs.append(run)
    result = {
        "about": "seconds, best of the runs each; ratio = wall / max(slowest stage alone, processor seconds / cores)",
        "command": f"python benchmarks/throughput.py {given.film.name} --seconds {given.seconds} --runs {given.runs}",
        "machine": machine(),
        "aim": AIM,
        **judge(runs),
        "runs": [{k: round(v, 3) for k, v in asdict(run).items()} for run in runs],
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(judge(runs), given.out)


if __name__ == "__main__":
    main()
