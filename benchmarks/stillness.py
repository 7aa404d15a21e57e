"""How still the still part of real frames stays, with networks that make nonsense.

    python benchmarks/stillness.py FOLDER_OF_FILMS [--out benchmarks/results/stillness.json]

Two frames of each film that are equal but for their right third (taken from 20 frames later) are given to a network
that adds noise and to ours with disturbed parameters. Measured is the deviation of made frames from the source in the
part that lies beyond the shader's reach from what differs: with the shader on, and off.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "conversion")]

from test_stillness import NETWORKS, REACH, REAL, TIMES, crop, replaced, still_part  # noqa: E402

from made_frames import render  # noqa: E402
from midframe import networks  # noqa: E402
from midframe.video.probe import probe  # noqa: E402
from midframe.video.reader import ReadReport, read_frames  # noqa: E402


def deviations(film: Any, frames: list[Any], shader: str) -> dict[str, float]:
    """The largest and the mean deviation, in code values of the film, over all times and planes."""
    first = crop(frames[0].planes, film.layout)
    second = replaced(first, crop(frames[20].planes, film.layout))
    where = still_part(first)
    apart = [
        np.abs(mine.astype(int) - true)[where(k)]
        for frame in render(film.layout, film.colour, first, second, times=TIMES, shader=shader)
        for k, (mine, true) in enumerate(zip(frame.planes, first, strict=True))
    ]
    return {"largest": int(max(d.max() for d in apart)), "mean": round(float(max(d.mean() for d in apart)), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "stillness.json")
    given = parser.parse_args()
    found = []
    made = {name: make_network() for name, make_network in NETWORKS.items()}  # before `load` is replaced
    for name, network in made.items():
        assert type(network).__name__.lower() == name
        networks.load = lambda _="", network=network: network  # type: ignore[assignment]
        for clip, pixel_format in REAL.items():
            film = probe(given.films / clip)
            frames = [frame for frame, _ in zip(read_frames(film, ReadReport()), range(21), strict=False)]
            row = {"film": clip, "pixel_format": pixel_format, "network": name}
            row |= {shader: deviations(film, frames, shader) for shader in ("default", "paper", "off")}
            print(row)
            found.append(row)
    result = {
        "about": f"deviation in code values, further than {REACH} pixels from what differs, by shader preset",
        "command": "python benchmarks/stillness.py ../shared/data/films",
        "films": found,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
