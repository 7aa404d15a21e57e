"""Measure how much static regions of real frames change, with networks whose pictures are wrong everywhere.

    python benchmarks/stillness.py FOLDER_OF_FILMS [--out benchmarks/results/stillness.json]

Two frames of each film are made equal but for their right third, which comes from 20 frames later. They are given to a
network that adds noise, and to Midframe's networks with disturbed parameters. The result is the deviation of the
interpolated frames from the source in the region beyond the shader's reach, with the shader on and off.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, machine, parser, write_result

sys.path.insert(0, str(ROOT / "tests"))

from made_frames import render
from midframe import networks
from midframe.video.frame import Frame
from midframe.video.probe import Film, probe
from midframe.video.reader import ReadReport, read_frames
from static_regions import (
    NETWORKS,
    REACH,
    REAL_FILMS,
    TIMES,
    crop_middle,
    replace_right_third,
    static_region,
)

SHADERS = ("default", "paper", "off")
"""Shader presets, and no shader."""


def main() -> None:
    """Measure all networks on all films, and write the result file."""
    options = parser(__doc__, "stillness")
    options.add_argument("films", type=Path, help="the folder that holds the films")
    arguments = options.parse_args()
    measured_on = machine()
    rows = []
    disturbed = {name: make() for name, make in NETWORKS.items()}  # before `load` is replaced
    for name, network in disturbed.items():
        networks.load = lambda _="", network=network: network  # type: ignore[assignment]
        for file, pixel_format in REAL_FILMS.items():
            film = probe(arguments.films / file)
            frames = [frame for frame, _ in zip(read_frames(film, ReadReport()), range(21), strict=False)]
            row = {"film": file, "pixel_format": pixel_format, "network": name}
            row |= {shader: deviations(film, frames, shader) for shader in SHADERS}
            print(row)
            rows.append(row)
    about = f"deviation in code values, further than {REACH} pixels from what differs, by shader preset"
    write_result(arguments, about, {"films": rows}, measured_on)


def deviations(film: Film, frames: list[Frame], shader: str) -> dict[str, Any]:
    """Return the largest and the mean deviation, in code values of the film, over all times and planes."""
    first = crop_middle(frames[0].planes, film.layout)
    second = replace_right_third(first, crop_middle(frames[20].planes, film.layout))
    region = static_region(first)
    differences = [
        np.abs(plane.astype(int) - source)[region(k)]
        for frame in render(film.layout, film.colour, first, second, times=TIMES, shader=shader)
        for k, (plane, source) in enumerate(zip(frame.planes, first, strict=True))
    ]
    return {
        "largest": int(max(difference.max() for difference in differences)),
        "mean": round(float(max(difference.mean() for difference in differences)), 4),
    }


if __name__ == "__main__":
    main()
