"""The result of a conversion, as an object and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from midframe.conversion.plan import Plan
from midframe.video.probe import Film
from midframe.video.reader import ReadReport
from midframe.video.streams import StreamPlan

SCHEMA = "midframe.convert/1"
"""The name of the JSON format that `Summary.json` returns; its JSON Schema is `midframe/schemas/convert.json`."""


@dataclass
class Counts:
    """Numbers of frames. `written` is the sum of all the following ones."""

    read: int = 0
    """Source frames that were decoded."""
    written: int = 0
    """Output frames."""
    source: int = 0
    """Output frames that are source frames at their own times."""
    interpolated: int = 0
    """Output frames made by the network."""
    duplicated_at_cuts: int = 0
    """Output frames between two shots, duplicated from the nearer source frame."""
    duplicated_at_gaps: int = 0
    """Output frames within a long interval between two source frames, duplicated from the nearer one."""
    duplicated_for_lost: int = 0
    """Output frames beside a source frame that could not be decoded, duplicated from its neighbour."""
    repeated: int = 0
    """Output frames between two equal source frames, or after the last one."""


@dataclass(frozen=True)
class Summary:
    """The result of a conversion."""

    dry_run: bool
    """Whether the conversion was only planned."""
    complete: bool
    """Whether the output contains all frames of the source; False after damage with `keep_going`."""
    plan: Plan
    counts: Counts
    report: ReadReport
    """What was noticed while the source was read."""
    names: dict[str, str] = field(default_factory=dict)
    """What interpolated the frames: `network`, `shader`, `backend` (of the operators) and `device`."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of work by stage: `plan`, `decode`, `pair`, `render`, `encode`, `verify`; and of all, `total`."""
    warnings: tuple[str, ...] = ()
    """What the user should know about the result, in one line each."""

    def json(self) -> dict[str, Any]:
        """Return the summary as data for JSON, in the format `SCHEMA`."""
        return {
            "schema": SCHEMA,
            "ok": True,
            "input": {"path": self.plan.source, **film_json(self.plan.film)},
            "output": {"path": self.plan.target, "dry_run": self.dry_run},
            "complete": self.complete,
            "plan": plan_json(self.plan),
            "frames": dict(vars(self.counts)),
            "damage": damage_json(self.plan.film, self.report),
            **self.names,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "streams": [stream_json(plan) for plan in self.plan.streams],
            "warnings": list(self.warnings),
        }


def film_json(film: Film) -> dict[str, Any]:
    """Return a probed film as data for JSON."""
    colour = film.colour
    return {
        "container": film.container,
        "codec": film.codec,
        "width": film.width,
        "height": film.height,
        "pixel_format": film.pixel_format,
        "frames": None if film.ticks is None else len(film.ticks),
        "first_time": str(film.first_time),
        "last_time": str(film.last_time),
        "duration_seconds": float(film.last_time - film.first_time + film.last_duration),
        "time_base": str(film.time_base),
        "rate": str(film.rate),
        "pixel_aspect": None if film.sample_aspect_ratio is None else str(film.sample_aspect_ratio),
        "rotation": film.rotation,
        "interlaced": film.interlaced,
        "colour": {
            "matrix": colour.matrix,
            "range": "full" if colour.full_range else "limited",
            "chroma_siting": colour.siting,
            "primaries": colour.tags.primaries,
            "transfer": colour.tags.transfer,
            "guessed": list(colour.guessed),
        },
        "hdr": {
            "mastering_display": film.hdr.mastering_display is not None,
            "content_light_level": film.hdr.content_light_level,
        },
        "chapters": len(film.chapters),
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return what is planned for the output as data for JSON."""
    ticks, output = plan.ticks, plan.format
    return {
        "frames": plan.frame_count,
        "first_time": str(ticks[0] * plan.time_base) if ticks else None,
        "last_time": str(ticks[-1] * plan.time_base) if ticks else None,
        "time_base": str(plan.time_base),
        "rate": str(output.rate),
        "segments": [{"start": segment.start, "stop": segment.stop} for segment in plan.segments],
        "container": plan.container.name,
        "encoder": output.encoder.name,
        "encoder_options": dict(output.encoder.options),
        "pixel_format": output.encoder.pixel_format,
        "width": output.width,
        "height": output.height,
        "estimated_bytes": plan.estimated_bytes,
    }


def damage_json(film: Film, report: ReadReport) -> dict[str, Any]:
    """Return the damage that was noticed as data for JSON."""
    return {
        "lost": report.lost,
        "damaged": report.damaged,
        "first_damaged": None if report.first_damaged is None else str(report.first_damaged),
        "dropped": max(report.dropped, film.duplicate_frames),
        "undecodable_start": film.undecodable_start,
        "ended_early": report.ended_early,
        "problems": list(film.problems),
        "messages": dict(report.messages),
    }


def stream_json(plan: StreamPlan) -> dict[str, Any]:
    """Return what becomes of one stream as data for JSON."""
    info = plan.info
    return {
        "index": info.index,
        "kind": info.kind,
        "codec": info.codec,
        "language": info.language,
        "title": info.title,
        "packets": info.packets,
        "action": plan.action,
        "written_as": plan.codec if plan.included else None,
        "reason": plan.reason or None,
    }
