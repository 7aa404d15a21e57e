"""Measures what the data set's limits are chosen by, on every frame of real films.

    python scripts/measure_thresholds.py [FILMS] [--cache FILE.npz]     (default: ../shared/data/films)

Decodes the films whole (each frame and each step from one frame to the next, at the size of the data set), writes
benchmarks/results/thresholds.json and draws docs/images/dataset-thresholds.png. Cuts are those of
benchmarks/labels/cuts.json, labelled by eye. See docs/dataset.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from midframe.training.build.films import find_films
from midframe.training.build.frames import frame_to_rgb
from midframe.training.build.rejection import squared_difference, standard_deviation
from midframe.training.build.settings import DatasetSettings
from midframe.training.build.windows import thumbnail_of
from midframe.video.clips import ClipReport, open_clip_reader
from midframe.video.cuts import distance

ROOT = Path(__file__).resolve().parents[1]
LABELS = json.loads((ROOT / "benchmarks/labels/cuts.json").read_text())["cuts"]
RESULTS = ROOT / "benchmarks/results/thresholds.json"
FIGURE = ROOT / "docs/images/dataset-thresholds.png"


def wrapped_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The author's difference: subtracted and squared in uint8, where both wrap at 256."""
    step = a - b
    return float((step * step).mean())


def measure(path: Path, settings: DatasetSettings) -> dict[str, np.ndarray]:
    """Of each frame its deviation; of each step true and wrapped difference, cut distance, and whether it is a cut."""
    deviations, steps = [], []
    cuts = set(LABELS.get(path.name, ()))
    with open_clip_reader(path) as film:
        before = None
        everything = film.frames(film.start - 100, film.start + 10**7, ClipReport())
        for k, frame in enumerate(everything):
            picture = frame_to_rgb(frame, film.film, settings.size)
            thumb = thumbnail_of(frame)
            deviations.append(standard_deviation(picture))
            if before is not None:
                old, old_thumb = before
                true, wrapped = squared_difference(old, picture), wrapped_difference(old, picture)
                steps.append((true, wrapped, distance(old_thumb, thumb), k in cuts))
            before = picture, thumb
    return {"deviation": np.array(deviations), "steps": np.array(steps)}


def ratios(steps: np.ndarray) -> np.ndarray:
    """Of each two steps in turn, no cut among them and one of note: the smaller difference by the larger."""
    a, b = steps[:-1], steps[1:]
    plain = (a[:, 3] == 0) & (b[:, 3] == 0)
    low, high = np.minimum(a[plain, 0], b[plain, 0]), np.maximum(a[plain, 0], b[plain, 0])
    noted = high >= 8
    return low[noted] / high[noted]


def summarise(films: dict[str, dict[str, np.ndarray]], settings: DatasetSettings) -> dict[str, Any]:
    steps = np.concatenate([film["steps"] for film in films.values()])
    cuts, plain = steps[steps[:, 3] == 1], steps[steps[:, 3] == 0]
    ratio = np.concatenate([ratios(film["steps"]) for film in films.values()])
    flat = np.concatenate([film["deviation"] for film in films.values()])

    def share(which: np.ndarray) -> float:
        return round(float(which.mean()), 4)

    return {
        "films": len(films),
        "frames": len(flat),
        "steps": len(plain),
        "cuts": len(cuts),
        "limits": {k: v for k, v in settings.json().items() if k.startswith(("least_", "most_"))},
        "difference": {
            "percentiles": {
                str(q): round(float(np.percentile(plain[:, 0], q)), 2) for q in (1, 5, 10, 25, 50, 75, 95, 99)
            },
            "largest_of_no_cut": round(float(plain[:, 0].max()), 1),
            "smallest_of_a_cut": round(float(cuts[:, 0].min()), 1),
            "share_below_least": share(plain[:, 0] < settings.least_difference),
        },
        "distance": {
            "largest_of_no_cut": np.sort(plain[:, 2])[::-1][:5].round(3).tolist(),
            "smallest_of_a_cut": round(float(cuts[:, 2].min()), 3),
            "no_cuts_above_most": int((plain[:, 2] > settings.most_distance).sum()),
        },
        "least_step": {"share_below": share(ratio < settings.least_step), "pairs_of_steps": len(ratio)},
        "deviation": {"share_below_least": share(flat < settings.least_deviation)},
        "wrapped": {
            "share_of_steps_from_18_to_55": share((plain[:, 1] >= 18) & (plain[:, 1] <= 55)),
            "share_of_steps_above_55": share(plain[:, 1] > 55),
            "of_cuts": [round(float(cuts[:, 1].min()), 1), round(float(cuts[:, 1].max()), 1)],
            "largest_of_no_cut": round(float(plain[:, 1].max()), 1),
        },
        "by_film": {
            name: {
                "median_difference": round(float(np.median(film["steps"][film["steps"][:, 3] == 0, 0])), 2),
                "share_below_least": share(film["steps"][:, 0] < settings.least_difference),
            }
            for name, film in films.items()
        },
    }


