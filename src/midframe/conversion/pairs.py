"""Pair neighbouring source frames, and decide where frames are duplicated instead of interpolated."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from midframe.video.cuts import CutDetector, thumbnail
from midframe.video.frame import Frame
from midframe.video.timeline import Slot, Timeline

HoldReason = Literal["cut", "gap", "lost", "repeat"]
"""Why no frames are interpolated between two source frames:

cut: a new shot begins with the second frame.
gap: the interval between both frames is longer than the limit.
lost: at least one of the frames could not be decoded, and is a copy of another one.
repeat: both frames are the same picture, bit for bit.
"""


@dataclass(frozen=True)
class FramePair:
    """Two neighbouring source frames, and the output frames from the first one up to the second one."""

    first: Frame
    second: Frame
    """The next source frame; for the last source frame, `first` again."""
    slots: tuple[Slot, ...]
    """The output frames in [first.time, second.time), in order; after the last source frame, those up to the end."""
    hold_reason: HoldReason | None = None
    """Why no frames are interpolated; None if they are."""


def frame_pairs(
    frames: Iterator[Frame],
    timeline: Timeline,
    gap_limit: Fraction,
    last_duration: Fraction,
    detector: CutDetector | None,
) -> Iterator[FramePair]:
    """Yield the pairs of neighbouring frames of a film, in order, and at the end a pair of the last frame alone.

    timeline: gives the output frames of each pair. gap_limit: no frames are interpolated between two frames that are
    further apart, in seconds. last_duration: the duration of the last frame in seconds, if it has none of its own.
    detector: detects cuts; None for no detection. Its decisions lag a few frames behind, which are buffered meanwhile.
    """
    buffered: deque[Frame] = deque()
    for frame in frames:
        buffered.append(frame)
        if detector is None:
            if len(buffered) > 1:
                yield _pair(buffered.popleft(), buffered[0], timeline, gap_limit, is_cut=False)
            continue
        for decision in detector.push(thumbnail(frame.luma, frame.layout.depth)):
            yield _pair(buffered.popleft(), buffered[0], timeline, gap_limit, is_cut=decision.cut)
    if detector is not None:
        for decision in detector.flush():
            yield _pair(buffered.popleft(), buffered[0], timeline, gap_limit, is_cut=decision.cut)
    if buffered:
        last = buffered.popleft()
        yield FramePair(last, last, tuple(timeline.slots_after(last.time, last.duration or last_duration)), "repeat")


def _pair(first: Frame, second: Frame, timeline: Timeline, gap_limit: Fraction, *, is_cut: bool) -> FramePair:
    """Return the pair of two frames. Of several reasons not to interpolate, only the first one below is recorded."""
    reason: HoldReason | None = None
    if first.lost or second.lost:
        reason = "lost"
    elif second.time - first.time > gap_limit:
        reason = "gap"
    elif first.same_picture(second):
        reason = "repeat"
    elif is_cut:
        reason = "cut"
    return FramePair(first, second, tuple(timeline.slots_between(first.time, second.time)), reason)
