"""The window of frames that is taken of a clip."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from midframe.training.build.clips import Clock
from midframe.training.build.motion import mean_motion
from midframe.training.build.pictures import Picture, encode, picture_of
from midframe.training.build.select import Seen, Step, deviation, judge, squared_difference, thumbnail_of
from midframe.training.build.settings import DatasetSettings
from midframe.video.cuts import Thumbnail, distance
from midframe.video.clips import ExcerptReport, Excerpts
from midframe.video.frame import Frame


@dataclass(frozen=True)
class Found:
    """What a clip gave: encoded frames and their info (none where no window was good), and a note of what was seen."""

    note: dict[str, Any]
    frames: tuple[bytes, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)


def find_window(film: Excerpts, start: Fraction, end: Fraction, settings: DatasetSettings, clock: Clock) -> Found:
    """The first good window of a clip. Decoding stops when it is found."""
    report = ExcerptReport()
    note: dict[str, Any] = {"start": str(start), "end": str(end), "reason": None, "decoded": 0, "rejected": []}
    window: list[_Taken] = []
    seen = 0
    with closing(_timed(film.frames(start, end, report), clock)) as frames:
        for frame in frames:
            note["decoded"] = report.decoded
            if _trouble(report):
                break
            seen += 1
            window.append(_take(frame, film, window[-1] if window else None, settings, clock))
            if len(window) < settings.window:
                continue
            with clock("score"):
                scores = _scores(window)
            verdict = judge([taken.seen for taken in window], scores["difference"], settings, film.film.time_base)
            if verdict is None:
                return _found(note, window, scores, settings, clock)
            reason, bad = verdict
            note["rejected"].append({"reason": reason, **scores})
            window = window[bad:]
    nothing = "no frames" if seen == 0 else "too few frames" if seen < settings.window else "no good window"
    return Found({**note, "reason": _trouble(report) or nothing, "decoded": report.decoded})


def _found(
    note: dict[str, Any], window: list[_Taken], scores: dict[str, Any], settings: DatasetSettings, clock: Clock
) -> Found:
    with clock("motion"):
        motion = mean_motion(window[0].picture, window[-1].picture)
    with clock("encode"):
        frames = tuple(encode(taken.picture, settings.jpeg) for taken in window)
    height, width = window[0].picture.shape[:2]
    return Found(note, frames, {"width": width, "height": height, "motion": round(motion, 3), **scores})


@dataclass(frozen=True)
class _Taken:
    picture: Picture
    thumbnail: Thumbnail
    seen: Seen


def _take(frame: Frame, film: Excerpts, before: _Taken | None, settings: DatasetSettings, clock: Clock) -> _Taken:
    with clock("convert"):
        picture = picture_of(frame, film.film, settings.size)
    with clock("score"):
        small = thumbnail_of(frame)
        step = None
        if before is not None:
            difference = squared_difference(before.picture, picture)
            step = Step(frame.time - before.seen.time, difference, distance(before.thumbnail, small))
        return _Taken(picture, small, Seen(frame.time, deviation(picture), step))


def _scores(window: list[_Taken]) -> dict[str, Any]:
    """Of a window: times, difference of the outer frames and of each step, the least deviation, distances."""
    steps = [taken.seen.step for taken in window[1:]]
    return {
        "times": [str(taken.seen.time) for taken in window],
        "difference": round(squared_difference(window[0].picture, window[-1].picture), 3),
        "deviation": round(min(taken.seen.deviation for taken in window), 3),
        "steps": [round(step.difference, 3) for step in steps if step],
        "distances": [round(step.distance, 4) for step in steps if step],
    }


def _trouble(report: ExcerptReport) -> str | None:
    if report.damaged or report.messages:
        return f"damaged: {next(iter(report.messages), 'a picture is marked as corrupt')}"
    if report.change:
        return report.change
    return "interlaced" if report.interlaced else None


def _timed(frames: Iterator[Frame], clock: Clock) -> Generator[Frame, None, None]:
    """The same frames; what it takes to get them counts as decoding."""
    while True:
        with clock("decode"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
