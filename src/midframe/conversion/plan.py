"""What will come out of a conversion, settled before it runs."""

from __future__ import annotations

import os
import shutil
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from midframe.conversion.settings import Settings
from midframe.conversion.warnings import notes
from midframe.errors import InputError, OutputError, SettingError
from midframe.video.colour import Colour
from midframe.video.containers import CONTAINERS, Container, container_for, demuxer_named
from midframe.video.encoders import Encoder, EncoderRequest, choose_encoder, encoded_size
from midframe.video.frame import Layout, planar_layout
from midframe.video.images.animation import ANIMATION_LAYOUT
from midframe.video.images.names import is_image_sequence, list_images, matching_names, output_pattern
from midframe.video.images.writer import image_colour, image_layout
from midframe.video.images.y4m import y4m_layout
from midframe.video.probe import Film
from midframe.video.sink import check_target as check_file
from midframe.video.streams import (
    StreamPlan,
    chapters_for,
    container_metadata,
    film_stream_metadata,
    plan_streams,
)
from midframe.video.timeline import Timeline, gap_limit
from midframe.video.writer import MAX_TICKS_PER_SECOND, OutputFormat, check_output_format


@dataclass(frozen=True)
class Segment:
    """A span that starts at a source frame and can be made alone: source frames first..last (not included)."""

    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """What will come out: frames and their times, streams, and how they are written.

    times: output times in units of `time_base`; None where the source's are not known before it is read (a pipe).
    """

    film: Film
    target: str
    container: Container
    timeline: Timeline
    time_base: Fraction
    times: array[int] | None
    last_duration: Fraction
    gap: Fraction
    segments: tuple[Segment, ...]
    form: OutputFormat
    streams: tuple[StreamPlan, ...]
    warnings: tuple[str, ...]
    estimated_bytes: int

    @property
    def frames(self) -> int | None:
        return None if self.times is None else len(self.times)


def make_plan(film: Film, source: str, target: str, settings: Settings) -> Plan:
    """Settle what a conversion will give, and refuse what cannot be done.

    Raises `SettingError` for wishes that do not fit, `OutputError` for a target that cannot be written, `InputError`
    for a film that cannot be converted.
    """
    check_target(source, target, settings)
    container = container_for(target)
    if film.has_alpha and not settings.drop_alpha and film.pixel_format.startswith(("yuva", "gbrap")):
        raise InputError(
            f"{film.path} has transparency ({film.pixel_format}), which made frames lack; --drop-alpha leaves it out"
        )
    layout, colour = _written_layout(film, target, container, settings)
    encoder = (
        choose_encoder(
            container,
            layout,
            colour,
            film.hdr,
            EncoderRequest(settings.codec, settings.encoder, settings.crf, settings.preset),
        )
        if container.needs_encoder
        else Encoder(container.name, layout.name, {})
    )
    audio = settings.audio or ("drop" if settings.slow_motion else "keep")
    streams = plan_streams(film, container, audio)
    first, last = _span(film, settings)
    timeline = _timeline(film, container, streams, settings, first)
    base = film.time_base / 2 if settings.deinterlace == "field" else film.time_base
    time_base = timeline.time_base(base)
    if time_base.denominator > MAX_TICKS_PER_SECOND:
        time_base = Fraction(1, MAX_TICKS_PER_SECOND)
    last_duration = _last_duration(film, last)
    times = None
    if film.ticks is not None:
        sources = _source_ticks(film, first, last, last_duration, settings)
        if settings.deinterlace == "field":
            last_duration /= 2
        times = timeline.output_ticks(sources, base, last_duration, time_base)
        _check_clock(times, time_base, container)
    width, height = encoded_size(encoder, film.width, film.height, settings.odd)
    form = OutputFormat(
        container=container,
        encoder=encoder,
        layout=layout,
        colour=colour,
        width=width,
        height=height,
        rate=_rate(film, timeline),
        time_base=time_base,
        aspect=film.sample_aspect_ratio,
        display_matrix=film.display_matrix,
        disposition=film.disposition,
        metadata=container_metadata(film, container),
        stream_metadata=film_stream_metadata(film, container),
        chapters=chapters_for(film, container, timeline),
    )
    if container.needs_encoder:
        check_output_format(form)
    plan = Plan(
        film=film,
        target=target,
        container=container,
        timeline=timeline,
        time_base=time_base,
        times=times,
        last_duration=last_duration,
        gap=gap_limit(film.ticks, film.time_base) if film.ticks else Fraction(1, 2),
        segments=(Segment(first, last),),
        form=form,
        streams=streams,
        warnings=(),
        estimated_bytes=_estimate(film, layout, encoder, streams, len(times) if times else 0),
    )
    _check_space(plan)
    return replace(plan, warnings=tuple(notes(plan, settings)))


