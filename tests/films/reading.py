"""Read times, planes, packets and side data of a film with PyAV and numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition


@dataclass(frozen=True)
class DecodedFrame:
    """A decoded frame. Times are in seconds."""

    time: Fraction | None
    duration: Fraction | None
    width: int
    height: int
    pixel_format: str
    key_frame: bool
    planes: tuple[np.ndarray, ...]  # 2-D, as in memory without padding; shaped as by films.planes()


@dataclass(frozen=True)
class PacketFact:
    """What is compared of a packet. Times are in seconds."""

    time: Fraction | None
    duration: Fraction | None
    md5: str
    size: int
    key: bool


def read_times(path: Path) -> list[Fraction]:
    """Return the times of all frames, in seconds, as decoded (edit lists applied)."""
    return [time for frame in _decode(path) if (time := _time(frame.pts, frame.time_base)) is not None]


def read_planes(path: Path) -> list[tuple[np.ndarray, ...]]:
    """Return the planes of all frames, without padding."""
    return [_planes(frame) for frame in _decode(path)]


def read_frames(path: Path) -> list[DecodedFrame]:
    """Return all frames with times and planes."""
    return [
        DecodedFrame(
            time=_time(frame.pts, frame.time_base),
            duration=_time(frame.duration or None, frame.time_base),
            width=frame.width,
            height=frame.height,
            pixel_format=frame.format.name,
            key_frame=frame.key_frame,
            planes=_planes(frame),
        )
        for frame in _decode(path)
    ]


def side_data(path: Path) -> dict[str, bytes]:
    """Return the side data of the first frame, by name."""
    frame = next(_decode(path))
    return {entry.type.name: bytes(entry) for entry in frame.side_data}


def packets(path: Path) -> list[list[PacketFact]]:
    """Return the packets of each stream, in the order of the file, with exact times and MD5 of their contents."""
    with av.open(str(path)) as container:
        found: list[list[PacketFact]] = [[] for _ in container.streams]
        for packet in container.demux(
            *(s for s in container.streams if s.type in ("video", "audio", "subtitle", "data"))
        ):
            if packet.size == 0:
                continue
            payload = bytes(packet)
            found[packet.stream.index].append(
                PacketFact(
                    time=_time(packet.pts, packet.time_base),
                    duration=_time(packet.duration, packet.time_base),
                    md5=hashlib.md5(payload, usedforsecurity=False).hexdigest(),
                    size=len(payload),
                    key=packet.is_keyframe,
                )
            )
        return found


def film_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Return the default video stream, or the first one, that is not an attached picture."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise ValueError(f"{container.name} holds no film")
    return next((s for s in streams if s.disposition & Disposition.default), streams[0])


def _decode(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(film_stream(container))


def _time(ticks: int | None, base: Fraction | None) -> Fraction | None:
    return None if ticks is None or not base else ticks * Fraction(base.numerator, base.denominator)


def _planes(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    from .planes import PACKED

    wide = frame.format.components[0].bits > 8
    order = PACKED.get(frame.format.name)
    found = []
    for index, plane in enumerate(frame.planes):
        if frame.format.name == "pal8" and index == 1:
            found.append(np.frombuffer(plane, np.uint8)[:1024].reshape(256, 4).copy())
            continue
        row = plane.width * (len(order[index]) if order else 1) * (2 if wide else 1)
        stored = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))[: plane.height, :row].copy()
        found.append(stored.view(np.uint16) if wide else stored)
    return tuple(found)
