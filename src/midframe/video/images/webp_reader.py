"""Read animated WebP as a film. (FFmpeg reads GIF; it does not decode animated WebP.)"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from midframe.errors import InputError
from midframe.video.colour import colour_of_stream
from midframe.video.frame import Frame
from midframe.video.images.animation import ANIMATION_LAYOUT
from midframe.video.images.sequence import read_image_frames
from midframe.video.images.webp_file import decode_webp_frame, open_webp, parse_webp
from midframe.video.probe import Film
from midframe.video.reader import DEFAULT_OPTIONS, ReadOptions, ReadReport


def probe_webp(path: str, rate: Fraction = Fraction(25)) -> Film:
    """Describe an animated WebP as a film; a single picture is a film of one frame that lasts 1/rate seconds.

    Times are those of the file, in milliseconds. The file is held in memory while it is read. Raises `InputError` if it
    is no WebP or its first frame cannot be decoded. A file that is cut off counts up to its last whole frame
    (`ends_early`).
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    file = parse_webp(data, path)
    starts = list(accumulate((0, *file.durations[:-1])))
    ticks = array("q", sorted(set(starts)))
    total = sum(file.durations)
    with open_webp(file, path) as image:
        decode_webp_frame(image, 0, path)
        width, height, mode = image.width, image.height, image.mode
    last = Fraction(file.durations[-1], 1000) if file.durations and file.durations[-1] else 1 / rate
    cut = f"the file ends before its animation does, after {len(starts)} whole frames"
    return Film(
        path=path,
        container="webp",
        stream_index=0,
        codec="webp",
        width=width,
        height=height,
        pixel_format="rgba" if mode == "RGBA" else "rgb24",
        layout=ANIMATION_LAYOUT,
        colour=colour_of_stream(ANIMATION_LAYOUT, height=height, codec="webp"),
        time_base=Fraction(1, 1000),
        rate=Fraction(1000 * len(ticks), total) if total else rate,
        last_duration=last,
        ticks=ticks,
        duplicate_frames=len(starts) - len(ticks),
        has_alpha=mode == "RGBA",
        problems=() if file.complete else (cut,),
        ends_early=not file.complete,
    )


def read_webp(
    film: Film,
    report: ReadReport,
    options: ReadOptions = DEFAULT_OPTIONS,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Frame]:
    """Decode the frames of a probed WebP with start <= time < end. The contract is that of `reader.read_frames`."""
    if film.ends_early and not options.keep_going and (options.end is None or film.last_time < options.end):
        raise InputError(f"{film.path}: {film.problems[0]}; --keep-going converts what is there")
    file = parse_webp(Path(film.path).read_bytes(), film.path)
    # Of several frames at one time the first is taken: each frame that follows a frame with a duration.
    indices = [k for k, duration in enumerate((1, *file.durations[:-1])) if duration > 0]
    report.dropped += film.duplicate_frames
    with open_webp(file, film.path) as image:
        yield from read_image_frames(
            film,
            report,
            lambda k: decode_webp_frame(image, indices[k], film.path),
            options,
            cancelled,
        )
