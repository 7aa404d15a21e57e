"""Search of a clip for its first window of frames that passes all limits of the data set."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from midframe.training.build.clips import clip_report
from midframe.training.build.frames import RgbPicture, encode_picture, frame_to_rgb
from midframe.training.build.motion import estimate_mean_motion
from midframe.training.build.rejection import (
    FrameStats,
    FrameStep,
    rejection_of_window,
    squared_difference,
    standard_deviation,
)
from midframe.training.build.settings import DatasetSettings
from midframe.training.build.stopwatch import Stopwatch
from midframe.video.clips import ClipReader, ClipReport
from midframe.video.cuts import Thumbnail, distance, thumbnail
from midframe.video.frame import Frame


@dataclass(frozen=True)
class ClipResult:
    """The result of the search of one clip."""

    report: dict[str, Any]
    """What was decoded and rejected (see `clip_report`)."""
    frames: tuple[bytes, ...] = ()
    """The encoded frames of the window; empty if no window passed."""
    info: dict[str, Any] = field(default_factory=dict)
    """Size, mean motion and scores of the window; empty if no window passed."""


def find_window(
    film: ClipReader, start: Fraction, end: Fraction, settings: DatasetSettings, stopwatch: Stopwatch
) -> ClipResult:
    """Decode a clip until a window of consecutive frames passes all limits, and return that window.

    start, end: of the clip, in seconds of the film's time.
    """
    decoding = ClipReport()
    report = clip_report(start, end)
    window: list[_Candidate] = []
    frame_count = 0
    with closing(_measure_decoding(film.frames(start, end, decoding), stopwatch)) as frames:
        for frame in frames:
            report["decoded"] = decoding.decoded
            if _decoding_problem(decoding):
                break
            frame_count += 1
            window.append(_measure_frame(frame, film, window[-1] if window else None, settings, stopwatch))
            if len(window) < settings.window:
                continue
            with stopwatch("score"):
                scores = _window_scores(window)
            rejection = rejection_of_window(
                [candidate.stats for candidate in window], scores["difference"], settings, film.film.time_base
            )
            if rejection is None:
                return _accept(report, window, scores, settings, stopwatch)
            report["rejected"].append({"reason": rejection.reason, **scores})
            window = window[rejection.skip :]
    report["decoded"] = decoding.decoded
    report["reason"] = _decoding_problem(decoding) or _shortage(frame_count, settings.window)
    return ClipResult(report)


def thumbnail_of(frame: Frame) -> Thumbnail:
    """Return a decoded frame as the cut detector compares it: a small picture of its luma (green for RGB)."""
    return thumbnail(frame.luma, frame.layout.depth)


@dataclass(frozen=True)
class _Candidate:
    """A decoded frame that may become part of a sample."""

    picture: RgbPicture
    thumbnail: Thumbnail
    stats: FrameStats


def _measure_frame(
    frame: Frame, film: ClipReader, previous: _Candidate | None, settings: DatasetSettings, stopwatch: Stopwatch
) -> _Candidate:
    """Convert a decoded frame to RGB and compute its statistics."""
    with stopwatch("convert"):
        picture = frame_to_rgb(frame, film.film, settings.size)
    with stopwatch("score"):
        small = thumbnail_of(frame)
        step = None
        if previous is not None:
            difference = squared_difference(previous.picture, picture)
            step = FrameStep(frame.time - previous.stats.time, difference, distance(previous.thumbnail, small))
        return _Candidate(picture, small, FrameStats(frame.time, standard_deviation(picture), step))


def _accept(
    report: dict[str, Any],
    window: Sequence[_Candidate],
    scores: dict[str, Any],
    settings: DatasetSettings,
    stopwatch: Stopwatch,
) -> ClipResult:
    """Estimate the motion of a window that passed, and encode its frames."""
    with stopwatch("motion"):
        motion = estimate_mean_motion(window[0].picture, window[-1].picture)
    with stopwatch("encode"):
        frames = tuple(encode_picture(candidate.picture, settings.jpeg) for candidate in window)
    height, width = window[0].picture.shape[:2]
    return ClipResult(report, frames, {"width": width, "height": height, "motion": round(motion, 3), **scores})


def _window_scores(window: Sequence[_Candidate]) -> dict[str, Any]:
    """Return the numbers of a window that the manifest lists.

    times: of the frames. difference: mean squared difference of the outer frames. deviation: the smallest standard
    deviation of a frame. steps, distances: of each two neighbouring frames.
    """
    steps = [candidate.stats.step for candidate in window[1:]]
    return {
        "times": [str(candidate.stats.time) for candidate in window],
        "difference": round(squared_difference(window[0].picture, window[-1].picture), 3),
        "deviation": round(min(candidate.stats.deviation for candidate in window), 3),
        "steps": [round(step.difference, 3) for step in steps if step],
        "distances": [round(step.distance, 4) for step in steps if step],
    }


def _decoding_problem(decoding: ClipReport) -> str | None:
    """Return why the clip must not be used, or None."""
    if decoding.damaged or decoding.messages:
        return f"damaged: {next(iter(decoding.messages), 'a picture is marked as corrupt')}"
    if decoding.format_change:
        return decoding.format_change
    return "interlaced" if decoding.interlaced else None


def _shortage(frame_count: int, needed: int) -> str:
    """Return why a clip that decoded without a problem gave no sample."""
    if frame_count == 0:
        return "no frames"
    return "too few frames" if frame_count < needed else "no good window"


def _measure_decoding(frames: Iterator[Frame], stopwatch: Stopwatch) -> Generator[Frame, None, None]:
    """Yield the same frames, and count the time that each takes to arrive as decoding."""
    while True:
        with stopwatch("decode"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
