"""Decode the frames of a film in order, each at its exact time, and report every sign of damage."""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import av.error
import numpy as np

from midframe.errors import InputError, error_reason
from midframe.video.deinterlace import Deinterlace, deinterlace_frames
from midframe.video.ffmpeg import ErrorSource, decode_first_frame, decode_frames, open_container
from midframe.video.frame import Frame
from midframe.video.pixels import has_transparent_pixels, planes_of
from midframe.video.probe import Film, describe_film, read_side_data


@dataclass(frozen=True)
class ReadOptions:
    """Which frames of a film are read, and how damage, transparency and interlacing are handled."""

    start: Fraction | None = None
    """Time in seconds from which on frames are read; None: from the first."""
    end: Fraction | None = None
    """Time in seconds before which frames are read; None: up to the last."""
    keep_going: bool = False
    """Read damaged films instead of raising `InputError`; frames that cannot be decoded are replaced by a neighbour."""
    drop_alpha: bool = False
    """Ignore transparency, instead of raising `InputError`."""
    deinterlace: Deinterlace = "off"


@dataclass
class ReadReport:
    """Number of frames and signs of damage of a film, counted while its frames are read."""

    frames: int = 0
    """Frames that were decoded."""
    lost: int = 0
    """Frames that could not be decoded and were replaced by a neighbour."""
    damaged: int = 0
    """Frames that FFmpeg decoded but marked as corrupt."""
    first_damaged: Fraction | None = None
    """Time of the first damaged frame, in seconds."""
    dropped: int = 0
    """Decoded frames that were left out because no frame was expected at their time."""
    ended_early: str | None = None
    """Why reading stopped before the end of the film, in words."""
    lost_side_data: set[str] = field(default_factory=set)
    """Kinds of side data of the frames that the output will lack, in words, such as "closed captions"."""
    messages: Counter[str] = field(default_factory=Counter)
    """Errors that FFmpeg raised or logged, and how often."""


DEFAULT_OPTIONS = ReadOptions()


def read_frames(
    film: Film,
    report: ReadReport,
    options: ReadOptions = DEFAULT_OPTIONS,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Frame]:
    """Decode the frames of a probed film, in order, each at its time in `film.ticks`, and fill the report.

    With `deinterlace="field"` each frame gives two, the second half way to the next frame. A frame that cannot be
    decoded raises `InputError`; with `keep_going` its neighbour takes its place (`Frame.lost`). A change of size or
    pixel format raises `InputError`; with `keep_going` the film ends there. Frames at times that are not in
    `film.ticks` are dropped. Raises `Cancelled` if `cancelled`, which is asked before each packet, returns true.
    """
    require_complete(film, options.end, options.keep_going)
    ticks, base = film.ticks, film.time_base
    assert ticks is not None
    first = 0 if options.start is None else bisect_left(ticks, options.start / base)
    stop = len(ticks) if options.end is None else bisect_left(ticks, options.end / base)
    if first < stop:
        yield from _FrameReader(film, report, options, cancelled).read(first, stop)


def require_complete(film: Film, end: Fraction | None, keep_going: bool) -> None:
    """Raise `InputError` if the end of the film is missing and frames after the last one are wanted (before `end`).

    With `keep_going` nothing is raised.
    """
    if film.ends_early and not keep_going and (end is None or film.last_time < end):
        reason = next(iter(film.problems), "its end is missing")
        raise InputError(
            f"{film.path} is not complete: {reason}; its last frame is at {float(film.last_time):.3f} s, "
            "--keep-going converts the film up to there"
        )


def read_pipe(path: str) -> tuple[Film, Callable[[ReadReport, Callable[[], bool]], Iterator[Frame]]]:
    """Open a y4m stream that can be read only once: a named pipe, or standard input ("-").

    Returns the film's description and a function that yields its frames; its arguments are `report` and `cancelled` of
    `read_frames`. The function raises `InputError` if the stream ends within a frame.
    """
    name = "standard input" if path == "-" else path
    try:
        pipe = _CountingPipe(path)
        container = av.open(pipe, "r", format="yuv4mpegpipe")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{name} is not a y4m stream: {error_reason(error)}") from None
    stream = container.streams.video[0]
    first = decode_first_frame(container, stream, name)
    film = describe_film(container, stream, first, name)

    def read(report: ReadReport, cancelled: Callable[[], bool]) -> Iterator[Frame]:
        reader = _FrameReader(film, report, DEFAULT_OPTIONS, cancelled)
        with container:
            yield from reader.accept((first,))
            with closing(decode_frames(container, stream, reader.note_error, cancelled=cancelled)) as pictures:
                for picture in pictures:
                    yield from reader.accept((picture,))
        samples = sum(height * width for height, width in film.layout.sizes(film.width, film.height))
        frame_size = samples * np.dtype(film.layout.dtype).itemsize
        if pipe.bytes_read != pipe.stream_header_size + report.frames * (pipe.frame_header_size + frame_size):
            raise InputError(f"{name} ends within a frame, after {report.frames} complete ones")

    return film, read


