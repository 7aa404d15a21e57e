"""The clips of a film: their places, and the report on each."""

from __future__ import annotations

from fractions import Fraction
from typing import Any


def plan_clips(start: Fraction, length: Fraction, clips: int, seconds: Fraction) -> list[tuple[Fraction, Fraction]]:
    """Place clips evenly in a film and return the (start, end) of each, in seconds of the film's time.

    start, length: of the film. There are `clips` of them, or as many as fit without overlap, at least one. The film is
    divided into equal parts, one a clip, and each clip lies in the middle of its part.
    """
    count = max(1, min(clips, int(length / seconds)))
    seconds = min(seconds, length)
    centres = [start + length * (2 * k + 1) / (2 * count) for k in range(count)]
    return [(centre - seconds / 2, centre + seconds / 2) for centre in centres]


def clip_report(start: Fraction, end: Fraction) -> dict[str, Any]:
    """Return the report of a clip, for JSON, before the search.

    start, end: of the clip. `reason`: why it gives no sample, None if it does. `decoded`: how many frames were decoded.
    `rejected`: the windows that were rejected, each with its reason and scores.
    """
    return {"start": str(start), "end": str(end), "reason": None, "decoded": 0, "rejected": []}
