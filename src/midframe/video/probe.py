"""Find out what a film is without decoding it: its streams, colours, exact times, and whether all packets are there."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container

from midframe.errors import InputError
from midframe.video.colour import Colour, ColourTags, colour_of_stream
from midframe.video.damage import DamageLog
from midframe.video.ffmpeg import decode_first_frame, film_stream, open_container
from midframe.video.frame import Layout
from midframe.video.pixels import has_alpha, layout_of_format
from midframe.video.scan import Scan, StreamInfo, scan

__all__ = [
    "Film",
    "HdrMetadata",
    "SideData",
    "StreamInfo",
    "colour_of_frame",
    "describe_film",
    "probe",
    "read_side_data",
]


@dataclass(frozen=True)
class HdrMetadata:
    """Static HDR metadata of a film."""

    mastering_display: tuple[int, ...] | None = None
    """Ten rational numbers as FFmpeg stores them, as 20 integers: x and y of red, green, blue, white; luminances."""
    content_light_level: tuple[int, int] | None = None
    """MaxCLL and MaxFALL in cd/m2."""

    @property
    def present(self) -> bool:
        """Whether the film has any static HDR metadata."""
        return self != HdrMetadata()


@dataclass(frozen=True)
class Film:
    """What is known of a film before it is decoded. Image sequences and animations are described as films, too."""

    path: str
    container: str
    """FFmpeg's name of the container format, or "images" or "webp"."""
    stream_index: int
    """Index of the video stream in the container."""
    codec: str
    """FFmpeg's name of the decoder."""
    width: int
    """Coded width in pixels."""
    height: int
    """Coded height in pixels."""
    pixel_format: str
    """FFmpeg's name of the pixel format that the decoder gives."""
    layout: Layout
    """The layout in which the frames are read, see `pixels.planes_of`."""
    colour: Colour
    time_base: Fraction
    """Unit of `ticks`, in seconds."""
    rate: Fraction
    """Nominal frames per second; not used for times if the film has timestamps."""
    last_duration: Fraction
    """Duration of the last frame, in seconds."""
    ticks: array[int] | None = None
    """The time of every frame in units of `time_base`, strictly increasing; None if unknown (a pipe)."""
    has_timestamps: bool = True
    """Whether the packets carry `ticks`; if not, frame k is the k-th that the decoder gives."""
    duplicate_frames: int = 0
    """Frames left out of `ticks` because their time does not increase."""
    undecodable_start: int = 0
    """Frames left out of `ticks` because they come before the first frame at which a decoder can start."""
    sample_aspect_ratio: Fraction | None = None
    """Width of a pixel divided by its height; None for square pixels."""
    display_matrix: tuple[int, ...] | None = None
    """FFmpeg's display matrix (nine integers), if the film is shown rotated or mirrored."""
    rotation: int = 0
    """Rotation of the display matrix, in degrees counter-clockwise."""
    interlaced: bool = False
    """Whether the first frame is interlaced."""
    disposition: int = 0
    """FFmpeg's disposition flags of the video stream."""
    has_alpha: bool = False
    """Whether the pixel format has an alpha channel."""
    hdr: HdrMetadata = HdrMetadata()
    lost_side_data: tuple[str, ...] = ()
    """Metadata of the frames that a new encoding loses, in words, such as "closed captions"."""
    streams: tuple[StreamInfo, ...] = ()
    """All streams of the container, the video stream included."""
    chapters: tuple[Mapping[str, Any], ...] = ()
    """Chapters as PyAV gives them."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the container."""
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the video stream."""
    problems: tuple[str, ...] = ()
    """Signs of damage that show without decoding, in words."""
    ends_early: bool = False
    """Whether the end of the film is missing."""

    @property
    def first_time(self) -> Fraction:
        """Time of the first frame in seconds; 0 if unknown."""
        return self.ticks[0] * self.time_base if self.ticks else Fraction(0)

    @property
    def last_time(self) -> Fraction:
        """Time of the last frame in seconds; 0 if unknown."""
        return self.ticks[-1] * self.time_base if self.ticks else Fraction(0)


def probe(path: str | Path, cancelled: Callable[[], bool] = lambda: False) -> Film:
    """Describe a film: open it, decode its first frame, then read every packet once without decoding.

    Raises `InputError`, of one line, if the file holds no film or no frame of it can be decoded. Raises `Cancelled`
    if `cancelled`, which is asked before each packet, returns true.
    """
    path = str(path)
    with open_container(path) as container:
        stream = film_stream(container, path)
        first = decode_first_frame(container, stream, path, cancelled)
        film = describe_film(container, stream, first, path)
    with open_container(path) as container, DamageLog({container.format.name}) as log:
        found = scan(
            container,
            film.stream_index,
            rate=film.rate,
            first_pts=first.pts,
            messages=log.messages,
            cancelled=cancelled,
        )
    if not found.ticks:
        raise InputError(f"{path}: its video stream has no frames")
    return _with_scan(film, found)


def describe_film(
    container: av.container.InputContainer, stream: av.VideoStream, frame: av.VideoFrame, path: str
) -> Film:
    """Describe a film by its header and its first decoded frame alone. Times and damage are not known then."""
    name = frame.format.name
    layout = layout_of_format(name)
    if layout is None:
        raise InputError(f"{path}: the pixel format {name} is not one that Midframe reads")
    codec = stream.codec_context.name
    rate = next((Fraction(r) for r in (stream.guessed_rate, stream.average_rate, stream.base_rate) if r), Fraction(25))
    side_data = read_side_data(frame)
    aspect = stream.sample_aspect_ratio
    return Film(
        path=path,
        container=container.format.name,
        stream_index=stream.index,
        codec=codec,
        width=frame.width,
        height=frame.height,
        pixel_format=name,
        layout=layout,
        colour=colour_of_frame(frame, layout, codec),
        time_base=Fraction(stream.time_base) if stream.time_base else 1 / rate,
        rate=rate,
        last_duration=1 / rate,
        sample_aspect_ratio=Fraction(aspect) if aspect and aspect != 1 else None,
        display_matrix=side_data.display_matrix,
        rotation=int(frame.rotation),
        interlaced=bool(frame.interlaced_frame),
        disposition=int(stream.disposition),
        has_alpha=has_alpha(name),
        hdr=side_data.hdr,
        lost_side_data=side_data.lost,
        chapters=tuple(container.chapters()),
        metadata={key: str(value) for key, value in container.metadata.items()},
        stream_metadata={key: str(value) for key, value in stream.metadata.items()},
    )


def colour_of_frame(frame: av.VideoFrame, layout: Layout, codec: str) -> Colour:
    """Return the meaning of a decoded frame's code values, from its tags; see `colour_of_stream`."""
    tags = ColourTags(
        matrix=int(frame.colorspace),
        range=int(frame.color_range),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )
    full_range_format = frame.format.name.startswith("yuvj")
    return colour_of_stream(layout, tags, height=frame.height, codec=codec, full_range_format=full_range_format)