class _CountingPipe:
    """A pipe for FFmpeg to read a y4m stream from; it counts the bytes and knows the sizes of the headers."""

    def __init__(self, path: str) -> None:
        self.file = open(0 if path == "-" else path, "rb", buffering=0, closefd=path != "-")  # noqa: SIM115
        self.bytes_read = 0
        self.head = b""

    def read(self, size: int) -> bytes:
        piece: bytes = self.file.read(size) or b""
        if len(self.head) < 4096:
            self.head += piece
        self.bytes_read += len(piece)
        return piece

    @property
    def stream_header_size(self) -> int:
        return self.head.index(b"\n") + 1

    @property
    def frame_header_size(self) -> int:
        return self.head.index(b"\n", self.stream_header_size) + 1 - self.stream_header_size


SEEK_MARGIN = 32
"""Decoding starts this many frames early, because the first ones after the key frame may refer to frames before it."""

SIDE_DATA_INTERVAL = 25
"""Side data (closed captions, dynamic HDR metadata) is read from one in this many frames."""


class _FrameReader:
    """One pass over a film, which turns decoded pictures (`av.VideoFrame`) into the film's frames (`Frame`)."""

    def __init__(self, film: Film, report: ReadReport, options: ReadOptions, cancelled: Callable[[], bool]) -> None:
        self.film = film
        self.report = report
        self.options = options
        self.cancelled = cancelled
        self.pictures_per_frame = 2 if options.deinterlace == "field" else 1
        self.next_number = 0
        """Number of the frame that is expected next."""
        self.previous: Frame | None = None
        """The frame that was yielded last."""
        self.format_change: str | None = None
        """The change of size or pixel format at which reading ended, in words."""
        self.garbage_cycles = False
        """Whether a picture that is no longer needed can only be freed by the cycle collector."""

    def read(self, first: int, stop: int) -> Iterator[Frame]:
        """Yield the frames from number `first` up to number `stop`, which is not included."""
        self.next_number = first
        with closing(self._decode_from(first)) as pictures:
            for fields in deinterlace_frames(self._until_format_change(pictures), self.options.deinterlace):
                yield from self.accept(fields)
                if self.next_number >= stop:
                    return
        if self.format_change is None:
            yield from self._replace_missing(stop, self.previous)
        elif self.options.keep_going and self.previous is not None:
            self.report.ended_early = self.format_change
        else:
            raise InputError(f"{self.film.path}: {self.format_change}; --keep-going ends the film there")

    def accept(self, pictures: tuple[av.VideoFrame, ...]) -> Iterator[Frame]:
        """Yield the frames of one decoded picture (or of its two fields), after copies for missing ones."""
        report, picture = self.report, pictures[0]
        if self.garbage_cycles:
            gc.collect(1)
            self.garbage_cycles = False
        number = self._frame_number(picture)
        if number is None:
            return
        if picture.is_corrupt:
            report.damaged += 1
            report.first_damaged = self._time_of(number)[0] if report.first_damaged is None else report.first_damaged
        frames = self._make_frames(pictures, number)
        if self.film.ticks is not None and number % SIDE_DATA_INTERVAL == 0:
            self._note_side_data(picture)
            frames = [replace(frame, planes=tuple(plane.copy() for plane in frame.planes)) for frame in frames]
        yield from self._replace_missing(number, self.previous or frames[0])
        report.frames += 1
        self.next_number = number + 1
        self.previous = frames[-1]
        yield from frames

    def note_error(self, source: ErrorSource, text: str) -> None:
        """Count an error of FFmpeg in the report."""
        self.report.messages[f"reading stopped: {text}" if source == "demuxer" else f"{self.film.codec}: {text}"] += 1

    def _decode_from(self, first: int) -> Generator[av.VideoFrame, None, None]:
        """Decode the film from frame `first` or an earlier one; from its beginning if a seek lands too late."""
        ticks = self.film.ticks
        assert ticks is not None
        if self.film.has_timestamps and first > SEEK_MARGIN:
            target = ticks[first - SEEK_MARGIN]
            with closing(self._decode(target)) as pictures:
                landed = next(pictures, None)
                if landed is not None and landed.pts is not None and landed.pts <= target:
                    yield landed
                    del landed
                    for number, picture in enumerate(pictures):
                        if number == SEEK_MARGIN // 2:
                            # Errors so far come from pictures that refer to others before the key frame.
                            self.report.messages.clear()
                        yield picture
                    return
            self.report.messages.clear()
        yield from self._decode(None)

    def _decode(self, target: int | None) -> Generator[av.VideoFrame, None, None]:
        """Decode the film from the key frame before tick `target`, or from its beginning (None)."""
        film = self.film
        with open_container(film.path) as container:
            stream = container.streams[film.stream_index]
            assert isinstance(stream, av.VideoStream)
            if target is not None:
                container.seek(target, stream=stream)
            pictures = decode_frames(
                container,
                stream,
                self.note_error,
                threads="AUTO",
                messages=self.report.messages,
                cancelled=self.cancelled,
            )
            yield from pictures if film.has_timestamps else self._with_ticks(pictures)

    def _with_ticks(self, pictures: Generator[av.VideoFrame, None, None]) -> Generator[av.VideoFrame, None, None]:
        """Give the pictures of a film without timestamps the times of its frames, in order."""
        ticks = self.film.ticks
        assert ticks is not None
        with closing(pictures):
            for number, picture in enumerate(pictures):
                picture.pts = ticks[number] if number < len(ticks) else None
                picture.time_base = self.film.time_base
                yield picture

    def _until_format_change(self, pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yield the pictures up to the first one of another size or pixel format, and note that in `format_change`."""
        film = self.film
        for picture in pictures:
            if (picture.width, picture.height, picture.format.name) != (film.width, film.height, film.pixel_format):
                at = "" if picture.pts is None else f" at {float(picture.pts * Fraction(picture.time_base or 1)):.3f} s"
                self.format_change = (
                    f"the picture changes from {film.width}x{film.height} {film.pixel_format} to "
                    f"{picture.width}x{picture.height} {picture.format.name}{at}"
                )
                return
            yield picture

    def _frame_number(self, picture: av.VideoFrame) -> int | None:
        """Return the number of the frame that a picture shows; None if it is not wanted or no frame has its time."""
        ticks = self.film.ticks
        if ticks is None:
            return self.next_number
        tick = None if picture.pts is None else picture.pts * Fraction(picture.time_base or 1) / self.film.time_base
        if tick is not None and (tick < ticks[0] or (self.previous is None and tick < ticks[self.next_number])):
            return None
        number = len(ticks) if tick is None else bisect_left(ticks, tick)
        if number < self.next_number or number == len(ticks) or ticks[number] != tick:
            self.report.dropped += 1
            return None
        return number

    def _time_of(self, number: int) -> tuple[Fraction, Fraction]:
        """Return the time and the duration of a frame, in seconds."""
        ticks, base = self.film.ticks, self.film.time_base
        if ticks is None:
            return number / self.film.rate, 1 / self.film.rate
        if number + 1 < len(ticks):
            return ticks[number] * base, (ticks[number + 1] - ticks[number]) * base
        duration = self.film.last_duration
        if self.pictures_per_frame == 2:
            duration = round(duration / base) * base  # as for all other frames, a whole number of ticks
        return ticks[number] * base, duration

    def _make_frames(self, pictures: tuple[av.VideoFrame, ...], number: int) -> list[Frame]:
        """Return the frames of a picture, or of its two fields. Raises `InputError` if it has transparent pixels."""
        time, duration = self._time_of(number)
        step = duration / len(pictures)
        frames = []
        for k, picture in enumerate(pictures):
            planes, layout, alpha = planes_of(picture)
            if alpha is not None and not self.options.drop_alpha and has_transparent_pixels(alpha, layout.depth):
                raise InputError(
                    f"{self.film.path}: the picture at {float(time):.3f} s is transparent in places, and made frames "
                    "have no transparency; --drop-alpha leaves it out"
                )
            frames.append(Frame(planes, layout, time + k * step, step))
        return frames

    def _note_side_data(self, picture: av.VideoFrame) -> None:
        """Note in the report the side data of a picture that the output will lack.

        In PyAV a picture and its side data, once read, refer to each other: the picture stays in memory until Python
        collects cycles. Therefore side data is read from few pictures only, and cycles are collected when the next
        picture comes. Until then nothing else may refer to the picture, so its frames need copies of its planes.
        """
        self.report.lost_side_data.update(read_side_data(picture).lost)
        self.garbage_cycles = True

    def _replace_missing(self, stop: int, neighbour: Frame | None) -> Iterator[Frame]:
        """Yield copies of a neighbour for the frames from `next_number` up to number `stop`, which were not decoded.

        Raises `InputError` unless `keep_going` is set and there is a neighbour.
        """
        film, report = self.film, self.report
        if film.ticks is None or stop <= self.next_number:
            return
        if not self.options.keep_going or neighbour is None:
            reason = next(iter(report.messages), "the decoder gave no picture for it")
            advice = "; --keep-going repeats its neighbour" if not self.options.keep_going else ""
            missing = float(self._time_of(self.next_number)[0])
            raise InputError(
                f"{film.path}: the frame at {missing:.3f} s cannot be decoded ({reason}); "
                f"{report.frames} of {len(film.ticks)} frames were read{advice}"
            )
        for number in range(self.next_number, stop):
            report.lost += 1
            time, duration = self._time_of(number)
            step = duration / self.pictures_per_frame
            for k in range(self.pictures_per_frame):
                yield replace(neighbour, time=time + k * step, duration=step, lost=True)
        self.next_number = stop
