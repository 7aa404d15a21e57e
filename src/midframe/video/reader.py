"""Decoding: the frames of a film in order, each at its exact time, and every sign of damage noted."""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import av.container
import av.error
import numpy as np

from midframe.errors import Cancelled, InputError, error_reason
from midframe.video.damage import DamageLog
from midframe.video.deinterlace import Deinterlace, deinterlaced
from midframe.video.frame import Frame, Plane
from midframe.video.pixels import planes_of
from midframe.video.probe import Film, decoding, describe_first, first_frame, open_container, read_side_data

__all__ = ["Deinterlace", "ReadReport", "read_frames", "read_pipe", "require_whole"]


@dataclass
class ReadReport:
    """What happened while a film was read; filled as it goes."""

    frames: int = 0
    lost: int = 0
    damaged: int = 0
    first_damaged: Fraction | None = None
    dropped: int = 0
    ended_early: str | None = None
    losses: set[str] = field(default_factory=set)
    messages: Counter[str] = field(default_factory=Counter)


def read_frames(
    film: Film,
    report: ReadReport,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    keep_going: bool = False,
    drop_alpha: bool = False,
    deinterlace: Deinterlace = "off",
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Frame]:
    """Decode the frames of a film with start <= time < end, in order, each at the time that `film.ticks` says.

    With `deinterlace="field"` each frame gives two, the second half way to the next. A frame that cannot be decoded
    raises `InputError`, which says how far it got; with `keep_going` a stand-in takes its place (`Frame.lost`). The
    same for a change of size or pixel format, where with `keep_going` the film ends. Frames at times that were not
    expected are dropped. Everything noticed goes into `report`. Raises `Cancelled`.
    """
    require_whole(film, end, keep_going)
    ticks, base = film.ticks, film.time_base
    assert ticks is not None
    first = 0 if start is None else bisect_left(ticks, start / base)
    stop = len(ticks) if end is None else bisect_left(ticks, end / base)
    if first < stop:
        yield from _Reading(film, report, keep_going, drop_alpha, cancelled).run(first, stop, deinterlace)


def require_whole(film: Film, end: Fraction | None, keep_going: bool) -> None:
    """Raise `InputError` where the end of a film is missing, and wanted."""
    if film.ends_early and not keep_going and (end is None or film.last_time < end):
        why = next(iter(film.problems), "its end is missing")
        raise InputError(
            f"{film.path} is not whole: {why}; what is there ends at {float(film.last_time):.3f} s, "
            "--keep-going converts that"
        )


def read_pipe(path: str) -> tuple[Film, Callable[[ReadReport, Callable[[], bool]], Iterator[Frame]]]:
    """A y4m stream that can be read only once: what it is, and the function that reads its frames.

    That raises `InputError` where the stream ends within a frame.
    """
    name = "standard input" if path == "-" else path
    try:
        pipe = _Pipe(path)
        container = av.open(pipe, "r", format="yuv4mpegpipe")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{name} is not a y4m stream: {error_reason(error)}") from None
    stream = container.streams.video[0]
    first = first_frame(container, stream, name)
    film = describe_first(container, stream, first, name)

    def frames(report: ReadReport, cancelled: Callable[[], bool]) -> Iterator[Frame]:
        reading = _Reading(film, report, False, False, cancelled)
        with container, decoding(stream, "SLICE"):
            yield from reading.take((first,))
            for packet in reading.packets(container, stream):
                for picture in reading.decode(packet):
                    yield from reading.take((picture,))
        samples = sum(height * width for height, width in film.layout.sizes(film.width, film.height))
        stored = samples * np.dtype(film.layout.dtype).itemsize
        if pipe.given != pipe.stream_header + report.frames * (pipe.frame_header + stored):
            raise InputError(f"{name} ends within a frame, after {report.frames} whole ones")

    return film, frames


class _Pipe:
    """Standard input or a named pipe, read by FFmpeg; knows how much it has given, and how it began."""

    def __init__(self, path: str) -> None:
        self.file = open(0 if path == "-" else path, "rb", buffering=0, closefd=path != "-")  # noqa: SIM115
        self.given = 0
        self.beginning = b""

    def read(self, size: int) -> bytes:
        piece: bytes = self.file.read(size) or b""
        if len(self.beginning) < 4096:
            self.beginning += piece
        self.given += len(piece)
        return piece

    @property
    def stream_header(self) -> int:
        return self.beginning.index(b"\n") + 1

    @property
    def frame_header(self) -> int:
        return self.beginning.index(b"\n", self.stream_header) + 1 - self.stream_header


