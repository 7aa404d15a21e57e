"""Open a film with FFmpeg (through PyAV), find its video stream, and decode frames.

`decode_frames` is the loop over a film's packets that `probe`, `reader` and `clips` share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.container
import av.error
import av.stream

from midframe.errors import Cancelled, InputError, error_reason
from midframe.video.containers import demuxer_named
from midframe.video.damage import DamageLog

ErrorSource = Literal["demuxer", "decoder"]
"""The part of FFmpeg that raised an error while a film was decoded."""

ErrorHandler = Callable[[ErrorSource, str], None]
"""Receives the source and the text of an error."""


def open_container(path: str) -> av.container.InputContainer:
    """Open a film for reading. Every failure is raised as an `InputError` of one line."""
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{path} is a directory, not a film (a folder of pictures is given as FOLDER/)")
    try:
        container = av.open(path, metadata_errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except PermissionError:
        raise InputError(f"{path} cannot be read: permission denied") from None
    except (av.error.FFmpegError, ValueError, OSError) as error:
        reason = "it is empty" if file.is_file() and file.stat().st_size == 0 else error_reason(error)
        raise InputError(f"{path} is not a film that can be read: {reason}") from None
    if demuxer_named(container.format.name).text:
        container.close()
        raise InputError(f"{path} is text, not a film")
    return container


def film_stream(container: av.container.InputContainer, path: str) -> av.VideoStream:
    """Return the stream that holds the film's picture: the default video stream, or else the first, cover art excepted.

    Raises `InputError`, naming `path`, if there is no such stream or no decoder for it.
    """
    videos = [stream for stream in container.streams.video if not is_cover_art(stream)]
    if not videos:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        cover = "; the picture in it is cover art" if container.streams.video else ""
        raise InputError(f"{path} has no video stream (found: {found}{cover})")
    stream = next((s for s in videos if s.disposition & av.stream.Disposition.default), videos[0])
    if stream.codec_context is None or stream.codec_context.codec is None:
        raise InputError(f"{path}: there is no decoder for its video stream")
    return stream


def is_cover_art(stream: av.stream.Stream) -> bool:
    """Return whether a stream is an attached picture (FFmpeg lists cover art among the video streams)."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def decode_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    on_error: ErrorHandler,
    *,
    threads: Literal["SLICE", "AUTO"] = "SLICE",
    messages: Counter[str] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generator[av.VideoFrame, None, None]:
    """Decode a stream from the container's position to its end and yield its frames in display order.

    on_error: called for every error that FFmpeg raises. After an error of the decoder, decoding continues with the
    next packet; after an error of the demuxer, no more frames follow. threads: FFmpeg's thread type, used unless the
    decoder is open already; "AUTO" decodes several frames at once. messages: counts the errors that the demuxer and
    the decoder log meanwhile; None ignores them. cancelled: asked before each packet; if true, `Cancelled` is raised.

    The decoder is flushed at the end, also if the generator is closed early (use `contextlib.closing`).
    """
    if not stream.codec_context.is_open:
        stream.thread_type = threads
    components = () if messages is None else (container.format.name, stream.codec_context.name)
    # A log is opened even if no messages are wanted, and stays open until the decoder is flushed: PyAV prints a
    # traceback if one thread turns logging off while another thread is about to log.
    with DamageLog(components, messages):
        try:
            for packet in _read_packets(container, stream, on_error, cancelled):
                yield from _decode_packet(packet, on_error)
        finally:
            # Flushing waits for the decoder's threads without holding the GIL. Freeing the decoder instead would wait
            # for them while holding the GIL: a deadlock if one of them is about to log, which needs the GIL.
            stream.codec_context.flush_buffers()


def decode_first_frame(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    path: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> av.VideoFrame:
    """Return the first frame of a stream that can be decoded. Raises `InputError`, naming `path`, if there is none."""
    errors: list[str] = []
    with closing(decode_frames(container, stream, lambda _, text: errors.append(text), cancelled=cancelled)) as frames:
        frame = next(frames, None)
    if frame is None:
        reason = f": {errors[-1]}" if errors else ""
        raise InputError(f"{path}: no picture of its {stream.codec_context.name} stream can be decoded{reason}")
    return frame


def matroska_duration(stream: av.stream.Stream) -> Fraction | None:
    """Return the duration in seconds from a stream's Matroska tag DURATION (h:m:s); None without one."""
    with suppress(ValueError):
        hours, minutes, seconds = (Fraction(part) for part in stream.metadata.get("DURATION", "").split(":"))
        return hours * 3600 + minutes * 60 + seconds
    return None


def _read_packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    on_error: ErrorHandler,
    cancelled: Callable[[], bool],
) -> Iterator[av.Packet[av.VideoStream]]:
    """Yield the packets of a stream and, after the last one, an empty packet that drains the decoder."""
    try:
        for packet in container.demux(stream):
            if cancelled():
                raise Cancelled("stopped")
            yield packet
    except (av.error.FFmpegError, OSError) as error:
        on_error("demuxer", error_reason(error))


def _decode_packet(packet: av.Packet[av.VideoStream], on_error: ErrorHandler) -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except (av.error.FFmpegError, OSError) as error:
        on_error("decoder", error_reason(error))
        return []
