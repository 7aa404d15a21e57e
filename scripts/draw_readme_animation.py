"""Draw the animation of the README: a film at its own frame rate beside the same film with four times the frames.

    python scripts/draw_readme_animation.py [--out docs/images/smooth.webp] [--network default]

The film is drawn: a second of textured shapes at 12.5 frames a second. Both halves play at 50 frames a second; on the
left each source frame is shown four times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from demo import decode
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
RATE = Fraction(25, 2)
"""Frames a second of the film that is drawn."""
FACTOR = 4
SIZE = (384, 216)
"""Width and height of the film in pixels."""
LABEL_HEIGHT = 22
"""Height of the line of text above each half, in pixels."""


def main() -> None:
    """Draw the film, convert it, and write the animation."""
    from midframe import convert

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "smooth.webp")
    parser.add_argument("--network", default="default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = draw_film(Path(folder) / "film.mkv")
        target = Path(folder) / "smooth.mkv"
        convert(source, target, network=options.network, factor=FACTOR, encoder="ffv1")
        frames = [frame.to_image() for _, frame in decode(target)]
    pictures = [side_by_side(frames[number - number % FACTOR], frame) for number, frame in enumerate(frames)]
    duration = round(1000 / (FACTOR * RATE))
    pictures[0].save(
        options.out, save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=60, method=6
    )
    print(f"{options.out}: {len(pictures)} frames, {options.out.stat().st_size / 1e6:.2f} MB")


def draw_film(path: Path) -> Path:
    """Draw the film that is shown."""
    sys.path.insert(0, str(ROOT / "tests"))
    from films import Film, draw

    film = Film(*SIZE, frames=14, rate=RATE, speed=(11.0, 4.0), caption=True, codec="ffv1")
    return draw(film, path)


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return both pictures beside each other, with a line of text above each."""
    width, height = left.size
    sheet = Image.new("RGB", (2 * width + 8, height + LABEL_HEIGHT), "white")
    labels = (f"{float(RATE):g} frames a second", f"{float(FACTOR * RATE):g} frames a second, by Midframe")
    for place, (label, picture) in enumerate(zip(labels, (left, right), strict=True)):
        x = place * (width + 8)
        sheet.paste(picture, (x, LABEL_HEIGHT))
        ImageDraw.Draw(sheet).text((x + 4, 3), label, fill="black", font=ImageFont.load_default(14))
    return sheet


if __name__ == "__main__":
    main()
