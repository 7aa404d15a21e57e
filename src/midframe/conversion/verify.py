"""Holding a written film against what was meant to be written, before it gets its name."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from midframe.conversion.plan import Plan
from midframe.errors import Cancelled, MidframeError, OutputError
from midframe.video.containers import demuxer_named
from midframe.video.ffmpeg import is_cover_art, open_container
from midframe.video.images import gif, webp_writer, y4m
from midframe.video.images import writer as image_writer
from midframe.video.remuxer import RemuxedStream
from midframe.video.sink import Sink
from midframe.video.writer import FilmWriter

TOLERANCE = Fraction(15, 10_000)
"""How far, in seconds, packets of sound and subtitles may lie from their times: what Matroska's milliseconds can do."""

SAMPLES = 10
"""How many frames are decoded to see that the picture is there."""


def verify(sink: Sink, plan: Plan, written: int, cancelled: Callable[[], bool]) -> None:
    """Read a finished output again, before it gets its name. Raises `OutputError` where it is not what was written."""
    if isinstance(sink, FilmWriter):
        verify_film(sink, plan, cancelled)
    elif sink.part is not None:
        _verify_frames(sink.part, plan, written, cancelled)


def verify_film(sink: FilmWriter, plan: Plan, cancelled: Callable[[], bool]) -> None:
    """Hold a film against the frames and packets that were written: all packets are read, some frames decoded."""
    part, index, ticks = sink.part, sink.index, sink.ticks
    try:
        with open_container(str(part)) as container:
            stream = container.streams[index]
            others = [s for s in container.streams if s.type in ("video", "audio", "subtitle") and not is_cover_art(s)]
            found = {s.index: RemuxedStream() for s in others if s.index != index}
            covers = {s.index: 0 for s in container.streams if is_cover_art(s)}
            times = array("q")
            for packet in container.demux():
                if cancelled():
                    raise Cancelled("stopped")
                if packet.size == 0 and packet.pts is None:
                    continue
                if packet.stream_index == index:
                    if packet.pts is not None and not packet.is_discard:
                        times.append(packet.pts)
                elif packet.stream_index in covers:
                    covers[packet.stream_index] += 1
                elif packet.stream_index in found and not _is_filler(packet):
                    found[packet.stream_index].add(packet)
            np.frombuffer(times, np.int64).sort()
            base = Fraction(stream.time_base or 1)
            _check_times(times, base, ticks, plan)
            _check_streams(list(found.values()), sink.remuxer.remuxed, plan)
            wanted = sum(p.included and p.info.is_cover_art for p in plan.streams)
            if sum(covers.values()) < wanted:
                raise OutputError(f"the cover art is not in the file ({wanted} planned, {sum(covers.values())} there)")
            # With B frames mp4 keeps durations in decoding order, so that of a variable-rate film's end says nothing.
            if container.duration and plan.container.exact_duration:
                lasts = Fraction(container.duration + max(container.start_time or 0, 0), av.time_base)
                if lasts < times[-1] * base - Fraction(2, 1000):
                    raise OutputError(
                        f"its duration is {float(lasts):.3f} s, the last frame is at {float(times[-1] * base):.3f} s"
                    )
        _decode_some(part, plan, index, len(ticks), cancelled)
    except Cancelled:
        raise
    except MidframeError as error:
        raise OutputError(f"{plan.target} did not come out as planned and was removed: {error}") from None
    except (av.error.FFmpegError, OSError) as error:
        raise OutputError(f"{plan.target} cannot be read again and was removed: {error.strerror or error}") from None


