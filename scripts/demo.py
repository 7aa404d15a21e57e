"""Convert a film, or a drawn one, and lay a made frame beside its neighbours: `make demo [INPUT=film.mp4]`.

`python scripts/demo.py --strip docs/images/demo-strip.jpg` draws the picture of the README; `--start 2 --seconds 1`
converts only that part of a film.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from midframe.conversion import Progress

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out"
HEIGHT = 360
"""The height of a strip's pictures."""
CUT = 60
"""Mean change of gray from which two frames are taken for different shots."""


def main() -> None:
    """Draw a film where none is given, convert it, and write the strip."""
    from midframe import convert

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", nargs="?", type=Path)
    parser.add_argument("--start", type=Fraction)
    parser.add_argument("--seconds", type=Fraction)
    parser.add_argument("--network", default="default")
    parser.add_argument("--strip", type=Path)
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    source = given.film or drawn_film(OUT / "demo.mp4")
    target = OUT / f"{source.stem}-smooth.mp4"
    print(f"converting {source} ...")
    summary = convert(
        source,
        target,
        network=given.network,
        start=given.start,
        duration=given.seconds,
        overwrite=True,
        progress=Told().show,
    )
    for warning in summary.warnings:
        print(f"  note: {warning}")
    counts = summary.counts
    print(f"the film:  {target}  ({counts.read} frames became {counts.written}, {counts.interpolated} of them made)")
    picture = given.strip or OUT / f"{source.stem}-strip.png"
    place = strip(target, picture)
    print(f"the strip: {picture}  (first, made, second, at {float(place):.2f} s)")


class Told:
    """Says every few seconds how far a conversion is."""

    EVERY = 5.0

    def __init__(self) -> None:
        self.last = time.monotonic()

    def show(self, now: Progress) -> None:
        if now.stage == "convert" and time.monotonic() - self.last >= self.EVERY:
            self.last = time.monotonic()
            print(f"  {now.written} of {now.total} frames", flush=True)


def drawn_film(path: Path) -> Path:
    """A second of textured shapes that move behind a static caption, with sound."""
    sys.path.insert(0, str(ROOT / "tests"))
    from films import AudioTrack, Film, draw

    film = Film(640, 360, frames=25, rate=Fraction(25), speed=(14.0, 5.0), caption=True, audio=(AudioTrack(),))
    return draw(film, path)


def strip(film: Path, picture: Path) -> Fraction:
    """Write a made frame between its neighbours, out of a film of two frames for one; returns the first one's time.

    The place is where most moves between frames of one shot. Every second frame of such a film is a source frame.
    """
    small = [
        (when, frame.reformat(width=64, height=36, format="gray").to_ndarray().astype(float))
        for when, frame in decoded(film)
    ]
    places = [(float(np.abs(small[k][1] - small[k + 2][1]).mean()), k) for k in range(0, len(small) - 2, 2)]
    if not places:
        raise SystemExit(f"{film} has no made frame to show")
    _, k = max((place for place in places if place[0] < CUT), default=places[0])
    shown = [
        frame.to_image(height=HEIGHT, width=round(frame.width * HEIGHT / frame.height))
        for number, (_, frame) in enumerate(decoded(film))
        if k <= number <= k + 2
    ]
    width = shown[0].width
    sheet = Image.new("RGB", (width * 3 + 16, HEIGHT + 28), "white")
    for n, (name, image) in enumerate(zip(("first", "made", "second"), shown, strict=True)):
        sheet.paste(image, (n * (width + 8), 28))
        ImageDraw.Draw(sheet).text((n * (width + 8) + 4, 4), name, fill="black", font=ImageFont.load_default(16))
    sheet.save(picture, quality=88)
    return small[k][0]


def decoded(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """The frames of a film's picture with their times."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        for frame in container.decode(stream):
            yield frame.pts * Fraction(frame.time_base), frame


if __name__ == "__main__":
    main()
