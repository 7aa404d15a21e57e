"""PSNR of networks on triplets whose true middle is known, beside averaging and DIS optical flow on the same frames.

    python benchmarks/triplets.py SET... [--films FILM... --apart 1 3] [--networks default WEIGHTS...] [--shader]

SET: a folder of NAME/{first,middle,last}.png. --films: three frames of each of these films at even places, this far
apart, as a set of their own for each distance: 3 shows large motion. 8-bit RGB, the whole picture, each made frame
rounded; per picture and then the mean, in dB. average: (first + last) / 2, halves up. DIS: OpenCV's, medium, on gray
pictures, first to last and back; each frame read bilinearly at half its own motion at the wanted pixel, both averaged.
DIS, crossed: at half the motion that the other frame has there, which is nearer the truth. --shader: also with the
pixel shader, as `convert` has it.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import midframe

LARGEST = (1280, 720)
"""Larger films are scaled down to fit."""
Picture = NDArray[np.uint8]
Triplet = tuple[str, Picture, Picture, Picture]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--films", nargs="*", type=Path, default=[])
    parser.add_argument("--places", type=int, default=4, help="triplets of a film")
    parser.add_argument("--apart", nargs="+", type=int, default=[1], help="frames from one of a triplet to the next")
    parser.add_argument("--networks", nargs="*", default=["default"])
    parser.add_argument("--shader", action="store_true")
    parser.add_argument("--pictures", type=Path, help="write the made frames into this folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "triplets.json")
    given = parser.parse_args()
    networks = {name: midframe.load(name) for name in given.networks}
    found: dict[str, Any] = {}
    for folder in given.sets:
        found[folder.name] = measure(folder_triplets(folder), networks, given.shader, given.pictures)
        print(folder.name, found[folder.name]["mean"], flush=True)
    for apart in given.apart if given.films else ():
        label = "films" if apart == 1 else f"films, {apart} apart"
        triplets = (triplet for film in given.films for triplet in film_triplets(film, given.places, apart))
        found[label] = measure(triplets, networks, given.shader, given.pictures)
        print(label, found[label]["mean"], flush=True)
    result = {
        "about": "PSNR in dB, 8-bit RGB, mean of the pictures",
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__,
                    "opencv": cv2.__version__},
        "networks": given.networks,
        "sets": found,
    }  # fmt: skip
    given.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(
    triplets: Iterator[Triplet],
    networks: dict[str, midframe.networks.InterpolationNetwork],
    shader: bool,
    pictures: Path | None,
) -> dict[str, Any]:
    """The PSNR of every way to make the middle, of each triplet and the mean."""
    rows: dict[str, dict[str, float]] = {}
    for name, first, middle, last in triplets:
        made = {"average": average(first, last), **dis(first, last)}
        for label, network in networks.items():
            made[label] = midframe.interpolate(first, last, network=network, shader="off")
            if shader:
                made[f"{label}, shader"] = midframe.interpolate(first, last, network=network)
        rows[name] = {label: round(psnr(picture, middle), 3) for label, picture in made.items()}
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            shown = [first, *(picture for label, picture in made.items() if label != "average"), middle]
            cv2.imwrite(str(pictures / f"{name}.jpg"), np.concatenate(shown, 1)[..., ::-1])
    labels = next(iter(rows.values())).keys()
    mean = {label: round(sum(row[label] for row in rows.values()) / len(rows), 3) for label in labels}
    return {"mean": mean, "triplets": rows}


def folder_triplets(folder: Path) -> Iterator[Triplet]:
    """The triplets of a set."""
    for place in sorted(path.parent for path in folder.glob("*/middle.png")):
        first, middle, last = (
            np.ascontiguousarray(cv2.imread(str(place / f"{name}.png"))[..., ::-1])
            for name in ("first", "middle", "last")
        )
        yield place.name, first, middle, last


def film_triplets(film: Path, places: int, apart: int) -> Iterator[Triplet]:
    """Three frames, `apart` from each to the next, at even places of a film, in its own colours."""
    from midframe.training.build.frames import frame_to_rgb
    from midframe.video.clips import ClipReport, open_clip_reader

    with open_clip_reader(film) as opened:
        length = opened.duration or Fraction(1)
        for place in range(places):
            at = opened.start + length * (2 * place + 1) / (2 * places)
            passing = islice(opened.frames(at, at + apart, ClipReport()), 0, 2 * apart + 1, apart)
            frames = [np.array(frame_to_rgb(frame, opened.film, LARGEST)) for frame in passing]
            if len(frames) == 3:
                name = f"{film.stem}_{place}" if apart == 1 else f"{film.stem}_{place}_{apart}"
                yield name, *frames


def average(first: Picture, last: Picture) -> Picture:
    """The mean of both frames, halves up."""
    return ((first.astype(np.uint16) + last + 1) // 2).astype(np.uint8)


def dis(first: Picture, last: Picture) -> dict[str, Picture]:
    """What DIS optical flow makes of both frames, in both ways."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, last)]
    there, back = flow.calc(gray[0], gray[1], None), flow.calc(gray[1], gray[0], None)
    y, x = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
    made = {}
    for name, of_first, of_last in (("dis", there, back), ("dis, crossed", -back, -there)):
        total = np.zeros(first.shape, np.float32)
        for frame, motion in ((first, of_first), (last, of_last)):
            place = x - motion[..., 0] / 2, y - motion[..., 1] / 2
            total += cv2.remap(frame.astype(np.float32), *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        made[name] = np.clip(np.floor(total / 2 + 0.5), 0, 255).astype(np.uint8)
    return made


def psnr(made: Picture, true: Picture) -> float:
    """In dB, over the whole picture."""
    error = np.square(made.astype(np.float64) - true).mean()
    return 10 * math.log10(255**2 / max(error, 1e-10))


if __name__ == "__main__":
    main()
