"""What a conversion should have given, computed without Midframe, and what it gave."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np

from films import read_frames
from midframe.conversion import Summary, convert

HALF_MILLISECOND = Fraction(1, 2000)


def quick(source: Path, target: Path | str, **wishes: Any) -> Summary:
    """Convert by averaging, at little cost: FFV1 into mkv, else the fastest preset unless the wishes say otherwise.

    For all that is not about what the made frames show. Those of the trained network are tested in test_default.py.
    """
    wishes = {"network": "average", "cuts": False, **wishes}
    suffix = Path(target).suffix
    if "encoder" not in wishes and "codec" not in wishes and suffix in (".mkv", ".mp4", ".mov"):
        wishes = {"encoder": "ffv1", **wishes} if suffix == ".mkv" else {"preset": "ultrafast", **wishes}
    return convert(source, target, **wishes)


def divided(sources: Sequence[Fraction], factor: int) -> list[Fraction]:
    """Every gap divided evenly by itself: (N - 1) * factor + 1 times."""
    times = [a + (b - a) * k / factor for a, b in pairwise(sources) for k in range(factor)]
    return [*times, sources[-1]]


def at_rate(sources: Sequence[Fraction], end: Fraction, rate: Fraction) -> list[Fraction]:
    """Times k / rate from the first source time; `end` is where the last frame's time is over."""
    return [sources[0] + k / rate for k in range(ceil((end - sources[0]) * rate))]


def nearest(sources: Sequence[Fraction], time: Fraction) -> Fraction:
    return min(sources, key=lambda source: abs(source - time))


def untouched(source: Path, target: Path, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Of the pairs (source frame, output frame): the source frames that are not bit for bit in the output."""
    before, after = read_frames(source), read_frames(target)
    return [
        a
        for a, b in pairs
        if before[a].pixel_format != after[b].pixel_format
        or not all(np.array_equal(p, q) for p, q in zip(before[a].planes, after[b].planes, strict=True))
    ]


def off_by(found: Sequence[Fraction], wanted: Sequence[Fraction]) -> Fraction:
    """The largest difference of two lists of times, which must be equally long."""
    assert len(found) == len(wanted), f"{len(found)} frames, not {len(wanted)}"
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True))


def clicks(path: Path) -> list[float]:
    """The seconds at which the clicks of the first audio stream sound (their middle), on the clock of the file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        rate = stream.codec_context.sample_rate
        loud = np.zeros(0)
        for frame in container.decode(stream):
            samples = np.abs(frame.to_ndarray().astype(np.float64))
            if not frame.format.is_planar:
                samples = samples.reshape(-1, len(frame.layout.channels)).T
            begin = max(0, round(frame.pts * Fraction(frame.time_base) * rate))
            loud = np.pad(loud, (0, max(0, begin + frame.samples - len(loud))))
            loud[begin : begin + frame.samples] = samples[0]
    above = np.flatnonzero(loud > 0.25 * loud.max())
    starts = above[np.flatnonzero(np.diff(above, prepend=-rate) > rate // 8)]
    middles = []
    for start in starts:
        piece = loud[start : start + rate // 8] ** 2
        middles.append((start + float((piece * np.arange(len(piece))).sum() / piece.sum())) / rate)
    return middles
