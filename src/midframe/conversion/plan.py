"""Plan a conversion: decide everything about the output before anything is written."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction

from midframe.conversion.format import choose_picture_format, complete_format, estimate_bytes
from midframe.conversion.settings import Settings
from midframe.conversion.target import check_free_space, check_target
from midframe.conversion.times import Segment, plan_times
from midframe.video.containers import Container, container_for
from midframe.video.probe import Film
from midframe.video.streams import StreamPlan, plan_streams
from midframe.video.timeline import Timeline, gap_limit
from midframe.video.writer import OutputFormat

DEFAULT_GAP_LIMIT = Fraction(1, 2)
"""`Plan.gap_limit` in seconds for a pipe, whose usual frame interval is not known beforehand."""


@dataclass(frozen=True)
class Plan:
    """What a conversion will write."""

    film: Film
    """The source, as probed."""
    source: str
    """The name of the source as the user gave it."""
    target: str
    """The name of the output as the user gave it."""
    container: Container
    timeline: Timeline
    """The rule by which source times become output times."""
    time_base: Fraction
    """The unit of output times, in seconds."""
    ticks: array[int] | None
    """The time of each output frame in units of `time_base`; None for a pipe, whose times are not known beforehand."""
    last_duration: Fraction
    """The duration of the last source frame in seconds."""
    gap_limit: Fraction
    """No frames are interpolated between two source frames that are further apart than this, in seconds."""
    segments: tuple[Segment, ...]
    """The spans of source frames that are converted."""
    format: OutputFormat
    """How the picture is written, and what describes it."""
    streams: tuple[StreamPlan, ...]
    """What becomes of each stream of the source, in its order."""
    estimated_bytes: int
    """A rough, low estimate of the size of the output."""

    @property
    def frame_count(self) -> int | None:
        """The number of output frames; None for a pipe."""
        return None if self.ticks is None else len(self.ticks)


def make_plan(film: Film, source: str, target: str, settings: Settings) -> Plan:
    """Plan the conversion of a probed film. Nothing is written.

    Raises `SettingError` if settings do not fit each other, the film or the container, `OutputError` if the target
    cannot be written, and `InputError` if the film cannot be converted.
    """
    check_target(source, target, settings)
    container = container_for(target)
    picture = choose_picture_format(film, target, container, settings)
    audio = settings.audio or ("drop" if settings.slow_motion else "keep")
    streams = plan_streams(film, container, audio)
    times = plan_times(film, container, streams, settings)
    output = complete_format(film, container, picture, times, settings)
    plan = Plan(
        film=film,
        source=source,
        target=target,
        container=container,
        timeline=times.timeline,
        time_base=times.time_base,
        ticks=times.ticks,
        last_duration=times.last_duration,
        gap_limit=gap_limit(film.ticks, film.time_base) if film.ticks else DEFAULT_GAP_LIMIT,
        segments=(times.segment,),
        format=output,
        streams=streams,
        estimated_bytes=estimate_bytes(film, picture, streams, len(times.ticks or ())),
    )
    check_free_space(target, plan.estimated_bytes)
    return plan
