"""Made frames a second and peak memory of `convert`, for each network, on films.

    python benchmarks/networks.py FILM... [--networks default average paper] [--seconds 1] [--paper-seconds 0.1]

Each conversion runs in a process of its own, with the default encoder and shader; all of its stages run side by side,
as they do for a user. The machine and its load are stored with the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ONE = """
import json, resource, sys
from fractions import Fraction
from midframe.conversion import convert
source, target, network, seconds = sys.argv[1:]
summary = convert(source, target, network=network, duration=Fraction(seconds), overwrite=True, device="cpu")
told = summary.json()
print(json.dumps({
    "size": f"{told['input']['width']}x{told['input']['height']}", "made": told["frames"]["interpolated"],
    "written": told["frames"]["written"], "shader": told["shader"], "backend": told["backend"],
    "seconds_making": told["seconds"]["render"], "seconds": told["seconds"]["total"],
    "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
}))
"""


def measure(film: Path, network: str, seconds: str, folder: Path) -> dict[str, Any]:
    """One conversion of the beginning of a film."""
    command = [sys.executable, "-c", ONE, str(film), str(folder / "out.mp4"), network, seconds]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rate = told["made"] / told["seconds_making"] if told["made"] else 0.0
    return {"film": film.name, "network": network, **told, "made_per_second": round(rate, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--networks", nargs="+", default=["default", "average", "paper"])
    parser.add_argument("--seconds", default="1")
    parser.add_argument("--paper-seconds", default="1/10")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "networks.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(film, network, given.paper_seconds if network == "paper" else given.seconds, Path(folder))
            for network in given.networks
            for film in given.films
        ]
    result = {
        "about": "convert on the CPU: made frames by the seconds the making stage was busy, all stages running",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "load_at_end": os.getloadavg(),
        "conversions": rows,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
