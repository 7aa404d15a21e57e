"""Short pieces out of the middle of a film: seeks to each and decodes no more than it must, reads no packet twice.

    with open_excerpts("film.mkv") as film:
        for frame in film.frames(Fraction(60), Fraction(61), report): ...

Unlike `read_frames` this does not read every packet first, so nothing is known of a film but what its header says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error

from midframe.errors import InputError, error_reason
from midframe.video.damage import DamageLog
from midframe.video.frame import Frame
from midframe.video.pixels import planes_of
from midframe.video.probe import Film, decoding, describe_first, film_stream, first_frame, open_container


@dataclass
class ExcerptReport:
    """What was noticed while a piece was decoded.

    decoded: pictures that the decoder gave, those before the piece too; damaged: of these, as far as they belong to the
    piece, those marked as corrupt; messages: what the demuxer and the decoder complained of; interlaced: pictures
    of two fields; change: in words, that the picture's size or format is not that of the film's first frame.
    """

    decoded: int = 0
    damaged: int = 0
    interlaced: int = 0
    change: str | None = None
    messages: Counter[str] = field(default_factory=Counter)


@contextmanager
def open_excerpts(path: str | Path, threads: int = 1) -> Iterator[Excerpts]:
    """Open a film of which pieces are wanted. Raises `InputError` where no picture of it can be decoded.

    threads: of the decoder; with one, damaged films too are decoded the same way each time.
    """
    path = str(path)
    with open_container(path) as container:
        stream = film_stream(container, path)
        stream.codec_context.thread_count = threads
        first = first_frame(container, stream, path)
        if first.pts is None:
            raise InputError(
                f"{path}: its frames have no times, so that nothing can be found in it; copying its stream into a "
                "Matroska or mp4 file gives them times"
            )
        film = describe_first(container, stream, first, path)
        start = first.pts * film.time_base
        length = _length(container, stream)
        del first
        excerpts = Excerpts(film, start, length, container, stream, threads)
        try:
            yield excerpts
        finally:
            excerpts.close()


class Excerpts:
    """An opened film. `start` is its first frame's time, `length` in seconds by its header (None: it says nothing)."""

    def __init__(
        self,
        film: Film,
        start: Fraction,
        length: Fraction | None,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        threads: int,
    ) -> None:
        self.film = film
        self.start = start
        self.length = length
        self._container = container
        self._stream = stream
        self._threads = threads
        self._run: _Run | None = None

    def close(self) -> None:
        self._end_run()
        self._container.close()

    def frames(self, start: Fraction, end: Fraction, report: ExcerptReport) -> Iterator[Frame]:
        """The frames with start <= time < end, in order. Their planes may be the decoder's: they are only read.

        A frame that cannot be decoded is left out and noted; at a change of size or pixel format the piece ends. One
        piece is read at a time. Pieces that follow each other between two key frames are decoded in one go.
        """
        film = self.film
        run = self._run_to(start)
        report.messages = run.messages
        for picture in run:
            time = run.position
            report.decoded += 1
            if time < start:
                continue
            if time >= end:
                run.waiting = picture
                report.decoded -= 1
                return
            if (picture.width, picture.height, picture.format.name) != (film.width, film.height, film.pixel_format):
                report.change = (
                    f"another format: the picture changes from {film.width}x{film.height} {film.pixel_format} to "
                    f"{picture.width}x{picture.height} {picture.format.name}"
                )
                return
            report.damaged += picture.is_corrupt
            report.interlaced += picture.interlaced_frame
            planes, layout, _ = planes_of(picture)
            yield Frame(planes, layout, time)

    def _run_to(self, start: Fraction) -> _Run:
        """The pictures from one at or before `start` on. Where a seek lands behind it, the next aims further back."""
        if self._run is not None and self._run.position <= start and self._key_before(start) <= self._run.position:
            return self._run
        for back in (*BACK, None):
            target = None if back is None else start - back
            if target is not None and target < self.start:
                target = None
            if target is None and start - self.start > FAR:
                break
            self._end_run()
            messages: Counter[str] = Counter()
            run = _Run(self._decoded(target, messages), messages, self.film.time_base)
            self._run = run
            run.waiting = next(run, None)
            # What was said until now is of frames that were to be shown before the key frame.
            messages.clear()
            if target is None or (run.waiting is not None and run.position <= start):
                return run
        self._end_run()
        return _Run((_ for _ in ()), Counter(), self.film.time_base)

    def _end_run(self) -> None:
        if self._run is not None:
            self._run.pictures.close()
            self._run = None

    def _key_before(self, time: Fraction) -> Fraction:
        """The time to which the container's index would lead a seek; `time` itself where it has none."""
        entries = self._stream.index_entries
        found = entries.search_timestamp(int(time / self.film.time_base), backward=True) if len(entries) else -1
        return entries[found].timestamp * self.film.time_base if found >= 0 else time

    def _decoded(self, target: Fraction | None, messages: Counter[str]) -> Generator[av.VideoFrame, None, None]:
        """Decode from the key frame before a time on, or from the beginning; pictures without a time are left out."""
        if target is None or not self._seek(target):
            self._reopen()
        names = {self._container.format.name, self._stream.codec_context.name, self.film.codec}
        with DamageLog(names, messages), decoding(self._stream, "SLICE"):
            packets = self._container.demux(self._stream)
            while True:
                try:
                    packet = next(packets, None)
                    pictures = [] if packet is None else packet.decode()
                except (av.error.FFmpegError, OSError) as error:
                    messages[error_reason(error)] += 1
                    continue
                if packet is None:
                    return
                yield from (picture for picture in pictures if picture.pts is not None)

    def _seek(self, time: Fraction) -> bool:
        with suppress(av.error.FFmpegError, OSError):
            self._container.seek(int(time / self.film.time_base), stream=self._stream)
            return True
        return False

    def _reopen(self) -> None:
        self._container.close()
        self._container = open_container(self.film.path)
        stream = self._container.streams[self.film.index]
        assert isinstance(stream, av.VideoStream)
        stream.codec_context.thread_count = self._threads
        self._stream = stream


class _Run:
    """Pictures in order from a key frame on. `waiting`: one that was taken and is still to be given.

    position: the time of the last that was taken; messages: complaints since the first.
    """

    def __init__(
        self, pictures: Generator[av.VideoFrame, None, None], messages: Counter[str], time_base: Fraction
    ) -> None:
        self.pictures = pictures
        self.messages = messages
        self.time_base = time_base
        self.position = Fraction(0)
        self.waiting: av.VideoFrame | None = None

    def __iter__(self) -> _Run:
        return self

    def __next__(self) -> av.VideoFrame:
        picture, self.waiting = self.waiting or next(self.pictures), None
        assert picture.pts is not None
        self.position = picture.pts * Fraction(picture.time_base or self.time_base)
        return picture


FAR = Fraction(60)
"""Up to so many seconds from the beginning decoding may start there, where no seek leads to a piece."""

BACK = (Fraction(0), Fraction(1), Fraction(10))
"""How many seconds before the wanted time seeks aim, one after the other."""


def _length(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """How long the picture lasts, by the header: of the stream if it is given, else of the whole container."""
    if stream.duration and stream.time_base:
        return stream.duration * Fraction(stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    with suppress(ValueError):
        hours, minutes, seconds = (Fraction(part) for part in tag.split(":"))  # as Matroska has it
        return hours * 3600 + minutes * 60 + seconds
    return Fraction(container.duration, av.time_base) if container.duration else None
