"""Peak memory of a conversion, for a film and for one ten times as long.

    python benchmarks/memory.py [--frames 300] [--size 640x360] [--out benchmarks/results/memory.json]

Each conversion runs in a process of its own, whose peak resident size is taken (the interpreter and its libraries are
in it). The aim: within 10 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

AIM = 1.1
ONE = """
import resource, sys
from midframe.conversion import convert
summary = convert(sys.argv[1], sys.argv[2], network="average", overwrite=True, device="cpu", preset="veryfast")
print(summary.counts.written, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(film: Path, target: Path) -> tuple[int, float]:
    """Frames written and peak memory in MB of one conversion."""
    answer = subprocess.run(
        [sys.executable, "-c", ONE, str(film), str(target)], check=True, capture_output=True, text=True
    ).stdout
    written, kilobytes = answer.split()
    return int(written), int(kilobytes) / 1024


def measure(frames: int, width: int, height: int, folder: Path) -> list[dict[str, Any]]:
    """The peaks for a drawn film and for one ten times as long."""
    from films import Film, draw

    found = []
    for count in (frames, 10 * frames):
        film = Film(width, height, frames=count, scene="texture", options={"preset": "ultrafast"})
        path = draw(film, folder / f"{count}.mp4")
        written, megabytes = peak(path, folder / "out.mp4")
        found.append({"frames": count, "written": written, "peak_mb": round(megabytes, 1)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "memory.json")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.frames, width, height, Path(folder))
    ratio = found[1]["peak_mb"] / found[0]["peak_mb"]
    result = {
        "about": "peak resident memory of the process, MB; the second film is ten times as long",
        "command": f"python benchmarks/memory.py --frames {given.frames} --size {given.size}",
        "aim": AIM,
        "ratio": round(ratio, 3),
        "reached": ratio <= AIM,
        "conversions": found,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
