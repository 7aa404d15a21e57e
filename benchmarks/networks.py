"""Measure interpolated frames per second and peak memory of `convert`, for each network and film.

    python benchmarks/networks.py FILM... [--networks default average paper] [--seconds 1] [--paper-seconds 0.1]

Each conversion runs in a process of its own on the CPU, with the default encoder and shader. All its stages run at the
same time, as they do for a user.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import machine, parser, write_result

CONVERSION = """
import json, resource, sys
from fractions import Fraction
from midframe.conversion import convert
source, target, network, seconds = sys.argv[1:]
summary = convert(source, target, network=network, duration=Fraction(seconds), overwrite=True, device="cpu").json()
print(json.dumps({
    "size": f"{summary['input']['width']}x{summary['input']['height']}",
    "interpolated": summary["frames"]["interpolated"],
    "written": summary["frames"]["written"],
    "shader": summary["shader"],
    "backend": summary["backend"],
    "render_seconds": summary["seconds"]["render"],
    "total_seconds": summary["seconds"]["total"],
    "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
}))
"""
"""The program of one conversion; it prints its figures as JSON."""


def main() -> None:
    """Measure every film with every network and write the result file."""
    options = parser(__doc__, "networks")
    options.add_argument("films", nargs="+", type=Path)
    options.add_argument("--networks", nargs="+", default=["default", "average", "paper"])
    options.add_argument("--seconds", default="1", help="seconds of each film that are converted")
    options.add_argument("--paper-seconds", default="1/10", help="the same for the slow network `paper`")
    arguments = options.parse_args()
    measured_on = machine()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in arguments.networks:
            seconds = arguments.paper_seconds if network == "paper" else arguments.seconds
            for film in arguments.films:
                rows.append(measure(film, network, seconds, Path(folder)))
                print(rows[-1], flush=True)
    about = (
        "convert on the CPU: interpolated frames divided by the busy seconds of the render stage, all stages running"
    )
    write_result(arguments, about, {"conversions": rows}, measured_on)


def measure(film: Path, network: str, seconds: str, folder: Path) -> dict[str, Any]:
    """Convert the first seconds of a film in a process of its own and return its figures."""
    command = [sys.executable, "-c", CONVERSION, str(film), str(folder / "out.mp4"), network, seconds]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rate = figures["interpolated"] / figures["render_seconds"] if figures["interpolated"] else 0.0
    return {"film": film.name, "network": network, **figures, "interpolated_per_second": round(rate, 2)}


if __name__ == "__main__":
    main()
