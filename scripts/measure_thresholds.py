"""Measure the distributions from which the limits of data sets are chosen, on every frame of real films.

    python scripts/measure_thresholds.py [FILMS] [--cache FILE.npz]

FILMS is ../shared/data/films by default. The films are decoded completely, and each frame and each step (from one frame
to the next) is measured at the size of a data set's frames. Writes benchmarks/results/thresholds.json and draws
docs/images/dataset-thresholds.png. The cuts are labelled by hand in benchmarks/labels/cuts.json. docs/dataset.md
explains the limits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
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
sys.path.append(str(ROOT / "benchmarks"))

import common  # noqa: E402

LABELLED_CUTS = json.loads((ROOT / "benchmarks/labels/cuts.json").read_text())["cuts"]
"""The numbers of the first frames after cuts, by file name."""
FIGURE = ROOT / "docs/images/dataset-thresholds.png"

MIN_PAIR_DIFFERENCE = 8
"""Mean squared difference that the larger of two neighbouring steps must reach to be compared with the smaller."""

AUTHORS_BAND = (18, 55)
"""Lower and upper limit of the wrapped difference in the author's code."""


@dataclass(frozen=True)
class Steps:
    """Measurements of steps from one frame to the next. Each field is an array with one value per step."""

    difference: np.ndarray
    """Mean squared difference."""
    wrapped: np.ndarray
    """Mean squared difference in 8-bit arithmetic, see `wrapped_difference`."""
    distance: np.ndarray
    """Distance of the thumbnails, as the cut detector measures it."""
    is_cut: np.ndarray
    """Whether the step is a labelled cut."""

    def where(self, mask: np.ndarray) -> Steps:
        """Return the steps for which the mask is true."""
        return Steps(**{name: values[mask] for name, values in vars(self).items()})


@dataclass(frozen=True)
class FilmMeasurements:
    """Measurements of one film."""

    deviations: np.ndarray
    """The standard deviation of each frame."""
    steps: Steps


def main() -> None:
    """Measure the films, or load the measurements, write the result file and draw the figure."""
    parser = common.parser(__doc__, "thresholds")
    parser.add_argument("films", type=Path, nargs="?", default=ROOT.parent / "shared/data/films")
    parser.add_argument("--cache", type=Path, help="keep the measurements here, and draw from them if they are there")
    options = parser.parse_args()
    measured_on = common.machine()
    torch.set_num_threads(1)
    settings = DatasetSettings()
    if options.cache is not None and options.cache.is_file():
        arrays = dict(np.load(options.cache))
    else:
        arrays = {}
        for path in find_films([options.films]):
            arrays |= {f"{path.name}/{name}": values for name, values in measure_film(path, settings).items()}
            print(path.name, flush=True)
        if options.cache is not None:
            np.savez(options.cache, **arrays)
    names = dict.fromkeys(key.partition("/")[0] for key in arrays)
    films = {name: FilmMeasurements(arrays[f"{name}/deviation"], Steps(*arrays[f"{name}/steps"].T)) for name in names}
    about = "distributions of the values that the limits of data sets are compared with, over all frames of real films"
    common.write_result(options, about, summarise(films, settings), measured_on)
    draw_figure(films, settings, FIGURE)


def measure_film(path: Path, settings: DatasetSettings) -> dict[str, np.ndarray]:
    """Measure all frames of a film.

    Return the arrays `deviation` `[frames]` and `steps` `[frames − 1, 4]`, which holds the fields of `Steps` in order.
    """
    deviations, steps = [], []
    cuts = set(LABELLED_CUTS.get(path.name, ()))
    with open_clip_reader(path) as film:
        previous = None
        frames = film.frames(film.start - 100, film.start + 10**7, ClipReport())
        for k, frame in enumerate(frames):
            picture = frame_to_rgb(frame, film.film, settings.size)
            small = thumbnail_of(frame)
            deviations.append(standard_deviation(picture))
            if previous is not None:
                old_picture, old_small = previous
                true, wrapped = squared_difference(old_picture, picture), wrapped_difference(old_picture, picture)
                steps.append((true, wrapped, distance(old_small, small), k in cuts))
            previous = picture, small
    return {"deviation": np.array(deviations), "steps": np.array(steps)}


