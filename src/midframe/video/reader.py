"""Decoding: the frames of a film in order, each at its exact time, and every sign of damage noted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

import av
import av.container
import av.error
import numpy as np

from midframe.errors import Cancelled, InputError
from midframe.video.damage import DamageLog
from midframe.video.frame import Frame
from midframe.video.pixels import planes_of
from midframe.video.probe import Film, describe_first, first_frame, open_container, read_side_data

Deinterlace = Literal["off", "frame", "field"]


@dataclass
class ReadReport:
    """What happened while a film was read; filled as it goes."""

    frames: int = 0
    lost: int = 0
    damaged: int = 0
    first_damaged: Fraction | None = None
    dropped: int = 0
    unshown: int = 0
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
    """Decode the frames of a film with start <= time < end, in order.

    A frame that cannot be decoded raises `InputError`, which says how far it got; with `keep_going` a stand-in takes
    its place (`Frame.lost`). The same for a change of size, where with `keep_going` the film ends. Frames whose time
    does not rise are dropped. Everything noticed goes into `report`.
    """
    if film.ends_early and not keep_going and (end is None or film.last_time < end):
        raise InputError(f"{film.path}: {film.problems[0]}; --keep-going converts what is there")
    with open_container(film.path) as container:
        stream = container.streams[film.index]
        assert isinstance(stream, av.VideoStream)
        with DamageLog({container.format.name, stream.codec_context.name}) as log:
            try:
                yield from _Reading(film, report, keep_going, drop_alpha, cancelled).run(
                    container, stream, start, end, deinterlace
                )
            finally:
                # Waits for the decoder's threads without the interpreter's lock: one of them may want to log.
                stream.codec_context.flush_buffers()
                report.messages.update(log.messages)


def read_pipe(path: str) -> tuple[Film, Callable[[ReadReport, Callable[[], bool]], Iterator[Frame]]]:
    """A y4m stream that can be read only once: what it is, and the function that reads its frames."""
    try:
        container = av.open("pipe:0" if path == "-" else path, format="yuv4mpegpipe")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        name = "standard input" if path == "-" else path
        raise InputError(f"{name} is not a y4m stream: {error.strerror or error}") from None  # type: ignore[union-attr]
    stream = container.streams.video[0]
    first = first_frame(container, stream, "standard input" if path == "-" else path)
    film = describe_first(container, stream, first, path)

    def frames(report: ReadReport, cancelled: Callable[[], bool]) -> Iterator[Frame]:
        reading = _Reading(film, report, False, False, cancelled)
        with container:
            yield from reading.take(first)
            for packet in container.demux(stream):
                for frame in reading.decode(packet):
                    yield from reading.take(frame)

    return film, frames


class _Reading:
    """One pass over a film: where it stands among the times that are expected."""

    def __init__(
        self, film: Film, report: ReadReport, keep_going: bool, drop_alpha: bool, cancelled: Callable[[], bool]
    ) -> None:
        self.film = film
        self.report = report
        self.keep_going = keep_going
        self.drop_alpha = drop_alpha
        self.cancelled = cancelled
        self.expected = film.ticks
        self.next = 0
        self.stop = len(film.ticks) if film.ticks is not None else 0
        self.first_tick: int | None = None
        self.previous: Frame | None = None
        self.counter = 0
        self.over = False

    def run(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        start: Fraction | None,
        end: Fraction | None,
        deinterlace: Deinterlace,
    ) -> Iterator[Frame]:
        ticks, base = self.film.ticks, self.film.time_base
        assert ticks is not None
        if start is not None:
            self.next = bisect_left(ticks, start / base)
            self.first_tick = ticks[self.next] if self.next < len(ticks) else None
        if end is not None:
            self.stop = bisect_left(ticks, end / base)
        if self.next >= self.stop:
            return
        stream.thread_type = "AUTO"
        # A filter has to see the frames before the start, too; a decoder just restarts at a key frame.
        if start is not None and self.film.timed and self.next > 0 and deinterlace == "off":
            container.seek(ticks[self.next], stream=stream)
        pictures = self._pictures(container, stream)
        if deinterlace != "off":
            yield from self._deinterlaced(pictures, stream, deinterlace)
        else:
            for picture in pictures:
                yield from self.take(picture)
                if self.over or self.next >= self.stop:
                    break
        if not self.over:
            yield from self._fill(self.stop)

    def _pictures(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """Decoded pictures; a seek that landed too late is taken back."""
        fresh = self.first_tick is None
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                self.report.messages[f"reading stopped: {error.strerror or error}"] += 1
                packet = None
            if packet is None:
                return
            for picture in self.decode(packet):
                if not fresh and picture.pts is not None and picture.pts > (self.first_tick or 0):
                    container.seek(0)
                    packets = container.demux(stream)
                    fresh = True
                    break
                fresh = True
                yield picture

    def decode(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        if self.cancelled():
            raise Cancelled("stopped")
        try:
            return packet.decode()
        except av.error.FFmpegError as error:
            self.report.messages[f"{self.film.codec}: {error.strerror or error}"] += 1
            return []

    def take(self, picture: av.VideoFrame) -> Iterator[Frame]:
        """What one decoded picture gives: stand-ins for the frames missing before it, and its frame."""
        film, report = self.film, self.report
        base = Fraction(picture.time_base) if film.timed and picture.time_base else film.time_base
        tick = picture.pts if film.timed and picture.pts is not None else self.counter
        self.counter += 1
        time = tick * base
        if self.first_tick is not None and time < self.first_tick * film.time_base:
            return
        if self.previous is not None and time <= self.previous.time:
            report.dropped += 1
            return
        if self.expected is not None:
            at = bisect_left(self.expected, time / film.time_base, self.next)
            if at >= self.stop and time >= film.last_time + film.last_duration:
                report.dropped += 1
                return
            if self.previous is None and self.first_tick is None and at > self.next:
                report.unshown += at - self.next
                self.next = at
            yield from self._fill(at)
            self.next = max(self.next, at + 1)
        if (picture.width, picture.height, picture.format.name) != (film.width, film.height, film.pixel_format):
            change = (
                f"{film.path}: the picture changes from {film.width}x{film.height} {film.pixel_format} to "
                f"{picture.width}x{picture.height} {picture.format.name} at {float(time):.3f} s"
            )
            if not self.keep_going or self.previous is None:
                raise InputError(f"{change}; --keep-going ends the film there")
            report.ended_early = change
            self.over = True
            return
        if picture.is_corrupt:
            report.damaged += 1
            report.first_damaged = time if report.first_damaged is None else report.first_damaged
        if film.timed:
            report.losses.update(read_side_data(picture)[0])
        frame = self._frame(picture, time)
        report.frames += 1
        self.previous = frame
        yield frame

    def _frame(self, picture: av.VideoFrame, time: Fraction) -> Frame:
        planes, layout, alpha = planes_of(picture)
        if (
            alpha is not None
            and not self.drop_alpha
            and int(np.min(alpha)) < np.iinfo(alpha.dtype).max >> (alpha.dtype.itemsize * 8 - layout.depth)
        ):
            raise InputError(
                f"{self.film.path}: the picture at {float(time):.3f} s is transparent in places, and made frames have "
                "no transparency; --drop-alpha leaves it out"
            )
        duration = picture.duration * Fraction(picture.time_base) if picture.duration and picture.time_base else None
        return Frame(planes, layout, time, duration)

    def _fill(self, until: int) -> Iterator[Frame]:
        """Stand-ins for the expected frames that did not come, up to index `until`."""
        if self.expected is None or until <= self.next:
            return
        missing = range(self.next, until)
        time = self.expected[missing[0]] * self.film.time_base
        if not self.keep_going or self.previous is None:
            why = next(iter(self.report.messages), "no picture came for it")
            raise InputError(
                f"{self.film.path}: the frame at {float(time):.3f} s cannot be decoded ({why}); {self.report.frames} of "
                f"{len(self.expected)} frames were read; --keep-going holds the frame before it"
            )
        self.report.lost += len(missing)
        for k in missing:
            self.previous = replace(self.previous, time=self.expected[k] * self.film.time_base, lost=True)
            yield self.previous
        self.next = until

    def _deinterlaced(
        self, pictures: Iterator[av.VideoFrame], stream: av.VideoStream, deinterlace: Deinterlace
    ) -> Iterator[Frame]:
        """Frames through bwdif; with "field" the second picture of a frame lies half way to the next frame."""
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream)
        mode = "send_field" if deinterlace == "field" else "send_frame"
        bwdif = graph.add("bwdif", f"mode={mode}:parity=auto:deint=all")
        sink = graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        waiting: list[Frame] = []
        halves: list[tuple[Frame, bool]] = []

        def pulled() -> Iterator[av.VideoFrame]:
            while True:
                try:
                    yield graph.vpull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    return

        def emit(last: bool) -> Iterator[Frame]:
            while waiting and (last or len(waiting) > 1):
                frame = waiting.pop(0)
                until = waiting[0].time if waiting else frame.time + (frame.duration or self.film.last_duration)
                fields = 2 if deinterlace == "field" else 1
                for k in range(fields):
                    if not halves:
                        break
                    deinterlaced, _ = halves.pop(0)
                    span = (until - frame.time) / fields
                    yield replace(deinterlaced, time=frame.time + k * span, duration=span, lost=frame.lost)

        for picture in pictures:
            for frame in self.take(picture):
                waiting.append(frame)
                graph.vpush(picture)
                halves.extend((self._frame(p, frame.time), False) for p in pulled())
            yield from emit(last=False)
            if self.over or self.next >= self.stop:
                break
        graph.vpush(None)
        halves.extend((self._frame(p, Fraction(0)), False) for p in pulled())
        yield from emit(last=True)