def _verify_frames(part: Path, plan: Plan, written: int, cancelled: Callable[[], bool]) -> None:
    """Hold pictures, an animation or y4m against the number of frames written, and decode some of them."""
    module = {"images": image_writer, "y4m": y4m, "gif": gif, "webp": webp_writer}[plan.container.writer]
    count = module.count_frames(part)
    if count != written:
        raise OutputError(f"{plan.target}: {written} frames were written, {count} are there; it was removed")
    wanted = [k * written // SAMPLES if written > SAMPLES else k for k in range(min(SAMPLES, written))]
    for frame in module.decode_frames(part, wanted):
        if cancelled():
            raise Cancelled("stopped")
        if (frame.width, frame.height) != (plan.form.width, plan.form.height):
            raise OutputError(f"{plan.target}: a frame came out as {frame.width}x{frame.height}; it was removed")


def _check_times(found: array[int], base: Fraction, ticks: array[int], plan: Plan) -> None:
    """Every frame is there, at its time to a tick of the file's clock, and times rise."""
    if len(found) != len(ticks):
        raise OutputError(f"{len(ticks)} frames were written, {len(found)} are in the file")
    tolerance = max(base, plan.time_base)
    for k, (tick, written) in enumerate(zip(found, ticks, strict=True)):
        if abs(tick * base - written * plan.time_base) > tolerance:
            raise OutputError(
                f"frame {k} is at {float(tick * base):.6f} s in the file, "
                f"it belongs at {float(written * plan.time_base):.6f} s"
            )
        if k and tick <= found[k - 1]:
            raise OutputError(f"frames {k - 1} and {k} have the same time, {float(tick * base):.6f} s")


def _is_filler(packet: av.Packet[Any]) -> bool:
    """Whether a packet is an empty subtitle, which mp4 puts between two others."""
    return packet.stream.type == "subtitle" and packet.size == 2 and bytes(packet) == b"\0\0"


def _check_streams(found: list[RemuxedStream], carried: Mapping[int, RemuxedStream], plan: Plan) -> None:
    """Every stream that was carried is there with all its packets, at their times, and was carried whole."""
    whole = not plan.timeline.start_trimmed and plan.timeline.end is None
    in_file = iter(found)
    for stream in plan.streams:
        written = carried.get(stream.info.index)
        if written is None or stream.info.is_cover_art:
            continue
        name = stream.info.describe()
        complete = written.packets == stream.info.packets or stream.info.codec == "mov_text"
        if whole and stream.action == "copy" and not complete:
            raise OutputError(f"of {name} {written.packets} packets of {stream.info.packets} were carried over")
        if written.packets == 0 and not plan.container.empty_streams:
            continue  # such a stream has no track there
        read = next(in_file, None)
        if read is None:
            raise OutputError(f"{name} is not in the file")
        if stream.codec.startswith("pcm"):
            # mp4 cuts plain samples into packets of its own.
            if read.bytes != written.bytes:
                raise OutputError(f"of {name} {read.bytes} bytes of {written.bytes} are in the file")
        elif read.packets != written.packets:
            raise OutputError(f"of {name} {read.packets} packets of {written.packets} are in the file")
        elif not demuxer_named(plan.film.container).packets_rewritten and read.checksum != written.checksum:
            raise OutputError(f"the packets of {name} are not those that were written")
        for words, a, b in (("first", read.first, written.first), ("last", read.last, written.last)):
            if a is not None and b is not None and b >= 0 and abs(a - b) > TOLERANCE and stream.codec[:3] != "pcm":
                raise OutputError(
                    f"the {words} packet of {name} is at {float(a):.4f} s, it belongs at {float(b):.4f} s"
                )


def _decode_some(part: Path, plan: Plan, index: int, frames: int, cancelled: Callable[[], bool]) -> None:
    """Decode frames spread over the film, each at a key frame."""
    with open_container(str(part)) as container:
        stream = container.streams[index]
        assert isinstance(stream, av.VideoStream)
        first = plan.times[0] * plan.time_base if plan.times else Fraction(0)
        last = plan.times[-1] * plan.time_base if plan.times else Fraction(0)
        base = Fraction(stream.time_base or 1)
        for k in range(min(SAMPLES, frames)):
            if cancelled():
                raise Cancelled("stopped")
            if k:
                place = first + (last - first) * k / SAMPLES
                container.seek(int(place / base), stream=stream)
            picture = next(container.decode(stream), None)
            if picture is None or picture.is_corrupt:
                raise OutputError(f"no frame can be decoded at {k * 100 // SAMPLES} % of the film")
            if (picture.width, picture.height) != (plan.form.width, plan.form.height):
                raise OutputError(
                    f"the picture is {picture.width}x{picture.height}, not {plan.form.width}x{plan.form.height}"
                )
