"""Measure the PSNR of networks on triplets with a known middle frame, beside averaging and DIS optical flow.

    python benchmarks/triplets.py SET... [--films FILM... --apart 1 3] [--networks default WEIGHTS...] [--shader]

SET is a folder of NAME/{first,middle,last}.png. --films takes triplets of films, at evenly spaced positions. --apart
gives the frames from one picture of a triplet to the next; each number makes a set of its own. With --shader, every
network is also measured with the pixel shader.

The PSNR is that of the whole picture in 8-bit RGB, after rounding, in dB. The mean is taken over pictures.

- `average`: (first + last) / 2, rounded half up.
- `dis`: OpenCV's DIS optical flow, medium preset, on grey pictures, in both directions. Each frame is sampled
  bilinearly at half of its own flow, read at the pixel of the middle frame; both samples are averaged.
- `dis, crossed`: each frame is sampled at half of the reversed flow of the other frame. This is closer to the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import midframe
from midframe.networks import InterpolationNetwork

MAX_FILM_SIZE = (1280, 720)
"""Width and height into which larger films are scaled down."""

Picture = NDArray[np.uint8]
"""RGB picture `[H, W, 3]`."""

Triplet = tuple[str, Picture, Picture, Picture]
"""Name, first, middle and last frame."""


def main() -> None:
    """Measure all sets and write the result file."""
    from common import machine, parser, write_result

    options = parser(__doc__, "triplets")
    options.add_argument("sets", nargs="*", type=Path)
    options.add_argument("--films", nargs="*", type=Path, default=[])
    options.add_argument("--places", type=int, default=4, help="triplets of each film")
    options.add_argument("--apart", nargs="+", type=int, default=[1], help="frames between neighbours of a triplet")
    options.add_argument("--networks", nargs="*", default=["default"])
    options.add_argument("--shader", action="store_true", help="measure with the pixel shader, too")
    options.add_argument("--pictures", type=Path, help="write the predicted frames into this folder")
    arguments = options.parse_args()
    measured_on = machine()
    sets = {folder.name: folder_triplets(folder) for folder in arguments.sets}
    for distance in arguments.apart if arguments.films else ():
        name = "films" if distance == 1 else f"films, {distance} apart"
        sets[name] = films_triplets(arguments.films, arguments.places, distance)
    networks = {name: midframe.load(name) for name in arguments.networks}
    results: dict[str, Any] = {}
    for name, triplets in sets.items():
        results[name] = measure(triplets, networks, arguments.shader, arguments.pictures)
        print(name, results[name]["mean"], flush=True)
    figures = {"networks": arguments.networks, "sets": results}
    write_result(arguments, "PSNR in dB, 8-bit RGB, mean over pictures", figures, measured_on)


def measure(
    triplets: Iterator[Triplet], networks: dict[str, InterpolationNetwork], shader: bool, pictures: Path | None
) -> dict[str, Any]:
    """Return the PSNR of every method on every triplet, and its mean over the triplets.

    shader: measure the networks with the pixel shader, too. pictures: folder for the predicted frames, None for none.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, first, middle, last in triplets:
        predicted = {"average": average(first, last), **dis(first, last)}
        for label, network in networks.items():
            predicted[label] = midframe.interpolate(first, last, network=network, shader="off")
            if shader:
                predicted[f"{label}, shader"] = midframe.interpolate(first, last, network=network)
        rows[name] = {label: round(psnr(picture, middle), 3) for label, picture in predicted.items()}
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            row = [first, *(picture for label, picture in predicted.items() if label != "average"), middle]
            cv2.imwrite(str(pictures / f"{name}.jpg"), np.concatenate(row, 1)[..., ::-1])
    labels = next(iter(rows.values())).keys()
    mean = {label: round(sum(row[label] for row in rows.values()) / len(rows), 3) for label in labels}
    return {"mean": mean, "triplets": rows}


def folder_triplets(folder: Path) -> Iterator[Triplet]:
    """Yield the triplets of a set."""
    for triplet in sorted(path.parent for path in folder.glob("*/middle.png")):
        first, middle, last = (
            np.ascontiguousarray(cv2.imread(str(triplet / f"{name}.png"))[..., ::-1])
            for name in ("first", "middle", "last")
        )
        yield triplet.name, first, middle, last


def films_triplets(films: list[Path], positions: int, distance: int) -> Iterator[Triplet]:
    """Yield the triplets of several films; see `film_triplets`."""
    for film in films:
        yield from film_triplets(film, positions, distance)


def film_triplets(film: Path, positions: int, distance: int) -> Iterator[Triplet]:
    """Yield triplets at evenly spaced positions of a film, `distance` frames from one picture to the next."""
    from midframe.training.build.frames import frame_to_rgb
    from midframe.video.clips import ClipReport, open_clip_reader

    with open_clip_reader(film) as clip:
        duration = clip.duration or Fraction(1)
        for position in range(positions):
            time = clip.start + duration * (2 * position + 1) / (2 * positions)
            selected = islice(clip.frames(time, time + distance, ClipReport()), 0, 2 * distance + 1, distance)
            frames = [np.array(frame_to_rgb(frame, clip.film, MAX_FILM_SIZE)) for frame in selected]
            if len(frames) == 3:
                name = f"{film.stem}_{position}" if distance == 1 else f"{film.stem}_{position}_{distance}"
                yield name, *frames


def average(first: Picture, last: Picture) -> Picture:
    """Return the mean of both frames, rounded half up."""
    return ((first.astype(np.uint16) + last + 1) // 2).astype(np.uint8)


def dis(first: Picture, last: Picture) -> dict[str, Picture]:
    """Return the middle frames by DIS optical flow, `dis` and `dis, crossed`; see the module."""
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, last)]
    forward, backward = estimator.calc(grey[0], grey[1], None), estimator.calc(grey[1], grey[0], None)
    y, x = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
    predicted = {}
    for name, first_flow, last_flow in (("dis", forward, backward), ("dis, crossed", -backward, -forward)):
        total = np.zeros(first.shape, np.float32)
        for frame, flow in ((first, first_flow), (last, last_flow)):
            sampled = x - flow[..., 0] / 2, y - flow[..., 1] / 2
            total += cv2.remap(frame.astype(np.float32), *sampled, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        predicted[name] = np.clip(np.floor(total / 2 + 0.5), 0, 255).astype(np.uint8)
    return predicted


def psnr(predicted: Picture, target: Picture) -> float:
    """Return the PSNR in dB over the whole picture."""
    error = np.square(predicted.astype(np.float64) - target).mean()
    return 10 * math.log10(255**2 / max(error, 1e-10))


if __name__ == "__main__":
    main()
