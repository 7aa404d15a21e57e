"""Plan the times of a conversion: which source frames are converted, and when each output frame is shown."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from midframe.conversion.settings import Settings
from midframe.errors import SettingError
from midframe.video.containers import Container, demuxer_named
from midframe.video.probe import Film
from midframe.video.scan import StreamInfo
from midframe.video.streams import StreamPlan
from midframe.video.timeline import Timeline
from midframe.video.writer import MAX_TICKS_PER_SECOND

FREE_CLOCK_LIMIT = 10
"""Films from a container with a free-running clock that start later than this, in seconds, are shifted to 0."""


@dataclass(frozen=True)
class Segment:
    """A span of source frames that can be converted by itself: numbers `start` to `stop`, which is not included."""

    start: int
    stop: int


@dataclass(frozen=True)
class OutputTimes:
    """The times of the output frames."""

    segment: Segment
    """The source frames that are converted; empty for a pipe."""
    timeline: Timeline
    """The rule by which source times become output times."""
    time_base: Fraction
    """The unit of output times, in seconds."""
    ticks: array[int] | None
    """The time of each output frame in units of `time_base`; None for a pipe, whose times are not known beforehand."""
    last_duration: Fraction
    """The duration of the last source frame in seconds; of its last field if the film is deinterlaced by field."""


def plan_times(film: Film, container: Container, streams: Sequence[StreamPlan], settings: Settings) -> OutputTimes:
    """Return when the output frames are shown.

    Raises `SettingError` if no frame lies in the part that is converted, or if a frame would be too short for the
    container's clock.
    """
    segment = _converted_frames(film, settings)
    timeline = _fit_start(_basic_timeline(film, segment, settings), film, container, streams, settings)
    by_field = settings.deinterlace == "field"
    source_base = film.time_base / 2 if by_field else film.time_base
    time_base = timeline.time_base(source_base)
    if time_base.denominator > MAX_TICKS_PER_SECOND:
        time_base = Fraction(1, MAX_TICKS_PER_SECOND)
    last_duration = _last_duration(film, segment)
    if film.ticks is None:
        return OutputTimes(segment, timeline, time_base, None, last_duration)
    source_ticks = _field_ticks(film, segment, last_duration) if by_field else _frame_ticks(film, segment)
    last_duration = last_duration / 2 if by_field else last_duration
    ticks = timeline.output_ticks(source_ticks, source_base, last_duration, time_base)
    _check_frame_durations(ticks, time_base, container)
    return OutputTimes(segment, timeline, time_base, ticks, last_duration)


def _converted_frames(film: Film, settings: Settings) -> Segment:
    """Return the source frames with start <= time < end. Raises `SettingError` if there is none."""
    start, end, base = settings.start, settings.end, film.time_base
    if film.ticks is None:
        if start is not None or settings.duration is not None:
            raise SettingError("a pipe cannot be trimmed; --start and --duration need a file")
        return Segment(0, 0)
    segment = Segment(
        0 if start is None else bisect_left(film.ticks, start / base),
        len(film.ticks) if end is None else bisect_left(film.ticks, end / base),
    )
    if segment.stop <= segment.start:
        raise SettingError(
            f"no frame lies between {float(start or 0):g} s and "
            f"{f'{float(end):g} s' if end is not None else 'the end'}; "
            f"the film runs from {float(film.first_time):g} s to {float(film.last_time):g} s"
        )
    return segment


def _basic_timeline(film: Film, segment: Segment, settings: Settings) -> Timeline:
    """Return the timeline that the settings ask for: from 0 with `start`, otherwise from the film's own first time."""
    source_start = film.ticks[segment.start] * film.time_base if film.ticks else Fraction(0)
    return Timeline(
        source_start=source_start,
        output_start=Fraction(0) if settings.start is not None else source_start,
        factor=settings.effective_factor,
        rate=settings.fps,
        slowdown=settings.effective_factor if settings.slow_motion else 1,
        start_trimmed=settings.start is not None and segment.start > 0,
        end=settings.end,
    )


