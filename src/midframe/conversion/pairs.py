"""Pairs of neighbouring frames, the output frames that fall between them, and where those are held instead of made."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from midframe.video.cuts import CutDetector, thumbnail
from midframe.video.frame import Frame
from midframe.video.timeline import Slot, Timeline

Held = Literal["cut", "gap", "lost", "same"]


@dataclass(frozen=True)
class Pair:
    """Two neighbouring source frames and the output frames from the first up to the second.

    held: why nothing is made between them, None where it is. After the last frame `second` is that frame again.
    """

    first: Frame
    second: Frame
    slots: tuple[Slot, ...]
    held: Held | None = None


def pairs(
    frames: Iterator[Frame], timeline: Timeline, gap: Fraction, last_duration: Fraction, detector: CutDetector | None
) -> Iterator[Pair]:
    """All pairs of a film, in order, the last frame by itself at the end.

    gap: longer steps than this are not filled; detector: finds the cuts, None for no detection.
    """
    waiting: deque[Frame] = deque()
    for frame in frames:
        waiting.append(frame)
        if detector is None:
            if len(waiting) > 1:
                yield _pair(waiting.popleft(), waiting[0], timeline, gap, cut=False)
            continue
        for decision in detector.push(thumbnail(frame.luma, frame.layout.depth)):
            yield _pair(waiting.popleft(), waiting[0], timeline, gap, cut=decision.cut)
    if detector is not None:
        for decision in detector.flush():
            yield _pair(waiting.popleft(), waiting[0], timeline, gap, cut=decision.cut)
    if waiting:
        last = waiting.popleft()
        yield Pair(last, last, tuple(timeline.slots_after(last.time, last.duration or last_duration)), "same")


def _pair(first: Frame, second: Frame, timeline: Timeline, gap: Fraction, *, cut: bool) -> Pair:
    held: Held | None = None
    if first.lost or second.lost:
        held = "lost"
    elif second.time - first.time > gap:
        held = "gap"
    elif first.same_picture(second):
        held = "same"
    elif cut:
        held = "cut"
    return Pair(first, second, tuple(timeline.slots_between(first.time, second.time)), held)