@dataclass(frozen=True)
class SideData:
    """The side data of one frame."""

    lost: tuple[str, ...]
    """Kinds that a new encoding loses, in words."""
    hdr: HdrMetadata
    display_matrix: tuple[int, ...] | None
    """FFmpeg's display matrix (nine integers)."""


def read_side_data(frame: av.VideoFrame) -> SideData:
    """Read a frame's side data. Afterwards the frame is freed by Python's cycle collector only (a fault of PyAV)."""
    payloads: dict[str, bytes] = {}
    entries: Any = frame.side_data
    for k in range(len(entries)):
        with suppress(ValueError):  # this version of PyAV has no name for the kind
            payloads[entries[k].type.name] = bytes(entries[k])
    mastering = payloads.get("MASTERING_DISPLAY_METADATA", b"")
    light = payloads.get("CONTENT_LIGHT_LEVEL", b"")
    matrix = payloads.get("DISPLAYMATRIX", b"")
    return SideData(
        lost=tuple(sorted({_LOST_KINDS[kind] for kind in payloads if kind in _LOST_KINDS})),
        hdr=HdrMetadata(
            struct.unpack_from("22i", mastering)[:20] if len(mastering) >= 88 else None,
            struct.unpack_from("2I", light) if len(light) >= 8 else None,
        ),
        display_matrix=struct.unpack_from("9i", matrix) if len(matrix) >= 36 else None,
    )


_LOST_KINDS = {
    "A53_CC": "closed captions",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "FILM_GRAIN_PARAMS": "film grain parameters",
}
"""Side data that a new encoding loses: FFmpeg's kind, and its name in warnings."""


def _with_scan(film: Film, found: Scan) -> Film:
    """Return the film completed by what its packets show."""
    return replace(
        film,
        ticks=found.ticks,
        has_timestamps=found.has_timestamps,
        time_base=found.time_base,
        duplicate_frames=found.duplicate_frames,
        undecodable_start=found.undecodable_start,
        last_duration=found.last_duration or 1 / film.rate,
        streams=found.streams,
        problems=found.problems,
        ends_early=found.ends_early,
    )