def wrapped_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean squared difference as the author's code computes it, in uint8 arithmetic that wraps at 256."""
    difference = first - second
    return float((difference * difference).mean())


def step_ratios(steps: Steps) -> np.ndarray:
    """Return the ratio of the smaller to the larger difference for each pair of neighbouring steps of a film.

    Pairs with a cut, and pairs in which both differences are below `MIN_PAIR_DIFFERENCE`, are left out.
    """
    first, second = steps.difference[:-1], steps.difference[1:]
    without_cut = (steps.is_cut[:-1] == 0) & (steps.is_cut[1:] == 0)
    smaller = np.minimum(first[without_cut], second[without_cut])
    larger = np.maximum(first[without_cut], second[without_cut])
    is_moving = larger >= MIN_PAIR_DIFFERENCE
    return smaller[is_moving] / larger[is_moving]


def pool_films(films: Sequence[FilmMeasurements]) -> tuple[np.ndarray, np.ndarray, Steps, Steps]:
    """Return the measurements of all films together: deviations, step ratios, steps within a shot, and cuts."""
    deviations = np.concatenate([film.deviations for film in films])
    ratios = np.concatenate([step_ratios(film.steps) for film in films])
    steps = Steps(*(np.concatenate([vars(film.steps)[name] for film in films]) for name in vars(films[0].steps)))
    return deviations, ratios, steps.where(steps.is_cut == 0), steps.where(steps.is_cut == 1)


def summarise(films: dict[str, FilmMeasurements], settings: DatasetSettings) -> dict[str, Any]:
    """Return the figures of the result file."""
    deviations, ratios, uncut, cuts = pool_films(list(films.values()))
    low, high = AUTHORS_BAND

    def fraction(mask: np.ndarray) -> float:
        return round(float(mask.mean()), 4)

    return {
        "films": len(films),
        "frames": len(deviations),
        "steps": len(uncut.difference),
        "cuts": len(cuts.difference),
        "limits": {k: v for k, v in settings.json().items() if k.startswith(("least_", "most_"))},
        "difference": {
            "percentiles": {
                str(q): round(float(np.percentile(uncut.difference, q)), 2) for q in (1, 5, 10, 25, 50, 75, 95, 99)
            },
            "largest_within_shots": round(float(uncut.difference.max()), 1),
            "smallest_of_cuts": round(float(cuts.difference.min()), 1),
            "fraction_below_limit": fraction(uncut.difference < settings.least_difference),
        },
        "distance": {
            "largest_within_shots": np.sort(uncut.distance)[::-1][:5].round(3).tolist(),
            "smallest_of_cuts": round(float(cuts.distance.min()), 3),
            "count_within_shots_above_limit": int((uncut.distance > settings.most_distance).sum()),
        },
        "least_step": {"fraction_below_limit": fraction(ratios < settings.least_step), "pairs_of_steps": len(ratios)},
        "deviation": {"fraction_below_limit": fraction(deviations < settings.least_deviation)},
        "wrapped": {
            "fraction_from_18_to_55": fraction((uncut.wrapped >= low) & (uncut.wrapped <= high)),
            "fraction_above_55": fraction(uncut.wrapped > high),
            "smallest_and_largest_of_cuts": [round(float(cuts.wrapped.min()), 1), round(float(cuts.wrapped.max()), 1)],
            "largest_within_shots": round(float(uncut.wrapped.max()), 1),
        },
        "by_film": {
            name: {
                "median_difference": round(float(np.median(film.steps.difference[film.steps.is_cut == 0])), 2),
                "fraction_below_limit": fraction(film.steps.difference < settings.least_difference),
            }
            for name, film in films.items()
        },
    }


