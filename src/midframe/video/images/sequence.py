"""Read films whose frames are stored independently of each other: image sequences and animated WebP."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace

from midframe.errors import Cancelled, InputError
from midframe.video.frame import Frame
from midframe.video.pixels import DecodedPlanes, has_transparent_pixels
from midframe.video.probe import Film
from midframe.video.reader import ReadOptions, ReadReport


def read_image_frames(
    film: Film,
    report: ReadReport,
    decode: Callable[[int], DecodedPlanes],
    options: ReadOptions,
    cancelled: Callable[[], bool],
) -> Iterator[Frame]:
    """Decode the frames of a film with start <= time < end, each on its own, by `decode(index)`.

    The contract is that of `reader.read_frames`. `decode` raises `InputError` for a damaged image. That ends the film
    with this error, or, with `keep_going`, the image before it takes its place (`Frame.lost`). Transparent pixels
    raise `InputError` unless alpha is dropped.
    """
    ticks, base = film.ticks, film.time_base
    assert ticks is not None
    first = bisect_left(ticks, options.start / base) if options.start is not None else 0
    stop = bisect_left(ticks, options.end / base) if options.end is not None else len(ticks)
    previous: Frame | None = None
    for index in range(first, stop):
        if cancelled():
            raise Cancelled("stopped")
        time = ticks[index] * base
        duration = ticks[index + 1] * base - time if index + 1 < len(ticks) else film.last_duration
        try:
            planes, layout, alpha = decode(index)
        except InputError as error:
            if not options.keep_going:
                advice = "; --keep-going holds the picture before it" if previous else ""
                raise InputError(f"{error}; {report.frames} of {len(ticks)} pictures were read{advice}") from None
            if previous is None:
                raise InputError(f"{error}; there is no picture before it that --keep-going could hold") from None
            report.lost += 1
            report.messages[str(error)] += 1
            previous = replace(previous, time=time, duration=duration, lost=True)
            yield previous
            continue
        if alpha is not None and not options.drop_alpha and has_transparent_pixels(alpha, layout.depth):
            raise InputError(
                f"{film.path}: picture {index + 1} is transparent in places, and made frames have no transparency; "
                "--drop-alpha leaves it out"
            )
        report.frames += 1
        previous = Frame(planes, layout, time, duration)
        yield previous
