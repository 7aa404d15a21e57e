"""Collect the warnings of a conversion: what the user should know about the result, each in one line of text."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import islice

from midframe.conversion.plan import Plan
from midframe.conversion.settings import Settings
from midframe.video.colour import HLG, PQ
from midframe.video.encoders import writes_hdr_metadata
from midframe.video.probe import Film, HdrMetadata
from midframe.video.reader import ReadReport
from midframe.video.streams import lost_metadata

MAX_SIMILAR_WARNINGS = 5
"""Longest list of similar warnings that is shown; of a longer list, the first four are shown and the rest counted."""

MAX_REGULAR_JITTER = Fraction(3, 1000)
"""Frame intervals that differ by more than this, in seconds, make a variable frame rate."""


def collect_warnings(
    plan: Plan, settings: Settings, render_warnings: Sequence[str], report: ReadReport
) -> tuple[str, ...]:
    """Return all warnings of a conversion, each once.

    render_warnings: from the renderer, about the interpolated frames. report: of reading the film.
    """
    warnings = [
        *stream_warnings(plan),
        *source_warnings(plan.film, settings),
        *format_warnings(plan),
        *time_warnings(plan, settings),
        *render_warnings,
        *damage_warnings(plan.film, report),
    ]
    return tuple(dict.fromkeys(warnings))


def stream_warnings(plan: Plan) -> list[str]:
    """Return what is lost of the other streams and of the metadata."""
    streams = plan.streams
    warnings = [
        f"{s.info.describe()} {'not copied' if s.info.kind == 'data' else 'left out'}: {s.reason}"
        for s in streams
        if not s.included
    ]
    warnings += [f"{s.info.describe()} converted: {s.reason}" for s in streams if s.action in ("convert", "stretch")]
    warnings += [f"{s.info.describe()}: {s.reason}" for s in streams if s.action == "copy" and s.reason]
    lost_keys = lost_metadata(plan.film, streams, plan.container)
    if lost_keys:
        warnings.append(f"beside cover art mp4 has no place for the metadata {', '.join(lost_keys)}")
    if plan.film.metadata.get("timecode") and not any(s.info.kind == "data" for s in streams):
        warnings.append("the time code is kept as metadata")
    return warnings


def source_warnings(film: Film, settings: Settings) -> list[str]:
    """Return what is unusual about the source, and what had to be assumed."""
    warnings = []
    if film.duplicate_frames:
        warnings.append(f"{film.duplicate_frames} frames have the time of another one and are dropped")
    if not film.has_timestamps:
        warnings.append(f"the film has no times; its frames are taken as {film.rate} a second")
    if film.interlaced and settings.deinterlace == "off":
        warnings.append(
            "the film is interlaced, and made frames will show combs; --deinterlace makes it progressive first"
        )
    if film.colour.guessed and film.colour.matrix not in ("rgb", "gray"):
        warnings.append("the film does not say its colours: " + "; ".join(film.colour.guessed))
    if film.lost_side_data:
        warnings.append(f"{', '.join(film.lost_side_data)} cannot be kept")
    return warnings


def format_warnings(plan: Plan) -> list[str]:
    """Return what encoder and container cannot hold of the picture, and how it is changed."""
    film, output = plan.film, plan.format
    encoder = output.encoder.name
    warnings = []
    is_hdr = film.colour.tags.transfer in (PQ, HLG) or film.hdr.mastering_display is not None
    if is_hdr and film.hdr != HdrMetadata() and not writes_hdr_metadata(encoder):
        warnings.append(f"{encoder} does not write the film's HDR metadata (libx265, libx264 and libsvtav1 do)")
    if output.aspect is not None and not _stores_pixel_aspect(plan):
        warnings.append(
            f"the pixel aspect {output.aspect.numerator}:{output.aspect.denominator} cannot be written here"
        )
    if output.display_matrix is not None and not plan.container.rotation:
        warnings.append("the film's rotation cannot be written here; pictures come out as they are stored")
    if (output.width, output.height) != (film.width, film.height):
        warnings.append(
            f"{film.width}x{film.height} padded to {output.width}x{output.height} by repeating the last line, "
            f"as {encoder} needs even sizes"
        )
    if output.layout != film.layout:
        warnings.append(f"pictures are converted from {film.layout.describe()} to {output.layout.describe()}")
    if encoder == "libx264rgb":
        warnings.append(
            "the film is RGB and stays so, which few players show; --pixel-format yuv420p makes one for all"
        )
    if plan.container.writer == "gif" and film.container != "gif":
        warnings.append("a GIF frame has at most 256 colours: pictures with more are dithered")
    return warnings


def time_warnings(plan: Plan, settings: Settings) -> list[str]:
    """Return how the times of the output differ from those of the source."""
    container = plan.container
    warnings = []
    shift = plan.timeline.output_start - plan.timeline.source_start
    if shift and settings.start is None and container.writer not in ("images", "gif", "webp"):
        warnings.append(f"picture, sound and chapters all start {float(shift):+.3f} s later than in the film")
    if container.constant_rate and _has_variable_rate(plan):
        have = "have" if container.writer == "images" else "has"
        warnings.append(f"{container.spoken_name} {have} one frame rate for all; the film's variable times are lost")
    return warnings


def damage_warnings(film: Film, report: ReadReport) -> list[str]:
    """Return which damage was noticed when the film was probed and read."""
    warnings = _shorten(film.problems, "more signs of damage")
    if film.undecodable_start:
        warnings.append(
            f"{film.undecodable_start} frames before the first key frame cannot be decoded and are left out"
        )
    if report.damaged and report.first_damaged is not None:
        warnings.append(f"{report.damaged} frames are damaged, the first at {float(report.first_damaged):.3f} s")
    if report.lost:
        warnings.append(f"{report.lost} frames could not be decoded; neighbouring frames are shown instead")
    if report.dropped > film.duplicate_frames:
        dropped = report.dropped - film.duplicate_frames
        warnings.append(f"{dropped} frames that came at an unexpected time were dropped")
    if report.ended_early:
        warnings.append(f"the film ends early: {report.ended_early}")
    messages = [
        f"while reading, {message}" + (f" ({count} times)" if count > 1 else "")
        for message, count in report.messages.most_common()
    ]
    warnings += _shorten(messages, "more messages while reading")
    if report.lost_side_data:
        warnings.append(f"{', '.join(sorted(report.lost_side_data))} cannot be kept")
    return warnings


def _stores_pixel_aspect(plan: Plan) -> bool:
    """Return whether the output can hold a pixel aspect ratio."""
    in_codec = plan.format.encoder.name in ("libx264", "libx264rgb", "libx265")
    return {"container": True, "codec": in_codec, "none": False}[plan.container.pixel_aspect]


def _has_variable_rate(plan: Plan) -> bool:
    """Return whether the intervals between output frames differ."""
    ticks = plan.ticks
    if ticks is None or len(ticks) < 3:
        return False
    intervals = {second - first for first, second in zip(ticks, islice(ticks, 1, None), strict=False)}
    return (max(intervals) - min(intervals)) * plan.time_base > MAX_REGULAR_JITTER


def _shorten(warnings: Sequence[str], rest: str) -> list[str]:
    """Return a list of similar warnings in which the end of a long list is replaced by the count of `rest`."""
    if len(warnings) <= MAX_SIMILAR_WARNINGS:
        return list(warnings)
    shown = MAX_SIMILAR_WARNINGS - 1
    return [*warnings[:shown], f"{len(warnings) - shown} {rest}"]
