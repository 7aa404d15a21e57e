"""Write animations: the common base of the GIF and WebP writers. Also read the loop count of an animation."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path

import av
import av.container
import av.error

from midframe.errors import OutputError
from midframe.files import part_path, write_error
from midframe.video.frame import Frame, Layout
from midframe.video.sink import check_target, put_in_place

ANIMATION_LAYOUT = Layout("rgb", 8)
"""The layout of the frames that both writers take."""

DEFAULT_DURATION = Fraction(1, 25)
"""Duration in seconds of a frame that has none of its own."""


@dataclass(frozen=True)
class AnimationEncoding:
    """How an animation is encoded."""

    container: str
    """FFmpeg's name of the muxer."""

    encoder: str
    """FFmpeg's name of the encoder."""

    pixel_format: str
    """FFmpeg's name of the pixel format that the encoder is given."""

    options: Mapping[str, str]
    """Options of the encoder."""

    tick: Fraction
    """Unit of the times in the file, in seconds."""

    shortest: int
    """The shortest duration of a frame, in ticks."""

    advice: str
    """What the user can do if frames are shorter."""


class AnimationWriter:
    """Encodes frames into an animation: the common part of `GifWriter` and `WebpWriter`.

    Every time is rounded to the nearest tick on its own, so that rounding errors do not accumulate. The first frame is
    at 0. Everything is written into the file `part`, which `commit` moves to its final name.
    """

    def __init__(
        self, target: str, encoding: AnimationEncoding, size: tuple[int, int], *, loop_option: str, overwrite: bool
    ) -> None:
        """Open the output.

        size: width and height in pixels; loop_option: the muxer's option `loop`. Raises `OutputError`.
        """
        check_target(target, overwrite)
        self.part = part_path(target)
        self._target, self._overwrite = target, overwrite
        self._encoding, self._size = encoding, size
        self._first_time: Fraction | None = None
        self._committed = False
        self._output: av.container.OutputContainer | None = None
        try:
            self._output = av.open(str(self.part), "w", format=encoding.container, options={"loop": loop_option})
            stream = self._output.add_stream(encoding.encoder, options=dict(encoding.options))
            assert isinstance(stream, av.VideoStream)
            stream.codec_context.width, stream.codec_context.height = size
            stream.codec_context.pix_fmt = encoding.pixel_format
            stream.codec_context.time_base = stream.time_base = encoding.tick
            self._output.start_encoding()
        except (av.error.FFmpegError, OSError) as error:
            self.abort()
            raise write_error(target, error) from None
        self._stream = stream

    def write(self, frame: Frame) -> None:
        """Encode one frame. Raises `OutputError` if it is shorter than the format allows or cannot be written."""
        if frame.layout != ANIMATION_LAYOUT or (frame.width, frame.height) != self._size:
            raise ValueError(f"an animation is {ANIMATION_LAYOUT.describe()}, not {frame.layout.describe()}")
        assert self._output is not None
        self._first_time = frame.time if self._first_time is None else self._first_time
        start = frame.time - self._first_time
        end = start + (frame.duration if frame.duration is not None else DEFAULT_DURATION)
        picture = self.to_picture(frame)
        picture.pts = self._to_ticks(start)
        picture.time_base = self._encoding.tick
        duration = self._to_ticks(end) - picture.pts
        if duration < self._encoding.shortest:
            raise OutputError(
                f"{self._target}: the frame at {float(frame.time):.3f} s is too short; {self._encoding.advice}"
            )
        try:
            packets = self._stream.encode(picture)
            for packet in packets:
                packet.duration = duration
            self._output.mux(packets)
        except (av.error.FFmpegError, OSError) as error:
            raise write_error(self._target, error) from None

    def to_picture(self, frame: Frame) -> av.VideoFrame:
        """Return a frame in the encoder's pixel format."""
        raise NotImplementedError

    def finish(self) -> None:
        """Flush the encoder and close the file."""
        assert self._output is not None
        try:
            self._output.mux(self._stream.encode(None))
            output, self._output = self._output, None
            output.close()
        except (av.error.FFmpegError, OSError) as error:
            raise write_error(self._target, error) from None

    def commit(self) -> None:
        """Give the finished file its final name."""
        put_in_place(self.part, self._target, self._overwrite)
        self._committed = True

    def abort(self) -> None:
        """Close the file and delete it, unless it has its final name already."""
        output, self._output = self._output, None
        if output is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                output.close()
        if not self._committed:
            self.part.unlink(missing_ok=True)

    def _to_ticks(self, time: Fraction) -> int:
        return floor(time / self._encoding.tick + Fraction(1, 2))


def loop_count(path: str | Path) -> int | None:
    """Return the number of times that a GIF or WebP plays, 0 for endless; None if the file is neither."""
    with Path(path).open("rb") as file:
        data = file.read(1 << 16)
    if data.startswith(b"GIF8"):
        extension = re.search(rb"\x21\xff\x0bNETSCAPE2\.0\x03\x01(..)", data, re.DOTALL)
        if extension is None:
            return 1
        repeats: int = struct.unpack("<H", extension[1])[0]
        return repeats + 1 if repeats else 0
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        chunk = data.find(b"ANIM", 12)
        return int.from_bytes(data[chunk + 12 : chunk + 14], "little") if chunk > 0 else 1
    return None
