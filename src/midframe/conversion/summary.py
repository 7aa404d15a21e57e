"""What a conversion did, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from midframe.conversion.plan import Plan, plan_json
from midframe.video.probe import Film
from midframe.video.reader import ReadReport
from midframe.video.streams import StreamPlan

SCHEMA = "midframe.convert/1"


@dataclass
class Counts:
    """Frames: read and written, and of the written ones how many are source frames, made, or held, and why."""

    read: int = 0
    written: int = 0
    source: int = 0
    made: int = 0
    held_at_cuts: int = 0
    held_at_gaps: int = 0
    held_at_lost: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Summary:
    """The result of `convert`. `complete` is false where frames of the film are missing from the output."""

    source: str
    target: str
    dry_run: bool
    complete: bool
    plan: Plan
    counts: Counts
    report: ReadReport
    names: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """The summary as plain data; described by the JSON Schema in `midframe/schemas/convert.json`."""
        return {
            "schema": SCHEMA,
            "ok": True,
            "input": {"path": self.source, **film_json(self.plan.film)},
            "output": {"path": self.target, "dry_run": self.dry_run},
            "complete": self.complete,
            "plan": plan_json(self.plan),
            "frames": dict(vars(self.counts)),
            "damage": {
                "lost": self.report.lost,
                "damaged": self.report.damaged,
                "first_damaged": None if self.report.first_damaged is None else str(self.report.first_damaged),
                "dropped": max(self.report.dropped, self.plan.film.duplicate_frames),
                "not_shown": self.plan.film.undecodable_start,
                "ended_early": self.report.ended_early,
                "signs": list(self.plan.film.problems),
                "messages": dict(self.report.messages),
            },
            **self.names,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "streams": [stream_json(plan) for plan in self.plan.streams],
            "warnings": list(self.warnings),
        }


def film_json(film: Film) -> dict[str, Any]:
    """A film as understood."""
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


def stream_json(plan: StreamPlan) -> dict[str, Any]:
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
