"""Verify a finished output before it gets its final name: read it back and compare it with what was written."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.stream
import numpy as np

from midframe.conversion.plan import Plan
from midframe.errors import Cancelled, MidframeError, OutputError, error_reason
from midframe.video.containers import demuxer_named
from midframe.video.ffmpeg import is_cover_art, open_container
from midframe.video.images import gif, webp_writer, y4m
from midframe.video.images import writer as image_writer
from midframe.video.remuxer import RemuxedStream
from midframe.video.sink import Sink
from midframe.video.streams import StreamPlan
from midframe.video.writer import FilmWriter

PACKET_TOLERANCE = Fraction(15, 10_000)
"""How far the first and last packet of a stream may be from their written times, in seconds.

Matroska rounds times to a millisecond.
"""

DURATION_TOLERANCE = Fraction(2, 1000)
"""How far the last frame may be after the end that the container states, in seconds."""

DECODED_FRAMES = 10
"""Number of frames, spread over the output, that are decoded."""


def verify(sink: Sink, plan: Plan, written: int, cancelled: Callable[[], bool]) -> None:
    """Read a finished output back.

    written: number of frames given to the sink. Raises `OutputError` if the output differs from what was written, and
    `Cancelled` once `cancelled` returns True.
    """
    if isinstance(sink, FilmWriter):
        verify_film(sink, plan, cancelled)
    elif sink.part is not None:
        _verify_images(sink.part, plan, written, cancelled)


def verify_film(sink: FilmWriter, plan: Plan, cancelled: Callable[[], bool]) -> None:
    """Read all packets of a finished film, decode some frames, and compare both with what the writer has written.

    Raises `OutputError`, and `Cancelled` once `cancelled` returns True.
    """
    try:
        with open_container(str(sink.part)) as container:
            contents = _read_contents(container, sink.index, cancelled)
        _check_frame_times(contents, sink.ticks, plan)
        _check_streams(contents.streams, sink, plan)
        _check_cover_art(contents, plan)
        _check_duration(contents, plan)
        _decode_some_frames(sink, plan, cancelled)
    except Cancelled:
        raise
    except MidframeError as error:
        raise OutputError(f"{plan.target} did not come out as planned and was removed: {error}") from None
    except (av.error.FFmpegError, OSError) as error:
        raise OutputError(f"{plan.target} cannot be read again and was removed: {error_reason(error)}") from None


def _verify_images(part: Path, plan: Plan, written: int, cancelled: Callable[[], bool]) -> None:
    """Count the frames of an image sequence, an animation or y4m, and decode some of them."""
    module = {"images": image_writer, "y4m": y4m, "gif": gif, "webp": webp_writer}[plan.container.writer]
    count = module.count_frames(part)
    if count != written:
        raise OutputError(f"{plan.target}: {written} frames were written, {count} are there; it was removed")
    step = max(Fraction(1), Fraction(written, DECODED_FRAMES))
    numbers = [int(k * step) for k in range(min(DECODED_FRAMES, written))]
    for frame in module.decode_frames(part, numbers):
        if cancelled():
            raise Cancelled("stopped")
        if (frame.width, frame.height) != (plan.format.width, plan.format.height):
            raise OutputError(f"{plan.target}: a frame came out as {frame.width}x{frame.height}; it was removed")


@dataclass(frozen=True)
class _Contents:
    """What was read from the packets of a finished film."""

    ticks: array[int]
    """The times of the frames in units of `time_base`, sorted."""
    time_base: Fraction
    """The time base of the film's stream in the file, in seconds."""
    streams: Sequence[RemuxedStream]
    """The other video, audio and subtitle streams, in the order of the file, without cover art."""
    cover_packets: int
    """Number of packets that hold cover art."""
    end: Fraction | None
    """The end of the film as the container states it, in seconds; None if it does not."""


def _read_contents(container: av.container.InputContainer, film_index: int, cancelled: Callable[[], bool]) -> _Contents:
    """Read all packets of a film. film_index: the index of the film's stream in the file."""
    covers = {stream.index for stream in container.streams if is_cover_art(stream)}
    others = {
        stream.index: RemuxedStream()
        for stream in container.streams
        if stream.type in ("video", "audio", "subtitle") and stream.index not in {film_index, *covers}
    }
    ticks, cover_packets = array("q"), 0
    for packet in container.demux():
        if cancelled():
            raise Cancelled("stopped")
        if packet.size == 0 and packet.pts is None:
            continue
        if packet.stream_index == film_index:
            if packet.pts is not None and not packet.is_discard:
                ticks.append(packet.pts)
        elif packet.stream_index in covers:
            cover_packets += 1
        elif packet.stream_index in others and not _is_filler(packet):
            others[packet.stream_index].add(packet)
    np.frombuffer(ticks, np.int64).sort()
    end = None
    if container.duration:
        end = Fraction(container.duration + max(container.start_time or 0, 0), av.time_base)
    time_base = Fraction(container.streams[film_index].time_base or 1)
    return _Contents(ticks, time_base, list(others.values()), cover_packets, end)


def _is_filler(packet: av.Packet[Any]) -> bool:
    """Return whether a packet is an empty subtitle, which mp4 stores between two others."""
    return packet.stream.type == "subtitle" and packet.size == 2 and bytes(packet) == b"\0\0"


