"""Convert a film, or a drawn one, and lay a made frame beside its neighbours: `make demo [INPUT=film.mp4]`.

`python scripts/demo.py --strip docs/images/demo-strip.jpg` draws the picture of the README.
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out"
HEIGHT = 360
"""The height of a strip's pictures."""


def main() -> None:
    """Draw a film where none is given, convert it, and write the strip."""
    from midframe import convert

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", nargs="?", type=Path)
    parser.add_argument("--strip", type=Path)
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    source = given.film or drawn_film(OUT / "demo.mp4")
    target = OUT / f"{source.stem}-smooth.mp4"
    print(f"converting {source} ...")
    summary = convert(source, target, overwrite=True)
    for warning in summary.warnings:
        print(f"  note: {warning}")
    counts = summary.counts
    print(f"the film:  {target}  ({counts.read} frames became {counts.written}, {counts.made} of them made)")
    picture = given.strip or OUT / f"{source.stem}-strip.png"
    place = strip(source, target, picture)
    print(f"the strip: {picture}  (first, made, second, at {float(place):.2f} s)")


def drawn_film(path: Path) -> Path:
    """Two seconds of moving textured shapes behind a static caption, with sound."""
    sys.path.insert(0, str(ROOT / "tests"))
    from films import AudioTrack, Film, draw

    film = Film(640, 360, frames=48, rate=Fraction(24), speed=(5.0, 2.0), caption=True, audio=(AudioTrack(),))
    return draw(film, path)


def strip(source: Path, target: Path, picture: Path) -> Fraction:
    """Write two source frames and the frame made between them side by side; returns the first one's time.

    Of some places in the film, the one where most moves (but no cut) is shown.
    """
    frames = sampled(source, 12)
    moving = [(float(np.abs(a[1] - b[1]).mean()), a[0], b[0]) for a, b in zip(frames[::2], frames[1::2], strict=False)]
    _, first, second = max((m for m in moving if m[0] < 60), default=moving[0])
    shown = [at(target, time) for time in (first, (first + second) / 2, second)]
    width = shown[0].width
    sheet = Image.new("RGB", (width * 3 + 16, HEIGHT + 28), "white")
    for k, (name, image) in enumerate(zip(("first", "made", "second"), shown, strict=True)):
        sheet.paste(image, (k * (width + 8), 28))
        ImageDraw.Draw(sheet).text((k * (width + 8) + 4, 8), name, fill="black")
    sheet.save(picture, quality=88)
    return first


def sampled(path: Path, places: int) -> list[tuple[Fraction, np.ndarray]]:
    """Pairs of neighbouring frames from all over a film: (time, small gray picture), two for each place."""
    pairs: list[tuple[Fraction, np.ndarray]] = []
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        frames = [
            (frame.pts * Fraction(frame.time_base), frame.reformat(width=64, height=36, format="gray"))
            for frame in container.decode(stream)
        ]
    for k in np.linspace(0, len(frames) - 2, min(places, len(frames) - 1)).astype(int):
        pairs += [(time, small.to_ndarray().astype(float)) for time, small in frames[k : k + 2]]
    return pairs


def at(path: Path, time: Fraction) -> Image.Image:
    """The frame of a film nearest to a time, at the strip's height."""
    best: tuple[Fraction, Image.Image] | None = None
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            distance = abs(frame.pts * Fraction(frame.time_base) - time)
            if best is None or distance < best[0]:
                best = (distance, frame.to_image(height=HEIGHT, width=round(frame.width * HEIGHT / frame.height)))
            elif distance > best[0]:
                break
    assert best is not None
    return best[1]


if __name__ == "__main__":
    main()
