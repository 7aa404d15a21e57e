"""Open the source of a conversion: a film, an image sequence, an animation or a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from midframe.conversion.settings import Settings
from midframe.video.frame import Frame
from midframe.video.image_names import is_image_sequence
from midframe.video.images.reader import probe_images, read_images
from midframe.video.images.webp_reader import probe_webp, read_webp
from midframe.video.probe import Film, probe
from midframe.video.reader import ReadOptions, ReadReport, read_frames, read_pipe, require_complete


class FrameReader(Protocol):
    """Reads the frames of a source in order, and fills the report. Raises `InputError` and `Cancelled`."""

    def __call__(self, report: ReadReport, cancelled: Callable[[], bool], /) -> Iterator[Frame]: ...


@dataclass(frozen=True)
class Source:
    """A probed source, and the function that reads its frames."""

    film: Film
    read: FrameReader


def open_source(path: str, settings: Settings, cancelled: Callable[[], bool] = lambda: False) -> Source:
    """Probe a source.

    path: a film, a folder or pattern of pictures, an animation, or a pipe ("-" for standard input). Raises
    `InputError` if it cannot be read or its end is missing, and `Cancelled` once `cancelled` returns True.
    """
    if path == "-" or Path(path).is_fifo():
        film, read = read_pipe(path)
        return Source(film, read)
    if is_image_sequence(path):
        film, read_source = probe_images(path, settings.input_rate), read_images
    elif Path(path).suffix.lower() == ".webp":
        film, read_source = probe_webp(path), read_webp
    else:
        film, read_source = probe(path, cancelled), read_frames
        require_complete(film, settings.with_start(film.first_time).end, settings.keep_going)
    settings = settings.with_start(film.first_time)
    options = ReadOptions(
        start=settings.start,
        end=settings.end,
        keep_going=settings.keep_going,
        drop_alpha=settings.drop_alpha,
        deinterlace=settings.deinterlace,
    )
    return Source(film, lambda report, cancelled: read_source(film, report, options, cancelled))