def _check_frame_times(contents: _Contents, written: array[int], plan: Plan) -> None:
    """Raise `OutputError` unless every frame is in the file, within one tick of the time at which it was written.

    written: the times at which frames were written, in units of `plan.time_base`.
    """
    found, base = contents.ticks, contents.time_base
    if len(found) != len(written):
        raise OutputError(f"{len(written)} frames were written, {len(found)} are in the file")
    tolerance = max(base, plan.time_base)
    for number, (tick, written_tick) in enumerate(zip(found, written, strict=True)):
        if abs(tick * base - written_tick * plan.time_base) > tolerance:
            raise OutputError(
                f"frame {number} is at {float(tick * base):.6f} s in the file, "
                f"it belongs at {float(written_tick * plan.time_base):.6f} s"
            )
        if number and tick <= found[number - 1]:
            raise OutputError(f"frames {number - 1} and {number} have the same time, {float(tick * base):.6f} s")


def _check_streams(found: Sequence[RemuxedStream], sink: FilmWriter, plan: Plan) -> None:
    """Raise `OutputError` unless every remuxed stream is complete and is in the file as it was written.

    found: the streams of the file, in its order, which is that of the plan.
    """
    is_trimmed = plan.timeline.start_trimmed or plan.timeline.end is not None
    in_file = iter(found)
    for stream in plan.streams:
        written = sink.remuxer.remuxed.get(stream.info.index)
        if written is None or stream.info.is_cover_art:
            continue
        name = stream.info.describe()
        is_complete = written.packets == stream.info.packets or stream.info.codec == "mov_text"
        if not is_trimmed and stream.action == "copy" and not is_complete:
            raise OutputError(f"of {name} {written.packets} packets of {stream.info.packets} were carried over")
        if written.packets == 0 and not plan.container.empty_streams:
            continue
        read = next(in_file, None)
        if read is None:
            raise OutputError(f"{name} is not in the file")
        _check_packets(read, written, stream, plan)


def _check_packets(read: RemuxedStream, written: RemuxedStream, stream: StreamPlan, plan: Plan) -> None:
    """Raise `OutputError` unless a stream of the file has the packets that were written, at their times."""
    name = stream.info.describe()
    if stream.codec.startswith("pcm"):
        # mp4 divides PCM samples into packets of its own, so packets and their times cannot be compared.
        if read.bytes != written.bytes:
            raise OutputError(f"of {name} {read.bytes} bytes of {written.bytes} are in the file")
        return
    if read.packets != written.packets:
        raise OutputError(f"of {name} {read.packets} packets of {written.packets} are in the file")
    if not demuxer_named(plan.film.container).packets_rewritten and read.checksum != written.checksum:
        raise OutputError(f"the packets of {name} are not those that were written")
    for which, time, written_time in (("first", read.first, written.first), ("last", read.last, written.last)):
        if time is None or written_time is None or written_time < 0:
            continue
        if abs(time - written_time) > PACKET_TOLERANCE:
            raise OutputError(
                f"the {which} packet of {name} is at {float(time):.4f} s, it belongs at {float(written_time):.4f} s"
            )


def _check_cover_art(contents: _Contents, plan: Plan) -> None:
    """Raise `OutputError` if planned cover art is missing."""
    planned = sum(stream.included and stream.info.is_cover_art for stream in plan.streams)
    if contents.cover_packets < planned:
        raise OutputError(f"the cover art is not in the file ({planned} planned, {contents.cover_packets} there)")


def _check_duration(contents: _Contents, plan: Plan) -> None:
    """Raise `OutputError` if the container states an end before the last frame."""
    if contents.end is None or not plan.container.exact_duration:
        return
    last_time = contents.ticks[-1] * contents.time_base
    if contents.end < last_time - DURATION_TOLERANCE:
        raise OutputError(f"its duration is {float(contents.end):.3f} s, the last frame is at {float(last_time):.3f} s")


def _decode_some_frames(sink: FilmWriter, plan: Plan, cancelled: Callable[[], bool]) -> None:
    """Decode key frames spread over the film. Raises `OutputError` if one is missing, corrupt or of another size."""
    for percent, frame in _spread_key_frames(sink, plan):
        if cancelled():
            raise Cancelled("stopped")
        if frame is None or frame.is_corrupt:
            raise OutputError(f"no frame can be decoded at {percent} % of the film")
        if (frame.width, frame.height) != (plan.format.width, plan.format.height):
            raise OutputError(
                f"the picture is {frame.width}x{frame.height}, not {plan.format.width}x{plan.format.height}"
            )


def _spread_key_frames(sink: FilmWriter, plan: Plan) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Yield the positions in per cent at which frames are decoded, each with the frame; None if there is none."""
    ticks = plan.ticks or (0,)
    first, last = ticks[0] * plan.time_base, ticks[-1] * plan.time_base
    with open_container(str(sink.part)) as container:
        stream = container.streams[sink.index]
        assert isinstance(stream, av.VideoStream)
        base = Fraction(stream.time_base or 1)
        for k in range(min(DECODED_FRAMES, len(sink.ticks))):
            if k:
                time = first + (last - first) * k / DECODED_FRAMES
                container.seek(int(time / base), stream=stream)
            yield k * 100 // DECODED_FRAMES, next(container.decode(stream), None)
