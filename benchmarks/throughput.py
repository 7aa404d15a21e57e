"""Measure how well a conversion overlaps its stages.

    python benchmarks/throughput.py FILM [--seconds 5] [--runs 3] [--out benchmarks/results/throughput.json]

The film is converted with the averaging network and the default encoder. In each run every stage is also timed alone,
with its input in memory: decoding, rendering and encoding. The aim is a wall time of at most 1.15 times the bound. The
bound is the time of the slowest stage alone, or the processor time divided by the number of cores if that is greater.

Each figure is the best of all runs, because other work on the machine can only lengthen it. If other processes kept the
cores busy before the first run, the figures are stored but not compared with the aim.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from common import cores, machine, parser, write_result

from midframe.conversion import run_conversion
from midframe.conversion.output import open_sink
from midframe.conversion.pairs import frame_pairs
from midframe.conversion.plan import make_plan
from midframe.conversion.render import Renderer
from midframe.conversion.settings import Settings
from midframe.conversion.source import open_source
from midframe.conversion.summary import Counts
from midframe.video.cuts import CutDetector
from midframe.video.reader import ReadReport

AIM = 1.15
"""The largest acceptable ratio of the wall time to the bound."""


@dataclass(frozen=True)
class Run:
    """The figures of one run, in seconds."""

    decode: float
    """Wall time of decoding alone."""
    render: float
    """Wall time of rendering alone."""
    encode: float
    """Wall time of encoding alone."""
    wall: float
    """Wall time of the whole conversion."""
    cpu: float
    """Processor time of the whole conversion."""
    load: float
    """Load average of the minute before the run. Before the first run, it counts only other processes."""


def main() -> None:
    """Run the measurements and write the result file."""
    options = parser(__doc__, "throughput")
    options.add_argument("film", type=Path)
    options.add_argument("--seconds", type=Fraction, default=Fraction(5), help="seconds of the film to convert")
    options.add_argument("--runs", type=int, default=3)
    arguments = options.parse_args()
    settings = Settings(network="average", duration=arguments.seconds, overwrite=True, device="cpu")
    measured_on = machine()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.runs):
            runs.append(measure(arguments.film, settings, Path(folder)))
            print(runs[-1])
    about = "seconds, best of the runs each; ratio = wall / max(slowest stage alone, processor seconds / cores)"
    rounded = [{name: round(value, 3) for name, value in asdict(run).items()} for run in runs]
    figures = {"aim": AIM, **evaluate(runs), "runs": rounded}
    write_result(arguments, about, figures, measured_on)
    print(evaluate(runs))


def measure(film: Path, settings: Settings, folder: Path) -> Run:
    """Time each stage alone, and then the whole conversion."""
    load = os.getloadavg()[0]
    source = open_source(str(film), settings)
    plan = make_plan(source.film, str(film), str(folder / "alone.mp4"), settings)

    started = time.perf_counter()
    frames = list(source.read(ReadReport(), lambda: False))
    decode = time.perf_counter() - started

    started = time.perf_counter()
    renderer = Renderer(settings, source.film.layout, source.film.colour, (plan.format.layout, plan.format.colour))
    pairs = frame_pairs(iter(frames), plan.timeline, plan.gap_limit, plan.last_duration, CutDetector())
    output_frames = [frame for pair in pairs for frame in renderer.frames(pair, Counts())]
    render = time.perf_counter() - started

    started = time.perf_counter()
    sink = open_sink(plan, settings)
    for frame in output_frames:
        sink.write(frame)
    sink.finish()
    encode = time.perf_counter() - started
    sink.abort()
    del frames, output_frames

    started, cpu_before = time.perf_counter(), cpu_seconds()
    run_conversion(film, folder / "whole.mp4", settings)
    return Run(decode, render, encode, time.perf_counter() - started, cpu_seconds() - cpu_before, load)


def evaluate(runs: list[Run]) -> dict[str, Any]:
    """Return the bound and the ratio from the shortest of each time, and whether the aim is reached.

    `reached` is None if the machine was busy before the first run.
    """
    stages = [min(getattr(run, stage) for run in runs) for stage in ("decode", "render", "encode")]
    bound = max(*stages, min(run.cpu for run in runs) / cores())
    ratio = min(run.wall for run in runs) / bound
    was_idle = runs[0].load < cores()
    return {
        "bound": round(bound, 3),
        "ratio": round(ratio, 3),
        "was_idle": was_idle,
        "reached": ratio <= AIM if was_idle else None,
    }


def cpu_seconds() -> float:
    """Return the processor time that this process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
