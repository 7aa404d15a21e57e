"""Decode short clips from anywhere in a film, by seeking, without reading the rest of it.

    with open_clip_reader("film.mkv") as reader:
        for frame in reader.frames(Fraction(60), Fraction(61), report): ...

Unlike `read_frames` this does not read every packet first, so nothing is known of a film but what its header says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error

from midframe.errors import InputError
from midframe.video.ffmpeg import decode_first_frame, decode_frames, film_stream, matroska_duration, open_container
from midframe.video.frame import Frame
from midframe.video.pixels import planes_of
from midframe.video.probe import Film, describe_film


@dataclass
class ClipReport:
    """What was noticed while a clip was decoded."""

    decoded: int = 0
    """Frames that the decoder gave, including those before the clip."""
    damaged: int = 0
    """Frames of the clip that FFmpeg marks as corrupt."""
    interlaced: int = 0
    """Frames of the clip that are interlaced."""
    change: str | None = None
    """A frame of the clip that differs from the film's first frame in size or pixel format, in words."""
    messages: Counter[str] = field(default_factory=Counter)
    """Errors that FFmpeg raised or logged, and how often."""


@contextmanager
def open_clip_reader(path: str | Path, threads: int = 1) -> Iterator[ClipReader]:
    """Open a film to decode clips of it. Raises `InputError` if none of its frames can be decoded.

    threads: number of the decoder's threads. With one thread, damaged films too are decoded the same way every time.
    """
    path = str(path)
    with open_container(path) as container:
        stream = film_stream(container, path)
        stream.codec_context.thread_count = threads
        first = decode_first_frame(container, stream, path)
        if first.pts is None:
            raise InputError(
                f"{path}: its frames have no times, so that nothing can be found in it; copying its stream into a "
                "Matroska or mp4 file gives them times"
            )
        film = describe_film(container, stream, first, path)
        start = first.pts * film.time_base
        duration = _stated_duration(container, stream)
        del first  # it belongs to the decoder's buffers
        reader = ClipReader(film, start, duration, container, stream)
        try:
            yield reader
        finally:
            reader.close()


class ClipReader:
    """A film that is open for decoding clips; see `open_clip_reader`."""

    def __init__(
        self,
        film: Film,
        start: Fraction,
        duration: Fraction | None,
        container: av.container.InputContainer,
        stream: av.VideoStream,
    ) -> None:
        self.film = film
        self.start = start
        """Time of the first frame, in seconds."""
        self.duration = duration
        """Duration in seconds that the header states; None if it states none."""
        self._container = container
        self._stream = stream
        self._threads = stream.codec_context.thread_count
        self._run: _DecodingRun | None = None

    def close(self) -> None:
        self._end_run()
        self._container.close()

    def frames(self, start: Fraction, end: Fraction, report: ClipReport) -> Iterator[Frame]:
        """Yield the frames with start <= time < end (in seconds), in order, and fill the report.

        The planes may be the decoder's: they must be neither written to nor kept. Frames that cannot be decoded are
        left out and reported. At a change of size or pixel format the clip ends. Only one clip can be read at a time.
        Clips that follow each other without a key frame in between are decoded in one go.
        """
        film = self.film
        run = self._run_before(start)
        report.messages = run.messages
        for picture in run:
            time = run.position
            report.decoded += 1
            if time < start:
                continue
            if time >= end:
                run.pushed_back = picture
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

    def _run_before(self, start: Fraction) -> _DecodingRun:
        """Return a run whose next frame is at or before `start`: the current run, or a new one after a seek.

        If a seek lands too late, the next one aims further back.
        """
        if self._run is not None and self._run.position <= start and self._seek_target(start) <= self._run.position:
            return self._run
        for back in (*SEEK_BACK, None):
            target = None if back is None else start - back
            if target is not None and target < self.start:
                target = None
            if target is None and start - self.start > DECODE_FROM_START:
                break
            self._end_run()
            messages: Counter[str] = Counter()
            run = _DecodingRun(self._decode(target, messages), messages, self.film.time_base)
            self._run = run
            run.pushed_back = next(run, None)
            # The errors up to here concern frames that are shown before the key frame.
            messages.clear()
            if target is None or (run.pushed_back is not None and run.position <= start):
                return run
        self._end_run()
        return _DecodingRun((_ for _ in ()), Counter(), self.film.time_base)

    def _end_run(self) -> None:
        if self._run is not None:
            self._run.pictures.close()
            self._run = None

    def _seek_target(self, time: Fraction) -> Fraction:
        """Return the time at which a seek to `time` lands by the container's index; `time` itself without an index."""
        entries = self._stream.index_entries
        found = entries.search_timestamp(int(time / self.film.time_base), backward=True) if len(entries) else -1
        return entries[found].timestamp * self.film.time_base if found >= 0 else time

    def _decode(self, target: Fraction | None, messages: Counter[str]) -> Generator[av.VideoFrame, None, None]:
        """Decode from the key frame before a time, or from the beginning; frames without a timestamp are left out."""
        if target is None or not self._seek(target):
            self._reopen()

        def note_error(_: str, text: str) -> None:
            messages[text] += 1

        with closing(decode_frames(self._container, self._stream, note_error, messages=messages)) as pictures:
            yield from (picture for picture in pictures if picture.pts is not None)

    def _seek(self, time: Fraction) -> bool:
        """Seek to the key frame before a time and return whether that succeeded."""
        with suppress(av.error.FFmpegError, OSError):
            self._container.seek(int(time / self.film.time_base), stream=self._stream)
            return True
        return False

    def _reopen(self) -> None:
        self._container.close()
        self._container = open_container(self.film.path)
        stream = self._container.streams[self.film.stream_index]
        assert isinstance(stream, av.VideoStream)
        stream.codec_context.thread_count = self._threads
        self._stream = stream


class _DecodingRun:
    """An iterator over the frames that are decoded in order after one seek."""

    def __init__(
        self, pictures: Generator[av.VideoFrame, None, None], messages: Counter[str], time_base: Fraction
    ) -> None:
        self.pictures = pictures
        self.messages = messages
        """Errors since the first frame."""
        self.time_base = time_base
        self.position = Fraction(0)
        """Time of the frame that was taken last, in seconds."""
        self.pushed_back: av.VideoFrame | None = None
        """A frame that was taken, and that the iterator gives again."""

    def __iter__(self) -> _DecodingRun:
        return self

    def __next__(self) -> av.VideoFrame:
        picture, self.pushed_back = self.pushed_back or next(self.pictures), None
        assert picture.pts is not None
        self.position = picture.pts * Fraction(picture.time_base or self.time_base)
        return picture


DECODE_FROM_START = Fraction(60)
"""Seconds from the beginning of a film up to which a clip is decoded from there if no seek leads to it."""

SEEK_BACK = (Fraction(0), Fraction(1), Fraction(10))
"""Seconds before a clip at which successive seeks aim."""


def _stated_duration(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """Return the duration in seconds that the header states, of the stream if it is given, else of the container."""
    if stream.duration and stream.time_base:
        return stream.duration * Fraction(stream.time_base)
    duration = matroska_duration(stream)
    if duration is not None:
        return duration
    return Fraction(container.duration, av.time_base) if container.duration else None
