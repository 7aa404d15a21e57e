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
from midframe.video.probe import film_stream, open_container
from midframe.video.streams import StreamPlan

SAMPLES = 10
"""How many frames are decoded to see that the picture is there."""


def verify_film(
    part: Path, plan: Plan, ticks: array[int], carried: Mapping[int, int], cancelled: Callable[[], bool]
) -> None:
    """Read a written film again and raise `OutputError` where it is not what was written.

    ticks: the times of the frames written, in the plan's time base; carried: packets written by source stream.
    """
    try:
        with open_container(str(part)) as container:
            stream = film_stream(container, plan.target)
            counts: dict[int, int] = {}
            times: list[Fraction] = []
            end = Fraction(0)
            for packet in container.demux():
                if cancelled():
                    raise Cancelled("stopped")
                if packet.size == 0 and packet.pts is None:
                    continue
                counts[packet.stream_index] = counts.get(packet.stream_index, 0) + 1
                if packet.stream_index == stream.index and packet.pts is not None and not packet.is_discard:
                    times.append(packet.pts * Fraction(packet.time_base))
                    end = max(end, times[-1] + (packet.duration or 0) * Fraction(packet.time_base))
            tick = max(Fraction(stream.time_base or 0), plan.time_base)
            if plan.container in ("matroska", "webm"):
                tick = Fraction(1, 1000)
            _check_times(sorted(times), ticks, plan, tick)
            _check_streams([n for k, n in sorted(counts.items()) if k != stream.index], plan.streams, carried, plan)
            if container.duration:
                lasts = Fraction(container.duration + max(container.start_time or 0, 0), av.time_base)
                if lasts < times[-1] - tick - Fraction(1, 1000):
                    raise OutputError(f"its duration is {float(lasts):.3f} s, the last frame is at {float(times[-1]):.3f} s")
        _decode_some(part, plan, len(ticks), cancelled)
    except Cancelled:
        raise
    except MidframeError as error:
        raise OutputError(f"{plan.target} did not come out as planned and was removed: {error}") from None
    except (av.error.FFmpegError, OSError) as error:
        raise OutputError(f"{plan.target} cannot be read again and was removed: {error.strerror or error}") from None


def _check_times(times: list[Fraction], ticks: array[int], plan: Plan, tick: Fraction) -> None:
    if len(times) != len(ticks):
        raise OutputError(f"{len(ticks)} frames were written, {len(times)} are in the file")
    for k, (found, written) in enumerate(zip(times, ticks, strict=True)):
        if abs(found - written * plan.time_base) > tick:
            raise OutputError(
                f"frame {k} is at {float(found):.6f} s in the file, it belongs at {float(written * plan.time_base):.6f} s"
            )
    for k, (earlier, later) in enumerate(zip(times, times[1:], strict=False)):
        if later <= earlier:
            raise OutputError(f"frames {k} and {k + 1} have the same time, {float(later):.6f} s")


def _check_streams(
    found: list[int], streams: tuple[StreamPlan, ...], carried: Mapping[int, int], plan: Plan
) -> None:
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


def _decode_some(part: Path, plan: Plan, frames: int, cancelled: Callable[[], bool]) -> None:
    """Decode frames spread over the film, each at a key frame."""
    with open_container(str(part)) as container:
        stream = film_stream(container, plan.target)
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