LOOK_EVERY = 25
"""Every how many frames a look is taken at what is beside the picture (closed captions, dynamic HDR metadata)."""


class _Reading:
    """One pass over a film: where it stands among the frames that are expected."""

    def __init__(
        self, film: Film, report: ReadReport, keep_going: bool, drop_alpha: bool, cancelled: Callable[[], bool]
    ) -> None:
        self.film = film
        self.report = report
        self.keep_going = keep_going
        self.drop_alpha = drop_alpha
        self.cancelled = cancelled
        self.fields = 1
        self.next = 0
        self.previous: Frame | None = None
        self.change: str | None = None
        self.tangled = False

    def run(self, first: int, stop: int, deinterlace: Deinterlace) -> Iterator[Frame]:
        """The frames number `first` to `stop` (not included)."""
        self.next = first
        self.fields = 2 if deinterlace == "field" else 1
        with closing(self._pictures(first)) as pictures:
            for shown in deinterlaced(self._alike(pictures), deinterlace):
                yield from self.take(shown)
                if self.next >= stop:
                    return
        if self.change is None:
            yield from self._stand_ins(stop, self.previous)
        elif self.keep_going and self.previous is not None:
            self.report.ended_early = self.change
        else:
            raise InputError(f"{self.film.path}: {self.change}; --keep-going ends the film there")

    def _pictures(self, first: int) -> Generator[av.VideoFrame, None, None]:
        """Decoded pictures from frame `first` or an earlier one on; a seek that landed too late is taken back."""
        ticks = self.film.ticks
        assert ticks is not None
        # From some frames earlier, as pictures right behind a key frame may refer to those before it.
        target = ticks[max(0, first - LEAD)] if self.film.timed and first > LEAD else None
        if target is not None:
            pictures = self._decoded(target)
            landed = next(pictures, None)
            if landed is not None and landed.pts is not None and landed.pts <= target:
                yield landed
                for number, picture in enumerate(pictures):
                    if number == LEAD // 2:
                        self.report.messages.clear()  # of pictures that refer to those before the key frame
                    yield picture
                return
            pictures.close()
            self.report.messages.clear()
        yield from self._decoded(None)

    def _decoded(self, target: int | None) -> Generator[av.VideoFrame, None, None]:
        """Decode the film, from the key frame before the tick `target`, or from its beginning."""
        film, messages = self.film, self.report.messages
        with open_container(film.path) as container:
            stream = container.streams[film.index]
            assert isinstance(stream, av.VideoStream)
            if target is not None:
                container.seek(target, stream=stream)
            components = {container.format.name, stream.codec_context.name, film.codec}
            shown = 0
            with DamageLog(components, messages), decoding(stream, "AUTO"):
                for packet in self.packets(container, stream):
                    for picture in self.decode(packet):
                        if not film.timed:
                            # Without times of their own frames are known by their order.
                            assert film.ticks is not None
                            picture.pts = film.ticks[shown] if shown < len(film.ticks) else None
                            picture.time_base = film.time_base
                            shown += 1
                        yield picture

    def packets(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.Packet[av.VideoStream]]:
        """The packets of a stream; where reading stops with an error, that is noted and the end."""
        try:
            for packet in container.demux(stream):
                if self.cancelled():
                    raise Cancelled("stopped")
                yield packet
        except (av.error.FFmpegError, OSError) as error:
            self.report.messages[f"reading stopped: {error_reason(error)}"] += 1

    def decode(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except av.error.FFmpegError as error:
            self.report.messages[f"{self.film.codec}: {error_reason(error)}"] += 1
            return []

    def _alike(self, pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The pictures up to the first of another size or pixel format, which is noted."""
        film = self.film
        for picture in pictures:
            if (picture.width, picture.height, picture.format.name) != (film.width, film.height, film.pixel_format):
                at = "" if picture.pts is None else f" at {float(picture.pts * Fraction(picture.time_base or 1)):.3f} s"
                self.change = (
                    f"the picture changes from {film.width}x{film.height} {film.pixel_format} to "
                    f"{picture.width}x{picture.height} {picture.format.name}{at}"
                )
                return
            yield picture

    def take(self, pictures: tuple[av.VideoFrame, ...]) -> Iterator[Frame]:
        """What one decoded picture (or its two fields) gives, and before it stand-ins for frames that are missing."""
        film, report, picture = self.film, self.report, pictures[0]
        if self.tangled:
            gc.collect(1)
            self.tangled = False
        number = self._number(picture)
        if number is None:
            return
        if picture.is_corrupt:
            report.damaged += 1
            report.first_damaged = self._span(number)[0] if report.first_damaged is None else report.first_damaged
        frames = self._frames(pictures, number)
        if film.ticks is not None and number % LOOK_EVERY == 0:
            frames = self._look_beside(pictures, frames)
        yield from self._stand_ins(number, self.previous or frames[0])
        report.frames += 1
        self.next = number + 1
        self.previous = frames[-1]
        yield from frames

    def _look_beside(self, pictures: tuple[av.VideoFrame, ...], frames: list[Frame]) -> list[Frame]:
        """Note what a picture has beside it that will be lost; returns the frames without the picture's buffers.

        In PyAV a picture whose side data were looked at and the side data hold each other: it stays in memory until
        Python looks for cycles. So this is done now and then, and cycles are looked for when the picture is gone.
        """
        self.report.losses.update(read_side_data(pictures[0])[0])
        self.tangled = True
        return [replace(frame, planes=tuple(plane.copy() for plane in frame.planes)) for frame in frames]

    def _number(self, picture: av.VideoFrame) -> int | None:
        """Which frame of the film a picture is; None for one that is not wanted, or was not expected at its time."""
        ticks = self.film.ticks
        if ticks is None:
            return self.next
        tick = None if picture.pts is None else picture.pts * Fraction(picture.time_base or 1) / self.film.time_base
        if tick is not None and (tick < ticks[0] or (self.previous is None and tick < ticks[self.next])):
            return None
        number = len(ticks) if tick is None else bisect_left(ticks, tick)
        if number < self.next or number == len(ticks) or ticks[number] != tick:
            self.report.dropped += 1
            return None
        return number

    def _span(self, number: int) -> tuple[Fraction, Fraction]:
        """When a frame is shown, and how long."""
        ticks, base = self.film.ticks, self.film.time_base
        if ticks is None:
            return number / self.film.rate, 1 / self.film.rate
        if number + 1 < len(ticks):
            return ticks[number] * base, (ticks[number + 1] - ticks[number]) * base
        last = self.film.last_duration
        return ticks[number] * base, last if self.fields == 1 else round(last / base) * base

    def _frames(self, pictures: tuple[av.VideoFrame, ...], number: int) -> list[Frame]:
        time, duration = self._span(number)
        step = duration / len(pictures)
        frames = []
        for k, picture in enumerate(pictures):
            planes, layout, alpha = planes_of(picture)
            if alpha is not None and not self.drop_alpha and _see_through(alpha, layout.depth):
                raise InputError(
                    f"{self.film.path}: the picture at {float(time):.3f} s is transparent in places, and made frames "
                    "have no transparency; --drop-alpha leaves it out"
                )
            frames.append(Frame(planes, layout, time + k * step, step))
        return frames

    def _stand_ins(self, until: int, model: Frame | None) -> Iterator[Frame]:
        """The frames from `next` up to number `until`, which did not come, with the picture of `model`."""
        film, report = self.film, self.report
        if film.ticks is None or until <= self.next:
            return
        if not self.keep_going or model is None:
            why = next(iter(report.messages), "no picture came for it")
            held = "; --keep-going holds the frame beside it" if not self.keep_going else ""
            raise InputError(
                f"{film.path}: the frame at {float(self._span(self.next)[0]):.3f} s cannot be decoded ({why}); "
                f"{report.frames} of {len(film.ticks)} frames were read{held}"
            )
        for number in range(self.next, until):
            report.lost += 1
            time, duration = self._span(number)
            step = duration / self.fields
            for k in range(self.fields):
                yield replace(model, time=time + k * step, duration=step, lost=True)
        self.next = until


LEAD = 32
"""How many frames before the first that is wanted decoding begins."""


def _see_through(alpha: Plane, depth: int) -> bool:
    return int(np.min(alpha)) < np.iinfo(alpha.dtype).max >> (alpha.dtype.itemsize * 8 - depth)
