"""What a film is: its streams, colours, exact times and the packets that are there, without decoding it."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.container
import av.error
import av.stream

from midframe.errors import Cancelled, InputError, error_reason
from midframe.video.colour import Colour, understand
from midframe.video.containers import demuxer_named
from midframe.video.damage import DamageLog
from midframe.video.frame import Layout
from midframe.video.pixels import has_alpha, layout_of
from midframe.video.scan import StreamInfo, is_cover, scan

__all__ = ["Film", "Hdr", "StreamInfo", "open_container", "probe"]


@dataclass(frozen=True)
class Hdr:
    """Static HDR metadata: the mastering display (20 integers as FFmpeg has them) and content light levels."""

    mastering: tuple[int, ...] | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True)
class Film:
    """A film as understood before it is decoded.

    ticks: the time of every frame in units of `time_base`, rising (None where that cannot be known: a pipe); timed:
    whether the film's packets carry them (else frame k is the k-th that the decoder gives); duplicates: frames whose
    time does not rise, left out of `ticks`, as are `not_shown`, those before the first that a decoder can start at.
    problems: damage that the packets alone show, in words; `ends_early` says whether the end is missing.
    """

    path: str
    container: str
    index: int
    codec: str
    width: int
    height: int
    pixel_format: str
    layout: Layout
    colour: Colour
    time_base: Fraction
    rate: Fraction
    last_duration: Fraction
    ticks: array[int] | None = None
    timed: bool = True
    duplicates: int = 0
    not_shown: int = 0
    aspect: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    rotation: int = 0
    interlaced: bool = False
    field_order: int = 0
    disposition: int = 0
    alpha: bool = False
    hdr: Hdr = Hdr()
    losses: tuple[str, ...] = ()
    streams: tuple[StreamInfo, ...] = ()
    chapters: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    ends_early: bool = False
    size: int = 0

    @property
    def first_time(self) -> Fraction:
        return self.ticks[0] * self.time_base if self.ticks else Fraction(0)

    @property
    def last_time(self) -> Fraction:
        return self.ticks[-1] * self.time_base if self.ticks else Fraction(0)


def probe(path: str | Path, cancelled: Callable[[], bool] = lambda: False) -> Film:
    """Read what a film is: opens it, decodes its first frame, then reads every packet once without decoding.

    Raises `InputError`, one line, where there is no film in it or nothing of it can be decoded, and `Cancelled`.
    """
    path = str(path)
    with open_container(path) as container:
        stream = film_stream(container, path)
        first = first_frame(container, stream, path, cancelled)
        film = describe_first(container, stream, first, path)
    with open_container(path) as container, DamageLog({container.format.name}) as log:
        found = scan(
            container,
            film.index,
            rate=film.rate,
            first_pts=first.pts,
            messages=log.messages,
            cancelled=cancelled,
        )
    if not found.ticks:
        raise InputError(f"{path}: its video stream has no frames")
    return replace(
        film,
        ticks=found.ticks,
        timed=found.timed,
        time_base=found.time_base,
        duplicates=found.duplicates,
        not_shown=found.not_shown,
        last_duration=found.last_duration or 1 / film.rate,
        streams=found.streams,
        problems=found.problems,
        ends_early=found.ends_early,
    )


def open_container(path: str) -> av.container.InputContainer:
    """Open a film for reading; every way this can fail becomes one `InputError`."""
    where = Path(path)
    if where.is_dir():
        raise InputError(f"{path} is a directory, not a film (a folder of pictures is given as FOLDER/)")
    try:
        container = av.open(path, metadata_errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except PermissionError:
        raise InputError(f"{path} cannot be read: permission denied") from None
    except (av.error.FFmpegError, ValueError, OSError) as error:
        why = "it is empty" if where.is_file() and where.stat().st_size == 0 else error_reason(error)
        raise InputError(f"{path} is not a film that can be read: {why}") from None
    if demuxer_named(container.format.name).text:
        container.close()
        raise InputError(f"{path} is text, not a film")
    return container


def film_stream(container: av.container.InputContainer, path: str) -> av.VideoStream:
    """The stream that is the film: the default video stream that is no cover art."""
    videos = [s for s in container.streams.video if not is_cover(s)]
    if not videos:
        found = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        cover = "; the picture in it is cover art" if container.streams.video else ""
        raise InputError(f"{path} has no video stream (found: {found}{cover})")
    stream = next((s for s in videos if s.disposition & av.stream.Disposition.default), videos[0])
    if stream.codec_context is None or stream.codec_context.codec is None:
        raise InputError(f"{path}: there is no decoder for its video stream")
    return stream


def first_frame(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    path: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> av.VideoFrame:
    """Decode the first frame that can be decoded."""
    trouble: Exception | None = None
    try:
        with decoding(stream, "SLICE"):
            for packet in container.demux(stream):
                if cancelled():
                    raise Cancelled("stopped")
                try:
                    for frame in packet.decode():
                        return frame
                except av.error.FFmpegError as error:
                    trouble = error
    except (av.error.FFmpegError, OSError) as error:
        trouble = error
    why = f": {error_reason(trouble)}" if trouble else ""
    raise InputError(f"{path}: no picture of its {stream.codec_context.name} stream can be decoded{why}")


@contextmanager
def decoding(stream: av.VideoStream, threads: Literal["SLICE", "AUTO"]) -> Iterator[None]:
    """While a stream is decoded.

    At the end its decoder is flushed, which waits for its threads without the interpreter's lock: freeing a decoder
    waits for them with it, and would wait for ever for one that wants to log. Until then a log is open, even if for
    nothing: PyAV prints a traceback where its log is turned off by one thread while another is about to log.
    """
    if not stream.codec_context.is_open:
        stream.thread_type = threads
    with DamageLog(()):
        try:
            yield
        finally:
            stream.codec_context.flush_buffers()


def describe_first(
    container: av.container.InputContainer, stream: av.VideoStream, frame: av.VideoFrame, path: str
) -> Film:
    """What the container's header and the first frame say."""
    name = frame.format.name
    layout = layout_of(name)
    if layout is None:
        raise InputError(f"{path}: the pixel format {name} is not one that Midframe reads")
    codec = stream.codec_context.name
    colour = understand(
        layout,
        height=frame.height,
        codec=codec,
        full_range_format=name.startswith("yuvj"),
        matrix=int(frame.colorspace),
        colour_range=int(frame.color_range),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )
    rate = next((Fraction(r) for r in (stream.guessed_rate, stream.average_rate, stream.base_rate) if r), Fraction(25))
    metadata = {k: str(v) for k, v in container.metadata.items()}
    losses, hdr, matrix = read_side_data(frame)
    aspect = stream.sample_aspect_ratio
    return Film(
        path=path,
        container=container.format.name,
        index=stream.index,
        codec=codec,
        width=frame.width,
        height=frame.height,
        pixel_format=name,
        layout=layout,
        colour=colour,
        time_base=Fraction(stream.time_base) if stream.time_base else 1 / rate,
        rate=rate,
        last_duration=1 / rate,
        aspect=Fraction(aspect) if aspect and aspect != 1 else None,
        display_matrix=matrix,
        rotation=int(frame.rotation),
        interlaced=bool(frame.interlaced_frame),
        field_order=int(stream.codec_context.field_order or 0),
        disposition=int(stream.disposition),
        alpha=has_alpha(name),
        hdr=hdr,
        losses=losses,
        chapters=tuple(container.chapters()),
        metadata=metadata,
        stream_metadata={k: str(v) for k, v in stream.metadata.items()},
        size=container.size if container.size and container.size > 0 else 0,
    )


def read_side_data(frame: av.VideoFrame) -> tuple[tuple[str, ...], Hdr, tuple[int, ...] | None]:
    """What travels beside a frame: (names of what a new encoding loses, static HDR metadata, display matrix)."""
    kinds: dict[str, bytes] = {}
    found: Any = frame.side_data
    for k in range(len(found)):
        with suppress(ValueError):  # a kind that this version of PyAV has no name for
            kinds[found[k].type.name] = bytes(found[k])
    losses = tuple(sorted({_LOST[kind] for kind in kinds if kind in _LOST}))
    mastering = kinds.get("MASTERING_DISPLAY_METADATA")
    light = kinds.get("CONTENT_LIGHT_LEVEL")
    matrix = kinds.get("DISPLAYMATRIX")
    return (
        losses,
        Hdr(
            struct.unpack_from("22i", mastering)[:20] if mastering and len(mastering) >= 88 else None,
            struct.unpack_from("2I", light) if light and len(light) >= 8 else None,
        ),
        struct.unpack_from("9i", matrix) if matrix and len(matrix) >= 36 else None,
    )


_LOST = {
    "A53_CC": "closed captions",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "FILM_GRAIN_PARAMS": "film grain parameters",
}
