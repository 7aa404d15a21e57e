"""Memory does not grow with the film."""

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


def peak(frames: int, folder: Path) -> float:
    """The peak memory, in MB, of a process that converts a film of so many frames."""
    film = Film(160, 96, frames=frames, scene="texture", options={"preset": "ultrafast"})
    path = draw(film, folder / f"{frames}.mp4")
    command = [sys.executable, "-c", CONVERT, str(path), str(folder / f"{frames}-out.mp4")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_a_film_ten_times_as_long(tmp_path: Path) -> None:
    short, long = peak(150, tmp_path), peak(1500, tmp_path)
    assert long <= 1.1 * short
    # The interpreter and its libraries are some 400 MB of it; the longer film has 62 MB more of planes to read.
    assert long - short < 15
