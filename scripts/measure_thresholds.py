"""Measures what the data set's limits are chosen by, on every frame of real films.

    python scripts/measure_thresholds.py [FILMS] [--cache FILE.npz]     (default: ../shared/data/films)

Decodes the films whole (each frame and each step from one frame to the next, at the size of the data set), writes
benchmarks/results/thresholds.json and draws docs/images/dataset-thresholds.png. Cuts are those of
benchmarks/labels/cuts.json, labelled by eye. See docs/dataset.md.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from midframe.learn.dataset.pictures import picture_of
from midframe.learn.dataset.select import deviation, squared_difference, thumbnail_of
from midframe.learn.dataset.settings import DatasetSettings
from midframe.video.cuts import distance
from midframe.video.excerpts import ExcerptReport, open_excerpts

ROOT = Path(__file__).resolve().parents[1]
LABELS = json.loads((ROOT / "benchmarks/labels/cuts.json").read_text())["cuts"]
RESULTS = ROOT / "benchmarks/results/thresholds.json"
FIGURE = ROOT / "docs/images/dataset-thresholds.png"


def wrapped_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The author's difference: subtracted and squared in uint8, where both wrap at 256."""
    step = a - b
    return float((step * step).mean())


def measure(path: Path, settings: DatasetSettings) -> dict[str, np.ndarray]:
    """Of each frame its deviation, and of each step true and wrapped difference, cut distance, and whether it is a cut."""
    deviations, steps = [], []
    cuts = set(LABELS.get(path.name, ()))
    with open_excerpts(path) as film:
        before = None
        everything = film.frames(film.start - 100, film.start + 10**7, ExcerptReport())
        for k, frame in enumerate(everything):
            picture = picture_of(frame, film.film, settings.size)
            thumb = thumbnail_of(frame)
            deviations.append(deviation(picture))
            if before is not None:
                old, old_thumb = before
                true, wrapped = squared_difference(old, picture), wrapped_difference(old, picture)
                steps.append((true, wrapped, distance(old_thumb, thumb), k in cuts))
            before = picture, thumb
    return {"deviation": np.array(deviations), "steps": np.array(steps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, nargs="?", default=ROOT.parent / "shared/data/films")
    parser.add_argument("--cache", type=Path, help="keep the measurements here, and draw from them if they are there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = DatasetSettings()
    found: dict[str, np.ndarray] = {}
    if given.cache is not None and given.cache.is_file():
        found = dict(np.load(given.cache))
    else:
        for path in sorted(p for p in given.films.iterdir() if p.suffix not in (".md", ".json")):
            for name, values in measure(path, settings).items():
                found[f"{path.name}/{name}"] = values
            print(path.name, flush=True)
        if given.cache is not None:
            np.savez(given.cache, **found)


if __name__ == "__main__":
    main()