def check_target(source: str, target: str, settings: Settings) -> None:
    """Refuse a target that cannot be written, before anything else is done."""
    if target == "-":
        return
    where = Path(target)
    if source != "-" and where.exists() and Path(source).exists() and where.samefile(source):
        raise OutputError(f"the output {target} is the input itself; give another name")
    if is_image_sequence(source) and is_image_sequence(target):
        folder, pattern = output_pattern(target)
        pictures = list_images(source)
        if (
            folder.exists()
            and folder.samefile(pictures[0].parent)
            and matching_names(pattern, [p.name for p in pictures])
        ):
            raise OutputError(f"the pictures {target} would replace the input's own; give another folder or pattern")
    folder = where.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist, so {where.name} cannot be written there")
    if not is_image_sequence(target):
        check_file(target, settings.overwrite)
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the folder {folder} cannot be written to: permission denied")


def _written_layout(film: Film, target: str, container: Container, settings: Settings) -> tuple[Layout, Colour]:
    """The layout and colours that are written: the film's own but where target or user want others."""
    layout, colour = film.layout, film.colour
    if settings.pixel_format is not None:
        wanted = planar_layout(settings.pixel_format)
        if wanted is None or settings.pixel_format.startswith("yuvj"):
            raise SettingError(
                f"'{settings.pixel_format}' is not a pixel format to convert to; "
                "give a planar one such as yuv420p, yuv444p10le, gray or gbrp"
            )
        layout = wanted
    elif container.writer == "images":
        layout = image_layout(target, film.layout)
        return layout, image_colour(layout, film.colour)
    elif container.writer in ("gif", "webp"):
        layout = ANIMATION_LAYOUT
    elif container.writer == "y4m":
        layout = y4m_layout(film.layout)
    return layout, colour if layout.family == colour_family(colour) else _colour_for(layout, film)


def colour_family(colour: Colour) -> str:
    return colour.matrix if colour.matrix in ("rgb", "gray") else "yuv"


def _colour_for(layout: Layout, film: Film) -> Colour:
    """Colours for a layout of another family than the film's: BT.709 limited for YUV, full range for the others."""
    form = {"rgb": ("rgb", True, 0, 2), "gray": ("gray", True, 2, 2)}.get(layout.family, ("bt709", False, 1, 1))
    matrix, full_range, matrix_tag, range_tag = form
    return Colour(matrix, full_range, tags=replace(film.colour.tags, matrix=matrix_tag, range=range_tag))


def _span(film: Film, settings: Settings) -> tuple[int, int]:
    """Which source frames are taken."""
    if film.ticks is None:
        if settings.start is not None or settings.duration is not None:
            raise SettingError("a pipe cannot be trimmed; --start and --duration need a file")
        return 0, 0
    first = 0 if settings.start is None else bisect_left(film.ticks, settings.start / film.time_base)
    last = len(film.ticks) if settings.end is None else bisect_left(film.ticks, settings.end / film.time_base)
    if last <= first:
        raise SettingError(
            f"no frame lies between {float(settings.start or 0):g} s and "
            f"{f'{float(settings.end):g} s' if settings.end is not None else 'the end'}; "
            f"the film runs from {float(film.first_time):g} s to {float(film.last_time):g} s"
        )
    return first, last