def draw(films: dict[str, dict[str, np.ndarray]], settings: DatasetSettings, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = np.concatenate([film["steps"] for film in films.values()])
    cuts, plain = steps[steps[:, 3] == 1], steps[steps[:, 3] == 0]
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.4), constrained_layout=True)

    def limits(axis: Any, *values: float) -> None:
        for value in values:
            axis.axvline(value, color="tab:red", lw=1.2)

    edges = np.geomspace(0.02, 20000, 81)
    a = axes[0, 0]
    a.hist(np.maximum(plain[:, 0], 0.021), edges, color="tab:blue", label=f"{len(plain)} steps within a shot")
    a.hist(np.repeat(cuts[:, 0], 8), edges, color="tab:orange", label=f"{len(cuts)} cuts (drawn 8 times as high)")
    limits(a, settings.least_difference, settings.most_difference)
    a.set(xscale="log", xlabel="mean squared difference of a step", ylabel="steps", title="Still, moving, cut")
    a.legend(fontsize=8)
    a = axes[0, 1]
    a.scatter(plain[:, 0], plain[:, 2], s=3, alpha=0.3)
    a.scatter(cuts[:, 0], cuts[:, 2], s=16, color="tab:orange")
    limits(a, settings.most_difference)
    a.axhline(settings.most_distance, color="tab:red", lw=1.2)
    a.set(xscale="log", xlim=(1, 20000), xlabel="mean squared difference", ylabel="distance by the cut detector")
    a.set_title("Cuts stand apart on both")
    a = axes[0, 2]
    a.hist(np.maximum(np.concatenate([ratios(f["steps"]) for f in films.values()]), 1.1e-4), np.geomspace(1e-4, 1, 61))
    limits(a, settings.least_step)
    a.set(xscale="log", xlabel="smaller step / larger step, of two in turn", ylabel="pairs of steps", yscale="log")
    a.set_title("Frames that repeat the one before")
    a = axes[1, 0]
    a.hist(np.concatenate([film["deviation"] for film in films.values()]), np.arange(0, 92, 2))
    limits(a, settings.least_deviation)
    a.set(xlabel="mean standard deviation of the channels", ylabel="frames", title="Flat frames", yscale="log")
    a = axes[1, 1]
    a.scatter(plain[:, 0], plain[:, 1], s=3, alpha=0.3)
    a.scatter(cuts[:, 0], cuts[:, 1], s=16, color="tab:orange")
    a.axhspan(18, 55, color="tab:gray", alpha=0.25)
    a.set(xscale="log", xlim=(1, 20000), xlabel="mean squared difference", ylabel="the same, wrapped at 8 bits")
    a.set_title("What the author's 18 to 55 was measured on")
    a = axes[1, 2]
    for film in films.values():
        ordered = np.sort(film["steps"][film["steps"][:, 3] == 0, 0])
        a.plot(np.maximum(ordered, 0.02), np.linspace(0, 1, len(ordered)), lw=0.8, alpha=0.7)
    limits(a, settings.least_difference, settings.most_difference)
    a.set(
        xscale="log", xlim=(0.02, 20000), xlabel="mean squared difference of a step", ylabel="share of the film's steps"
    )
    a.set_title(f"Each of {len(films)} films")
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, nargs="?", default=ROOT.parent / "shared/data/films")
    parser.add_argument("--cache", type=Path, help="keep the measurements here, and draw from them if they are there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = DatasetSettings()
    if given.cache is not None and given.cache.is_file():
        found = dict(np.load(given.cache))
    else:
        found = {}
        for path in find_films([given.films]):
            found |= {f"{path.name}/{name}": values for name, values in measure(path, settings).items()}
            print(path.name, flush=True)
        if given.cache is not None:
            np.savez(given.cache, **found)
    films: dict[str, dict[str, np.ndarray]] = {}
    for key, values in found.items():
        name, _, what = key.partition("/")
        films.setdefault(name, {})[what] = values
    RESULTS.write_text(json.dumps(summarise(films, settings), indent=1) + "\n")
    draw(films, settings, FIGURE)


if __name__ == "__main__":
    main()
