"""Where frames come from: a film, pictures, an animation, or a pipe, all read alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from midframe.conversion.settings import Settings
from midframe.video.frame import Frame
from midframe.video.images.names import is_image_sequence
from midframe.video.images.reader import probe_images, read_images
from midframe.video.images.webp_reader import probe_webp, read_webp
from midframe.video.probe import Film, probe
from midframe.video.reader import ReadOptions, ReadReport, read_frames, read_pipe, require_whole


class Read(Protocol):
    """Reads the frames of a source, reporting as it goes."""

    def __call__(self, report: ReadReport, cancelled: Callable[[], bool], /) -> Iterator[Frame]: ...


@dataclass(frozen=True)
class Source:
    """A film as understood, and the way to its frames."""

    film: Film
    read: Read


def open_source(path: str, settings: Settings, cancelled: Callable[[], bool] = lambda: False) -> Source:
    """Understand what is given as input.

    Raises `InputError`, one line, where nothing can be read from it or its end is missing, and `Cancelled`.
    """
    if path == "-" or _is_fifo(path):
        film, frames = read_pipe(path)
        return Source(film, frames)
    if is_image_sequence(path):
        film, reader = probe_images(path, settings.input_rate), read_images
    elif Path(path).suffix.lower() == ".webp":
        film, reader = probe_webp(path), read_webp
    else:
        film, reader = probe(path, cancelled), read_frames
        require_whole(film, settings.of_film(film.first_time).end, settings.keep_going)
    settings = settings.of_film(film.first_time)

    def read(report: ReadReport, cancelled: Callable[[], bool]) -> Iterator[Frame]:
        options = ReadOptions(
            start=settings.start,
            end=settings.end,
            keep_going=settings.keep_going,
            drop_alpha=settings.drop_alpha,
            deinterlace=settings.deinterlace,
        )
        return reader(film, report, options, cancelled)

    return Source(film, read)


def _is_fifo(path: str) -> bool:
    return Path(path).is_fifo()