def _timeline(
    film: Film, container: Container, streams: Sequence[StreamPlan], settings: Settings, first: int
) -> Timeline:
    """The rule for output times, moved where the container could not hold a stream's first time otherwise."""
    origin = film.ticks[first] * film.time_base if film.ticks else Fraction(0)
    trimmed = settings.start is not None and first > 0
    timeline = Timeline(
        source_start=origin,
        output_start=Fraction(0) if settings.start is not None else origin,
        factor=settings.frames_for_one,
        rate=settings.fps,
        slowdown=settings.frames_for_one if settings.slow_motion else 1,
        start_trimmed=trimmed,
        end=settings.end,
    )
    if container.video_only:
        return replace(timeline, output_start=Fraction(0))
    if trimmed:
        return timeline
    # The film's own packets do not count: an edit list may hide the first of them.
    others = [s.info for s in streams if s.included and s.action != "encode"]
    firsts = [info.first_time for info in others if info.first_time is not None]
    if settings.start is not None and timeline.output_start < origin:
        # Nothing is cut off: what is seen or heard first comes at 0. (What lies before 0 is there to be skipped.)
        earliest = min([origin, *(max(first, Fraction(0)) for first in firsts)])
        timeline = replace(timeline, output_start=origin - earliest)
    if demuxer_named(film.container).free_running_clock and timeline.output_start > FREE_CLOCK_LIMIT:
        timeline = replace(timeline, output_start=timeline.output_start - min([origin, *firsts]))
    earliest = timeline.output_start
    if not container.negative_times:
        # These shift everything but the chapters where a packet starts below 0; so everything is shifted here. Only
        # what a film in Matroska has before 0, or Opus elsewhere, is there by a delay that Matroska writes beside it.
        delayed = demuxer_named(film.container).stores_codec_delay
        firsts = [i.first_time for i in others if i.first_time is not None and not delayed and i.codec != "opus"]
        earliest = min([earliest, *(timeline.output_time(first) for first in firsts)])
    if earliest < 0:
        milliseconds = -(earliest * 1000 // 1)
        timeline = replace(timeline, output_start=timeline.output_start + Fraction(milliseconds, 1000))
    return timeline


def _check_clock(times: array[int], base: Fraction, container: Container) -> None:
    """Refuse frames that are too short for the clock of their container."""
    if container.clock is None:
        return
    clock, least = container.clock.ticks_per_second, container.clock.least_ticks_per_frame
    before = None
    numerator, denominator = 2 * clock * base.numerator, 2 * base.denominator
    for tick in times:
        now = (tick * numerator + base.denominator) // denominator
        if before is not None and now - before < least:
            raise SettingError(
                f"the frame before {float(tick * base):.4f} s would be too short for {container.spoken_name}, which "
                f"counts {clock} ticks a second and shows each frame for {least} or more; "
                "write an .mp4 or .mov, or give a lower --factor or --fps"
            )
        before = now


FREE_CLOCK_LIMIT = 10
"""Transport and program streams start at any time of day; later than this many seconds, the film is moved to 0."""


def _last_duration(film: Film, last: int) -> Fraction:
    """How long the last frame that is taken is shown."""
    if film.ticks is not None and last < len(film.ticks):
        return (film.ticks[last] - film.ticks[last - 1]) * film.time_base
    return film.last_duration


def _source_ticks(film: Film, first: int, last: int, last_duration: Fraction, settings: Settings) -> Iterator[int]:
    """The times of the source frames that are taken, in the film's units.

    With both fields of each they are in half units, the second field half way to the next frame.
    """
    assert film.ticks is not None
    for k in range(first, last):
        tick = film.ticks[k]
        if settings.deinterlace != "field":
            yield tick
            continue
        yield 2 * tick
        yield tick + (film.ticks[k + 1] if k + 1 < last else tick + round(last_duration / film.time_base))


def _rate(film: Film, timeline: Timeline) -> Fraction:
    """The nominal rate that is written beside the exact times."""
    if timeline.rate is not None:
        return timeline.rate
    return film.rate * timeline.factor / timeline.slowdown


def _estimate(film: Film, layout: Layout, encoder: Encoder, streams: Sequence[StreamPlan], frames: int) -> int:
    """About how many bytes will be written: the other streams as they are, the picture by bits a pixel."""
    samples = sum(h * w for h, w in layout.sizes(film.width, film.height))
    lossless = encoder.name in ("ffv1", *(c.name for c in CONTAINERS if c.video_only))
    bits = layout.depth * 0.5 if lossless else 0.03
    others = sum(s.info.bytes for s in streams if s.included and s.action != "encode")
    return others + int(samples * bits / 8 * frames)


def _check_space(plan: Plan) -> None:
    if plan.target == "-":
        return
    free = shutil.disk_usage(Path(plan.target).absolute().parent).free
    if plan.estimated_bytes > free:
        raise OutputError(
            f"about {plan.estimated_bytes / 1e6:.0f} MB are needed for {plan.target}, "
            f"but only {free / 1e6:.0f} MB are free"
        )


def plan_json(plan: Plan) -> Mapping[str, Any]:
    """The plan as plain data, for `--dry-run`."""
    times = plan.times
    return {
        "frames": plan.frames,
        "first_time": str(times[0] * plan.time_base) if times else None,
        "last_time": str(times[-1] * plan.time_base) if times else None,
        "time_base": str(plan.time_base),
        "rate": str(plan.form.rate),
        "segments": [{"first": s.first, "last": s.last} for s in plan.segments],
        "container": plan.container.name,
        "encoder": plan.form.encoder.name,
        "encoder_options": dict(plan.form.encoder.options),
        "pixel_format": plan.form.encoder.pixel_format,
        "width": plan.form.width,
        "height": plan.form.height,
        "estimated_bytes": plan.estimated_bytes,
    }
