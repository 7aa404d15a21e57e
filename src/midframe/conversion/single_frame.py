"""One picture from two."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from midframe.conversion.pairs import Held, Pair
from midframe.conversion.render import Renderer
from midframe.conversion.settings import Settings
from midframe.conversion.summary import Counts
from midframe.errors import InputError, SettingError
from midframe.video.frame import Frame
from midframe.video.images.names import IMAGE_SUFFIXES
from midframe.video.images.reader import probe_images, read_images
from midframe.video.images.writer import image_colour, image_layout, save_image
from midframe.video.probe import Film
from midframe.video.reader import ReadOptions, ReadReport
from midframe.video.sink import check_target
from midframe.video.timeline import Slot


def make_picture(first: str, second: str, target: str, time: Fraction, settings: Settings) -> dict[str, str]:
    """Make the picture at `time` in (0, 1) between two picture files of one size and type, and write it.

    Returns what made it (network, shader, backend, device). Raises `InputError`, `OutputError` or `SettingError`.
    """
    if not 0 < time < 1:
        raise SettingError(f"--time {float(time):g} does not lie between the pictures; give one above 0 and below 1")
    if Path(target).suffix.lower() not in IMAGE_SUFFIXES:
        raise SettingError(
            f"cannot tell from '{Path(target).name}' what to write; name it with one of {' '.join(IMAGE_SUFFIXES)}"
        )
    check_target(target, settings.overwrite)
    (film, a), (other, b) = _load(first, settings), _load(second, settings)
    if (film.width, film.height, film.layout) != (other.width, other.height, other.layout):
        raise InputError(
            f"the pictures differ: {first} is {film.width}x{film.height} {film.layout.describe()}, "
            f"{second} is {other.width}x{other.height} {other.layout.describe()}"
        )
    layout = image_layout(target, film.layout)
    colour = image_colour(layout, film.colour)
    maker = Renderer(settings, film.layout, film.colour, (layout, colour))
    held: Held | None = "same" if a.same_picture(b) else None
    pair = Pair(a, b, (Slot(Fraction(0), Fraction(1), time),), held)
    made = next(maker.frames(pair, Counts()))
    save_image(made, colour, target, overwrite=settings.overwrite)
    return maker.names


def _load(path: str, settings: Settings) -> tuple[Film, Frame]:
    if not Path(path).is_file():
        raise InputError(f"{path} is not a picture file" if Path(path).exists() else f"{path} does not exist")
    film = probe_images(path, Fraction(1))
    frame = next(read_images(film, ReadReport(), ReadOptions(drop_alpha=settings.drop_alpha)))
    return film, frame
