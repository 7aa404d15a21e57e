"""Holding a written film against what was meant to be written, before it gets its name."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import av.error

from midframe.conversion.plan import Plan
from midframe.errors import Cancelled, MidframeError, OutputError
from midframe.video import animations, picture_writer, y4m
from midframe.video.probe import open_container
from midframe.video.sink import Sink
from midframe.video.streams import StreamPlan
from midframe.video.writer import FilmWriter

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
    part, index, ticks, carried = sink.part, sink.index, sink.ticks, sink.carrier.counts
    try:
        with open_container(str(part)) as container:
            stream = container.streams[index]
            counts: dict[int, int] = {}
            found = array("q")
            for packet in container.demux():
                if cancelled():
                    raise Cancelled("stopped")
                if packet.size == 0 and packet.pts is None:
                    continue
                counts[packet.stream_index] = counts.get(packet.stream_index, 0) + 1
                if packet.stream_index == stream.index and packet.pts is not None and not packet.is_discard:
                    found.append(packet.pts)
            found = array("q", sorted(found))
            base = Fraction(stream.time_base or 1)
            _check_times(found, base, ticks, plan)
            _check_streams([n for k, n in sorted(counts.items()) if k != stream.index], plan.streams, carried, plan)
            if container.duration:
                lasts = Fraction(container.duration + max(container.start_time or 0, 0), av.time_base)
                if lasts < found[-1] * base - Fraction(2, 1000):
                    raise OutputError(
                        f"its duration is {float(lasts):.3f} s, the last frame is at {float(found[-1] * base):.3f} s"
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
    module = {"pictures": picture_writer, "yuv4mpegpipe": y4m}.get(plan.container, animations)
    found = module.read_back(part)
    count = found if isinstance(found, int) else len(found)
    if count != written:
        raise OutputError(f"{plan.target}: {written} frames were written, {count} are there; it was removed")
    for k in range(min(SAMPLES, written)):
        if cancelled():
            raise Cancelled("stopped")
        frame = module.decode_frame(part, k * written // SAMPLES if written > SAMPLES else k)
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


def _check_streams(found: list[int], streams: tuple[StreamPlan, ...], carried: Mapping[int, int], plan: Plan) -> None:
    """Every stream that was carried is there with all its packets; a muxer may add empty subtitle samples."""
    wanted = [s for s in streams if s.info.index in carried and carried[s.info.index] > 0]
    if plan.container in ("mp4", "mov"):
        wanted = [s for s in wanted if s.info.kind != "subtitle"]
    counts = sorted(found)
    for stream in wanted:
        count = carried[stream.info.index]
        if count not in counts:
            raise OutputError(f"{stream.info.describe()} has not all of its {count} packets (streams have {found})")
        counts.remove(count)


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
            if picture is None:
                raise OutputError(f"no frame can be decoded at {k * 100 // SAMPLES} % of the film")
            if (picture.width, picture.height) != (plan.form.width, plan.form.height):
                raise OutputError(
                    f"the picture is {picture.width}x{picture.height}, not {plan.form.width}x{plan.form.height}"
                )
