"""Short pieces out of the middle of a film: seeks to each and decodes no more than it must, reads no packet twice.

    with open_excerpts("film.mkv") as film:
        for frame in film.frames(Fraction(60), Fraction(61), report): ...

Unlike `read_frames` this does not read every packet first, so nothing is known of a film but what its header says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error

from midframe.errors import InputError
from midframe.video.damage import DamageLog
from midframe.video.frame import Frame
from midframe.video.pixels import planes_of
from midframe.video.probe import Film, decoding, describe_first, film_stream, first_frame, open_container
from midframe.video.scan import reason


@dataclass
class ExcerptReport:
    """What was noticed while a piece was decoded.

    damaged: pictures marked as corrupt; messages: what the demuxer and the decoder complained of; interlaced: pictures
    of two fields; change: in words, that the picture's size or format is not that of the film's first frame.
    """

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

    def close(self) -> None:
        self._container.close()

    def frames(self, start: Fraction, end: Fraction, report: ExcerptReport) -> Iterator[Frame]:
        """The frames with start <= time < end, in order. Their planes may be the decoder's: they are only read.

        A frame that cannot be decoded is left out and noted; at a change of size or pixel format the piece ends.
        """
        film = self.film
        for picture in self._pictures(start, report):
            assert picture.pts is not None
            time = picture.pts * Fraction(picture.time_base or film.time_base)
            if time < start:
                continue
            if time >= end:
                return
            if (picture.width, picture.height, picture.format.name) != (film.width, film.height, film.pixel_format):
                report.change = (
                    f"the picture changes from {film.width}x{film.height} {film.pixel_format} to "
                    f"{picture.width}x{picture.height} {picture.format.name}"
                )
                return
            report.damaged += picture.is_corrupt
            report.interlaced += picture.interlaced_frame
            planes, layout, _ = planes_of(picture)
            yield Frame(planes, layout, time)

    def _pictures(self, start: Fraction, report: ExcerptReport) -> Iterator[av.VideoFrame]:
        """Pictures from one at or before `start` on. Where a seek lands behind it, the next goes further back."""
        for back in (*BACK, None):
            target = None if back is None else start - back
            if target is not None and target < self.start:
                target = None
            report.messages.clear()
            pictures = self._decoded(target, report)
            first = next(pictures, None)
            landed = None if first is None or first.pts is None else first.pts * self.film.time_base
            if first is not None and (target is None or (landed is not None and landed <= start)):
                # What was said until now is of frames that were to be shown before the key frame.
                report.messages.clear()
                yield first
                yield from pictures
                return
            if target is None:
                return

    def _decoded(self, target: Fraction | None, report: ExcerptReport) -> Iterator[av.VideoFrame]:
        """Decode from the key frame before a time on, or from the beginning; pictures without a time are left out."""
        if target is None or not self._seek(target):
            self._reopen()
        names = {self._container.format.name, self._stream.codec_context.name, self.film.codec}
        with DamageLog(names, report.messages), decoding(self._stream, "SLICE"):
            packets = self._container.demux(self._stream)
            while True:
                try:
                    packet = next(packets, None)
                    pictures = [] if packet is None else packet.decode()
                except (av.error.FFmpegError, OSError) as error:
                    report.messages[reason(error)] += 1
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


BACK = (Fraction(0), Fraction(1), Fraction(10))
"""How many seconds before the wanted time seeks aim, one after the other; then all is decoded from the beginning."""


def _length(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """How long the picture lasts, by the header: of the stream if it is given, else of the whole container."""
    if stream.duration and stream.time_base:
        return stream.duration * Fraction(stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    with suppress(ValueError):
        hours, minutes, seconds = (Fraction(part) for part in tag.split(":"))  # as Matroska has it
        return hours * 3600 + minutes * 60 + seconds
    return Fraction(container.duration, av.time_base) if container.duration else None
