"""Convert a film, and draw an interpolated frame between its neighbours: `make demo [INPUT=film.mp4]`.

Without INPUT a film is drawn. `python scripts/demo.py --strip docs/images/demo-strip.jpg` draws the picture of the
README; `--start 2 --seconds 1` converts only that part of a film.
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
OUT_FOLDER = ROOT / "out"
"""Folder of the converted film and the strip."""
STRIP_HEIGHT = 360
"""Height of the pictures in the strip, in pixels."""

CUT_DIFFERENCE = 60
"""Mean difference of gray values above which two frames are taken to belong to different shots."""


def main() -> None:
    """Draw a film if none is given, convert it, and write the strip."""
    from midframe import convert

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", nargs="?", type=Path)
    parser.add_argument("--start", type=Fraction, help="convert from this time on, in seconds")
    parser.add_argument("--seconds", type=Fraction, help="convert this many seconds")
    parser.add_argument("--network", default="default", help="name of a network, or weights file")
    parser.add_argument("--strip", type=Path, help="picture to write, by default out/FILM-strip.png")
    options = parser.parse_args()
    OUT_FOLDER.mkdir(exist_ok=True)
    source = options.film or draw_film(OUT_FOLDER / "demo.mp4")
    target = OUT_FOLDER / f"{source.stem}-smooth.mp4"
    print(f"converting {source} ...")
    summary = convert(
        source,
        target,
        network=options.network,
        start=options.start,
        duration=options.seconds,
        overwrite=True,
        progress=ProgressPrinter().show,
    )
    for warning in summary.warnings:
        print(f"  warning: {warning}")
    counts = summary.counts
    frames = f"{counts.read} frames became {counts.written}, {counts.interpolated} of them interpolated"
    print(f"the film:  {target}  ({frames})")
    picture = options.strip or OUT_FOLDER / f"{source.stem}-strip.png"
    time_shown = draw_strip(target, picture)
    print(f"the strip: {picture}  (first, interpolated, second, at {float(time_shown):.2f} s)")


class ProgressPrinter:
    """Prints the progress of a conversion every few seconds."""

    INTERVAL = 5.0
    """Seconds between two lines."""

    def __init__(self) -> None:
        self.last_line = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Print a line if the last one is old enough."""
        if progress.stage == "convert" and time.monotonic() - self.last_line >= self.INTERVAL:
            self.last_line = time.monotonic()
            print(f"  {progress.written} of {progress.total} frames", flush=True)


def draw_film(path: Path) -> Path:
    """Draw a second of textured shapes that move behind a static caption, with sound."""
    sys.path.insert(0, str(ROOT / "tests"))
    from films import AudioTrack, Film, draw

    film = Film(640, 360, frames=25, rate=Fraction(25), speed=(14.0, 5.0), caption=True, audio=(AudioTrack(),))
    return draw(film, path)


def draw_strip(film: Path, picture: Path) -> Fraction:
    """Draw an interpolated frame between its neighbours; return the time of the first one.

    film: converted with factor 2, so every second frame is a source frame. The pair with the largest difference within
    a shot is shown.
    """
    thumbnails = [
        (time, frame.reformat(width=64, height=36, format="gray").to_ndarray().astype(float))
        for time, frame in decode(film)
    ]
    differences = [
        (float(np.abs(thumbnails[k][1] - thumbnails[k + 2][1]).mean()), k) for k in range(0, len(thumbnails) - 2, 2)
    ]
    if not differences:
        raise SystemExit(f"{film} has no interpolated frame to show")
    _, first = max((pair for pair in differences if pair[0] < CUT_DIFFERENCE), default=differences[0])
    shown = [
        frame.to_image(height=STRIP_HEIGHT, width=round(frame.width * STRIP_HEIGHT / frame.height))
        for number, (_, frame) in enumerate(decode(film))
        if first <= number <= first + 2
    ]
    width = shown[0].width
    sheet = Image.new("RGB", (width * 3 + 16, STRIP_HEIGHT + 28), "white")
    for n, (name, image) in enumerate(zip(("first", "interpolated", "second"), shown, strict=True)):
        sheet.paste(image, (n * (width + 8), 28))
        ImageDraw.Draw(sheet).text((n * (width + 8) + 4, 4), name, fill="black", font=ImageFont.load_default(16))
    sheet.save(picture, quality=88)
    return thumbnails[first][0]


def decode(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Decode a film; yield the time of each frame in seconds, and the frame."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        for frame in container.decode(stream):
            yield frame.pts * Fraction(frame.time_base), frame


if __name__ == "__main__":
    main()