def draw_figure(films: dict[str, FilmMeasurements], settings: DatasetSettings, path: Path) -> None:
    """Draw the distributions, with the limits as red lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    deviations, ratios, uncut, cuts = pool_films(list(films.values()))
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.4), constrained_layout=True)
    draw_differences(axes[0, 0], uncut, cuts, settings)
    draw_cut_distances(axes[0, 1], uncut, cuts, settings)
    draw_step_ratios(axes[0, 2], ratios, settings)
    draw_deviations(axes[1, 0], deviations, settings)
    draw_wrapped_differences(axes[1, 1], uncut, cuts)
    draw_films(axes[1, 2], films, settings)
    figure.savefig(path, dpi=90)


def draw_limits(axes: Any, *values: float) -> None:
    """Draw limits as vertical red lines."""
    for value in values:
        axes.axvline(value, color="tab:red", lw=1.2)


def draw_differences(axes: Any, uncut: Steps, cuts: Steps, settings: DatasetSettings) -> None:
    """Draw histograms of the mean squared difference of steps within shots and of cuts."""
    edges = np.geomspace(0.02, 20000, 81)
    label = f"{len(uncut.difference)} steps within a shot"
    axes.hist(np.maximum(uncut.difference, 0.021), edges, color="tab:blue", label=label)
    label = f"{len(cuts.difference)} cuts (drawn 8 times as high)"
    axes.hist(np.repeat(cuts.difference, 8), edges, color="tab:orange", label=label)
    draw_limits(axes, settings.least_difference, settings.most_difference)
    axes.set(xscale="log", xlabel="mean squared difference of a step", ylabel="steps", title="Still, moving, cut")
    axes.legend(fontsize=8)


def draw_cut_distances(axes: Any, uncut: Steps, cuts: Steps, settings: DatasetSettings) -> None:
    """Draw the distance by the cut detector over the mean squared difference."""
    axes.scatter(uncut.difference, uncut.distance, s=3, alpha=0.3)
    axes.scatter(cuts.difference, cuts.distance, s=16, color="tab:orange")
    draw_limits(axes, settings.most_difference)
    axes.axhline(settings.most_distance, color="tab:red", lw=1.2)
    axes.set(xscale="log", xlim=(1, 20000), xlabel="mean squared difference", ylabel="distance by the cut detector")
    axes.set_title("Cuts differ in both")


def draw_step_ratios(axes: Any, ratios: np.ndarray, settings: DatasetSettings) -> None:
    """Draw a histogram of the step ratios."""
    axes.hist(np.maximum(ratios, 1.1e-4), np.geomspace(1e-4, 1, 61))
    draw_limits(axes, settings.least_step)
    axes.set(
        xscale="log", xlabel="smaller step / larger step, of two successive ones", ylabel="pairs of steps", yscale="log"
    )
    axes.set_title("Frames that repeat the one before")


def draw_deviations(axes: Any, deviations: np.ndarray, settings: DatasetSettings) -> None:
    """Draw a histogram of the standard deviation of frames."""
    axes.hist(deviations, np.arange(0, 92, 2))
    draw_limits(axes, settings.least_deviation)
    axes.set(xlabel="mean standard deviation of the channels", ylabel="frames", title="Flat frames", yscale="log")


def draw_wrapped_differences(axes: Any, uncut: Steps, cuts: Steps) -> None:
    """Draw the wrapped over the true mean squared difference, with the author's band in grey."""
    axes.scatter(uncut.difference, uncut.wrapped, s=3, alpha=0.3)
    axes.scatter(cuts.difference, cuts.wrapped, s=16, color="tab:orange")
    axes.axhspan(*AUTHORS_BAND, color="tab:gray", alpha=0.25)
    axes.set(xscale="log", xlim=(1, 20000), xlabel="mean squared difference", ylabel="the same, wrapped at 8 bits")
    axes.set_title("What the author's 18 to 55 was measured on")


def draw_films(axes: Any, films: dict[str, FilmMeasurements], settings: DatasetSettings) -> None:
    """Draw the cumulative distribution of the mean squared difference for each film."""
    for film in films.values():
        ordered = np.sort(film.steps.difference[film.steps.is_cut == 0])
        axes.plot(np.maximum(ordered, 0.02), np.linspace(0, 1, len(ordered)), lw=0.8, alpha=0.7)
    draw_limits(axes, settings.least_difference, settings.most_difference)
    axes.set(xscale="log", xlim=(0.02, 20000), xlabel="mean squared difference of a step")
    axes.set(ylabel="fraction of the film's steps", title=f"Each of {len(films)} films")


if __name__ == "__main__":
    main()
