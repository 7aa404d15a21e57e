"""The memory of a conversion does not grow with the length of the film."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from films import Film, draw

CONVERT = """
import resource, sys
from midframe.conversion import convert
convert(sys.argv[1], sys.argv[2], network="average", device="cpu", preset="ultrafast")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_memory(frames: int, folder: Path) -> float:
    """Convert a film of that length in a process of its own, and return its peak memory in MB."""
    film = Film(160, 96, frames=frames, scene="texture", options={"preset": "ultrafast"})
    path = draw(film, folder / f"{frames}.mp4")
    command = [sys.executable, "-c", CONVERT, str(path), str(folder / f"{frames}-out.mp4")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_a_film_ten_times_as_long_takes_the_same_memory(tmp_path: Path) -> None:
    short, long = peak_memory(150, tmp_path), peak_memory(1500, tmp_path)
    assert long <= 1.1 * short
    # About 400 MB are the interpreter and its libraries. The planes of the longer film take 62 MB more in all.
    assert long - short < 15
