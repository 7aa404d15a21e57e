"""Decode short clips from anywhere in a film, by seeking, without reading the rest of it.

    with open_clip_reader("film.mkv") as reader:
        for frame in reader.frames(Fraction(60), Fraction(61), report): ...

The packets of the film are not all read beforehand, so only its header and its first frame are known.
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
    """Number of frames and signs of damage of a clip, counted while it is decoded."""

    decoded: int = 0
    """Frames that the decoder gave, including those before the clip."""
    damaged: int = 0
    """Frames of the clip that FFmpeg marks as corrupt."""
    interlaced: int = 0
    """Frames of the clip that are interlaced."""
    format_change: str | None = None
    """The change of size or pixel format at which the clip ends, in words; None if there is none."""
    messages: Counter[str] = field(default_factory=Counter)
    """Errors that FFmpeg raised or logged since the last seek, and how often."""


@contextmanager
def open_clip_reader(path: str | Path, threads: int = 1) -> Iterator[ClipReader]:
    """Open a film to decode clips of it. Raises `InputError` if none of its frames can be decoded.

    threads: number of the decoder's threads. With one thread, even damaged films are decoded the same way every time.
    """
    path = str(path)
    with open_container(path) as container:
        stream = film_stream(container, path)
        stream.codec_context.thread_count = threads
        first = decode_first_frame(container, stream, path)
        if first.pts is None:
            raise InputError(
                f"{path}: its frames have no timestamps, so clips cannot be found in it; copying its stream into a "
                "Matroska or mp4 file adds timestamps"
            )
        film = describe_film(container, stream, first, path)
        start = first.pts * film.time_base
        duration = _stated_duration(container, stream)
        del first  # because it occupies one of the decoder's buffers
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
        self._iterator: _FrameIterator | None = None

    def close(self) -> None:
        self._close_iterator()
        self._container.close()

    def frames(self, start: Fraction, end: Fraction, report: ClipReport) -> Iterator[Frame]:
        """Yield the frames with start <= time < end (in seconds), in order, and fill the report.

        The planes may be the decoder's buffers: they must be neither written to nor kept. Frames that cannot be decoded
        are left out and reported. At a change of size or pixel format the clip ends. Only one clip can be read at a
        time. If no key frame lies between one clip and the next, decoding continues without a seek.
        """
        film = self.film
        iterator = self._iterator_before(start)
        report.messages = iterator.messages
        for picture in iterator:
            time = iterator.position
            report.decoded += 1
            if time < start:
                continue
            if time >= end:
                iterator.pushed_back = picture
                report.decoded -= 1
                return
            if (picture.width, picture.height, picture.format.name) != (film.width, film.height, film.pixel_format):
                report.format_change = (
                    f"another format: the picture changes from {film.width}x{film.height} {film.pixel_format} to "
                    f"{picture.width}x{picture.height} {picture.format.name}"
                )
                return
            report.damaged += picture.is_corrupt
            report.interlaced += picture.interlaced_frame
            planes, layout, _ = planes_of(picture)
            yield Frame(planes, layout, time)

    def _iterator_before(self, start: Fraction) -> _FrameIterator:
        """Return the current iterator if it has not passed `start`, or else a new one after a seek to before `start`.

        If a seek lands after `start`, the next seek aims further back. If no seek succeeds, the iterator is empty.
        """
        current = self._iterator
        if current is not None and current.position <= start and self._indexed_key_frame(start) <= current.position:
            return current
        for margin in (*SEEK_MARGINS, None):
            target = None if margin is None else start - margin
            if target is not None and target < self.start:
                target = None
            if target is None and start - self.start > DECODE_FROM_START:
                break
            self._close_iterator()
            messages: Counter[str] = Counter()
            iterator = _FrameIterator(self._decode(target, messages), messages, self.film.time_base)
            self._iterator = iterator
            iterator.pushed_back = next(iterator, None)
            # Errors so far are expected: frames shown before the key frame refer to frames that the seek skipped.
            messages.clear()
            if target is None or (iterator.pushed_back is not None and iterator.position <= start):
                return iterator
        self._close_iterator()
        return _FrameIterator((_ for _ in ()), Counter(), self.film.time_base)

    def _close_iterator(self) -> None:
        if self._iterator is not None:
            self._iterator.pictures.close()
            self._iterator = None

    def _indexed_key_frame(self, time: Fraction) -> Fraction:
        """Return the time of the key frame before `time` in the container's index; `time` itself if none is listed."""
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


class _FrameIterator:
    """An iterator over the frames that are decoded in order after a seek. A frame can be pushed back."""

    def __init__(
        self, pictures: Generator[av.VideoFrame, None, None], messages: Counter[str], time_base: Fraction
    ) -> None:
        self.pictures = pictures
        self.messages = messages
        """Errors since the first frame."""
        self.time_base = time_base
        self.position = Fraction(0)
        """Time of the frame returned last, in seconds."""
        self.pushed_back: av.VideoFrame | None = None
        """A frame that was already returned, and that is returned again next."""

    def __iter__(self) -> _FrameIterator:
        return self

    def __next__(self) -> av.VideoFrame:
        picture, self.pushed_back = self.pushed_back or next(self.pictures), None
        assert picture.pts is not None
        self.position = picture.pts * Fraction(picture.time_base or self.time_base)
        return picture


DECODE_FROM_START = Fraction(60)
"""If no seek lands before a clip, but the clip starts within this many seconds of the first frame, the film is decoded
from its beginning."""

SEEK_MARGINS = (Fraction(0), Fraction(1), Fraction(10))
"""Seconds before the start of a clip at which the first, second and third seek aim."""


def _stated_duration(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """Return the duration in seconds that the header states for the stream, or else for the whole file."""
    if stream.duration and stream.time_base:
        return stream.duration * Fraction(stream.time_base)
    duration = matroska_duration(stream)
    if duration is not None:
        return duration
    return Fraction(container.duration, av.time_base) if container.duration else None
