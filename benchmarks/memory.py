"""Measure the peak memory of a conversion, for a film and for one ten times as long.

    python benchmarks/memory.py [--frames 300] [--size 640x360] [--out benchmarks/results/memory.json]

Each conversion runs in a process of its own. Its peak resident memory includes the interpreter and its libraries. The
aim is that the longer film takes at most 1.1 times the memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, machine, parser, write_result

AIM = 1.1
"""The largest acceptable ratio of the longer film's peak to the shorter film's."""

CONVERSION = """
import resource, sys
from midframe.conversion import convert
summary = convert(sys.argv[1], sys.argv[2], network="average", overwrite=True, device="cpu", preset="veryfast")
print(summary.counts.written, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""The program of one conversion; it prints the number of output frames and the peak memory in KiB."""


def main() -> None:
    """Convert both films and write the result file."""
    options = parser(__doc__, "memory")
    options.add_argument("--frames", type=int, default=300, help="frames of the shorter film")
    options.add_argument("--size", default="640x360", help="width and height of the films")
    arguments = options.parse_args()
    width, height = map(int, arguments.size.split("x"))
    measured_on = machine()
    with tempfile.TemporaryDirectory() as folder:
        conversions = [
            measure(count, width, height, Path(folder)) for count in (arguments.frames, 10 * arguments.frames)
        ]
    ratio = conversions[1]["peak_mib"] / conversions[0]["peak_mib"]
    figures = {"aim": AIM, "ratio": round(ratio, 3), "reached": ratio <= AIM, "conversions": conversions}
    write_result(
        arguments,
        "peak resident memory of the process in MiB; the second film is ten times as long",
        figures,
        measured_on,
    )
    print(figures)


def measure(frames: int, width: int, height: int, folder: Path) -> dict[str, Any]:
    """Draw a film, convert it in a process of its own, and return its figures."""
    sys.path.insert(0, str(ROOT / "tests"))
    from films import Film, draw

    film = Film(width, height, frames=frames, scene="texture", options={"preset": "ultrafast"})
    path = draw(film, folder / f"{frames}.mp4")
    command = [sys.executable, "-c", CONVERSION, str(path), str(folder / "out.mp4")]
    written, kibibytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {"frames": frames, "written": int(written), "peak_mib": round(int(kibibytes) / 1024, 1)}


if __name__ == "__main__":
    main()
