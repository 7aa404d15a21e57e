"""What a film is: its streams, colours, exact times and the packets that are there, without decoding it."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.stream

from midframe.errors import InputError
from midframe.video.colour import Colour, understand
from midframe.video.damage import DamageLog
from midframe.video.frame import Layout
from midframe.video.pixels import has_alpha, layout_of


@dataclass(frozen=True)
class StreamInfo:
    """One stream as it stands in the film. `first` and `end` are the earliest and latest times of its packets."""

    index: int
    kind: str
    codec: str
    language: str | None = None
    title: str | None = None
    cover: bool = False
    packets: int = 0
    bytes: int = 0
    first: Fraction | None = None
    end: Fraction | None = None

    def describe(self) -> str:
        words = [f"{self.kind} {self.index}", self.codec, self.language, f'"{self.title}"' if self.title else None]
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Hdr:
    """Static HDR metadata: the mastering display (20 integers as FFmpeg has them) and content light levels."""

    mastering: tuple[int, ...] | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True)
class Film:
    """A film as understood before it is decoded.

    ticks: the time of every frame in units of `time_base`, rising (None where that cannot be known: a pipe).
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


def probe(path: str | Path) -> Film:
    """Read what a film is: opens it, decodes its first frame, then reads every packet once without decoding.

    Raises `InputError`, one line, where there is no film in it or nothing of it can be decoded.
    """
    path = str(path)
    with open_container(path) as container:
        stream = film_stream(container, path)
        first = first_frame(container, stream, path)
        film = describe_first(container, stream, first, path)
    with open_container(path) as container, DamageLog({container.format.name}) as log:
        return _scan(container, film, log)


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
        reason = "it is empty" if where.is_file() and where.stat().st_size == 0 else _reason(error)
        raise InputError(f"{path} is not a film that can be read: {reason}") from None
    if container.format.name in ("tty", "txt", "srt", "ass", "webvtt"):
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


def is_cover(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def first_frame(container: av.container.InputContainer, stream: av.VideoStream, path: str) -> av.VideoFrame:
    """Decode the first frame that can be decoded."""
    stream.thread_type = "SLICE"
    trouble: Exception | None = None
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    return frame
            except av.error.FFmpegError as error:
                trouble = error
    except (av.error.FFmpegError, OSError) as error:
        trouble = error
    reason = f": {_reason(trouble)}" if trouble else ""
    raise InputError(f"{path}: no picture of its {stream.codec_context.name} stream can be decoded{reason}")


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
    try:
        for k in range(len(frame.side_data)):
            item = frame.side_data[k]
            kinds[item.type.name] = bytes(item)
    except ValueError:  # a kind that this version of PyAV has no name for
        pass
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


def shows_a_frame(codec: str, payload: bytes) -> bool:
    """Whether a packet's frame is meant to be shown: VP8 and VP9 have packets that only serve as references."""
    if codec == "vp8" and payload:
        return bool(payload[0] >> 4 & 1)
    if codec == "vp9" and payload and payload[0] >> 6 == 2:
        bits = payload[0] << 8 | (payload[1] if len(payload) > 1 else 0)
        at = 11 if bits >> 12 & 3 == 3 else 12
        if payload[-1] & 0xE0 == 0xC0:
            return True
        return bool(bits >> at - 1 & 1) or bool(bits >> at - 3 & 1)
    return True


def _scan(container: av.container.InputContainer, film: Film, log: DamageLog) -> Film:
    """Read all packets: frame times, what each stream holds, and whether the end is there."""
    streams = list(container.streams)
    count = [0] * len(streams)
    volume = [0] * len(streams)
    first: list[Fraction | None] = [None] * len(streams)
    end: list[Fraction | None] = [None] * len(streams)
    ticks = array("q")
    untimed = 0
    seen = 0
    corrupt = 0
    last = (-(1 << 63), 0)
    stopped: str | None = None
    codec = streams[film.index].codec_context.codec.canonical_name if film.index < len(streams) else film.codec
    try:
        for packet in container.demux():
            if packet.size == 0 and packet.pts is None:
                continue
            k = packet.stream_index
            if k >= len(streams):
                continue
            count[k] += 1
            volume[k] += packet.size
            corrupt += packet.is_corrupt
            if packet.pts is not None and packet.time_base:
                base = Fraction(packet.time_base)
                at = packet.pts * base
                until = at + (packet.duration or 0) * base
                low, high = first[k], end[k]
                first[k] = at if low is None or at < low else low
                end[k] = until if high is None or until > high else high
            if k != film.index:
                continue
            seen += 1
            if packet.is_discard or not shows_a_frame(codec, bytes(packet)):
                continue
            if packet.pts is None:
                untimed += 1
            else:
                ticks.append(packet.pts)
                last = max(last, (packet.pts, packet.duration or 0))
    except (av.error.FFmpegError, OSError) as error:
        stopped = _reason(error)
    problems = [f"packets marked as damaged: {corrupt}"] if corrupt else []
    ends_early = False
    expected = streams[film.index].frames
    furthest = max((e for e in end if e is not None), default=None)
    promised = Fraction(container.duration, av.time_base) if container.duration else None
    if stopped:
        problems.append(f"reading stopped: {stopped}")
        ends_early = True
    elif film.container.startswith(("mov", "avi")) and expected and seen < expected:
        problems.append(f"the film's index lists {expected} frames, {seen} are there")
        ends_early = True
    elif any("ended prematurely" in message for message in log.messages):
        problems.append("the file ends before its film does")
        ends_early = True
    elif film.container.startswith("matroska") and promised and furthest is not None:
        start = Fraction(container.start_time or 0, av.time_base)
        if furthest - min(start, Fraction(0)) < promised - max(Fraction(1, 4), 2 / film.rate):
            problems.append(f"the film should last {float(promised):.3f} s, its packets end at {float(furthest):.3f} s")
            ends_early = True
    problems += [f"{text} ({n} times)" if n > 1 else text for text, n in log.messages.items()]
    timed = untimed == 0 and bool(ticks)
    if not timed:
        ticks = array("q", range(untimed + len(ticks)))
    rising = array("q", sorted(set(ticks)))
    base = film.time_base if timed else 1 / film.rate
    if not rising:
        raise InputError(f"{film.path}: its video stream has no frames")
    return Film(
        **{
            **film.__dict__,
            "ticks": rising,
            "timed": timed,
            "time_base": base,
            "duplicates": len(ticks) - len(rising),
            "last_duration": last[1] * base if timed and last[1] > 0 else 1 / film.rate,
            "streams": tuple(_stream_info(s, count[k], volume[k], first[k], end[k]) for k, s in enumerate(streams)),
            "problems": tuple(problems),
            "ends_early": ends_early,
        }
    )


def _stream_info(
    stream: av.stream.Stream, packets: int, volume: int, first: Fraction | None, end: Fraction | None
) -> StreamInfo:
    context = stream.codec_context
    codec = (
        context.codec.canonical_name if context is not None and context.codec is not None else stream.name or "unknown"
    )
    metadata = stream.metadata
    return StreamInfo(
        stream.index,
        stream.type,
        codec,
        stream.language,
        metadata.get("title") or metadata.get("name"),
        is_cover(stream),
        packets,
        volume,
        first,
        end,
    )


def _reason(error: BaseException | None) -> str:
    """What FFmpeg says, without its number and the path again."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).split("; last error log")[0].strip() or type(error).__name__