def _fit_start(
    timeline: Timeline, film: Film, container: Container, streams: Sequence[StreamPlan], settings: Settings
) -> Timeline:
    """Return the timeline with an output start that the container can hold for all streams."""
    if container.video_only:
        return replace(timeline, output_start=Fraction(0))
    if timeline.start_trimmed:
        return timeline
    # Packets of the interpolated stream do not count, because an edit list may hide the first of them.
    others = [plan.info for plan in streams if plan.included and plan.action != "encode"]
    first_times = [info.first_time for info in others if info.first_time is not None]
    source_start = timeline.source_start
    if settings.start is not None and timeline.output_start < source_start:
        # `start` lies before the first frame, so nothing is cut off, and the earliest stream moves to 0.
        # Packets before 0 do not count, because players skip them.
        earliest = min([source_start, *(max(time, Fraction(0)) for time in first_times)])
        timeline = replace(timeline, output_start=source_start - earliest)
    if demuxer_named(film.container).free_running_clock and timeline.output_start > FREE_CLOCK_LIMIT:
        timeline = replace(timeline, output_start=timeline.output_start - min([source_start, *first_times]))
    return _avoid_negative_times(timeline, film, container, others)


def _avoid_negative_times(timeline: Timeline, film: Film, container: Container, others: list[StreamInfo]) -> Timeline:
    """Return the timeline, shifted by whole milliseconds if a stream would start before 0 and the container forbids it.

    others: the streams that are copied or converted. The muxers of such containers would shift the streams, but not
    the chapters.
    """
    earliest = timeline.output_start
    if not container.negative_times and not demuxer_named(film.container).stores_codec_delay:
        # Opus and films from Matroska start before 0 only by a codec delay, which is stored beside the packets.
        first_times = [info.first_time for info in others if info.first_time is not None and info.codec != "opus"]
        earliest = min([earliest, *(timeline.output_time(time) for time in first_times)])
    if earliest >= 0:
        return timeline
    milliseconds = -(earliest * 1000 // 1)
    return replace(timeline, output_start=timeline.output_start + Fraction(milliseconds, 1000))


def _last_duration(film: Film, segment: Segment) -> Fraction:
    """Return the duration of the last source frame that is converted, in seconds."""
    if film.ticks is not None and segment.stop < len(film.ticks):
        return (film.ticks[segment.stop] - film.ticks[segment.stop - 1]) * film.time_base
    return film.last_duration


def _frame_ticks(film: Film, segment: Segment) -> Iterator[int]:
    """Yield the times of the converted source frames in units of `film.time_base`."""
    assert film.ticks is not None
    for number in range(segment.start, segment.stop):
        yield film.ticks[number]


def _field_ticks(film: Film, segment: Segment, last_duration: Fraction) -> Iterator[int]:
    """Yield the times of both fields of the converted source frames in units of half a `film.time_base`.

    The second field of a frame is shown half way to the next frame, or half of `last_duration` after the first field.
    """
    assert film.ticks is not None
    for number in range(segment.start, segment.stop):
        tick = film.ticks[number]
        is_last = number + 1 == segment.stop
        next_tick = tick + round(last_duration / film.time_base) if is_last else film.ticks[number + 1]
        yield 2 * tick
        yield tick + next_tick


def _check_frame_durations(ticks: array[int], time_base: Fraction, container: Container) -> None:
    """Raise `SettingError` if two output frames are too close for the clock of their container."""
    if container.clock is None:
        return
    clock, least = container.clock.ticks_per_second, container.clock.least_ticks_per_frame
    # Rounds tick * time_base * clock to the nearest integer, in integers because that is faster than fractions.
    numerator, denominator = 2 * clock * time_base.numerator, 2 * time_base.denominator
    previous = None
    for tick in ticks:
        rounded = (tick * numerator + time_base.denominator) // denominator
        if previous is not None and rounded - previous < least:
            raise SettingError(
                f"the frame before {float(tick * time_base):.4f} s would be too short for {container.spoken_name}, "
                f"which counts {clock} ticks a second and shows each frame for {least} or more; "
                "write an .mp4 or .mov, or give a lower --factor or --fps"
            )
        previous = rounded
