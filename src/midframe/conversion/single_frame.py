"""Interpolate one picture between two picture files (`midframe frame`)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from midframe.conversion.pairs import FramePair
from midframe.conversion.render import Renderer
from midframe.conversion.settings import Settings
from midframe.conversion.summary import Counts
from midframe.errors import InputError, SettingError
from midframe.video.frame import Frame
from midframe.video.image_names import IMAGE_SUFFIXES
from midframe.video.images.reader import probe_images, read_images
from midframe.video.images.writer import image_colour, image_layout, save_image
from midframe.video.probe import Film
from midframe.video.reader import ReadOptions, ReadReport
from midframe.video.sink import check_target
from midframe.video.timeline import Slot


def interpolate_files(first: str, second: str, target: str, time: Fraction, settings: Settings) -> dict[str, str]:
    """Interpolate the picture at `time` in (0, 1) between two picture files of one size and layout, and write it.

    Of the settings, `network`, `shader`, `device`, `drop_alpha` and `overwrite` are used. Returns what interpolated
    the picture: `network`, `shader`, `backend` and `device`. Raises `InputError`, `OutputError` or `SettingError`.
    """
    if not 0 < time < 1:
        raise SettingError(f"--time {float(time):g} does not lie between the pictures; give one above 0 and below 1")
    if Path(target).suffix.lower() not in IMAGE_SUFFIXES:
        raise SettingError(
            f"cannot tell from '{Path(target).name}' what to write; name it with one of {' '.join(IMAGE_SUFFIXES)}"
        )
    check_target(target, settings.overwrite)
    film, first_frame = _load_picture(first, settings)
    second_film, second_frame = _load_picture(second, settings)
    if (film.width, film.height, film.layout) != (second_film.width, second_film.height, second_film.layout):
        raise InputError(
            f"the pictures differ: {first} is {film.width}x{film.height} {film.layout.describe()}, "
            f"{second} is {second_film.width}x{second_film.height} {second_film.layout.describe()}"
        )
    layout = image_layout(target, film.layout)
    colour = image_colour(layout, film.colour)
    renderer = Renderer(settings, film.layout, film.colour, (layout, colour))
    pair = FramePair(
        first_frame,
        second_frame,
        (Slot(time=Fraction(0), duration=Fraction(1), position=time),),
        "repeat" if first_frame.same_picture(second_frame) else None,
    )
    picture = next(renderer.frames(pair, Counts()))
    save_image(picture, colour, target, overwrite=settings.overwrite)
    return renderer.names


def _load_picture(path: str, settings: Settings) -> tuple[Film, Frame]:
    """Return a picture file as a film of one frame, and that frame. Raises `InputError`."""
    if not Path(path).is_file():
        raise InputError(f"{path} is not a picture file" if Path(path).exists() else f"{path} does not exist")
    film = probe_images(path, Fraction(1))
    return film, next(read_images(film, ReadReport(), ReadOptions(drop_alpha=settings.drop_alpha)))
