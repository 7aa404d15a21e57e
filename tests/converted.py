"""Convert films in tests, compute the expected times without Midframe, and compare."""

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


def convert_quickly(source: Path, target: Path | str, **settings: Any) -> Summary:
    """Convert by averaging, without cut detection, with FFV1 into mkv and otherwise with the fastest preset.

    settings: keywords of `convert`, which override this. For all tests that do not look at interpolated pictures.
    """
    settings = {"network": "average", "cuts": False, **settings}
    suffix = Path(target).suffix
    if "encoder" not in settings and "codec" not in settings and suffix in (".mkv", ".mp4", ".mov"):
        encoding = {"encoder": "ffv1"} if suffix == ".mkv" else {"preset": "ultrafast"}
        settings = {**encoding, **settings}
    return convert(source, target, **settings)


def interpolated_times(sources: Sequence[Fraction], factor: int) -> list[Fraction]:
    """Return the output times for a factor: every interval between two source times divided evenly."""
    times = [a + (b - a) * k / factor for a, b in pairwise(sources) for k in range(factor)]
    return [*times, sources[-1]]


def times_at_rate(sources: Sequence[Fraction], end: Fraction, rate: Fraction) -> list[Fraction]:
    """Return the output times for a frame rate. end: the time at which the last source frame ends."""
    return [sources[0] + k / rate for k in range(ceil((end - sources[0]) * rate))]


def nearest_time(sources: Sequence[Fraction], time: Fraction) -> Fraction:
    """Return the source time nearest to `time`."""
    return min(sources, key=lambda source: abs(source - time))


def changed_source_frames(source: Path, target: Path, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return the source frames that differ from their output frames.

    pairs: numbers of a source frame and of the output frame that should equal it bit for bit.
    """
    before, after = read_frames(source), read_frames(target)
    return [
        k
        for k, n in pairs
        if before[k].pixel_format != after[n].pixel_format
        or not all(np.array_equal(p, q) for p, q in zip(before[k].planes, after[n].planes, strict=True))
    ]


def largest_difference(found: Sequence[Fraction], expected: Sequence[Fraction]) -> Fraction:
    """Return the largest difference between corresponding times of two lists of the same length."""
    assert len(found) == len(expected), f"{len(found)} frames, not {len(expected)}"
    return max(abs(a - b) for a, b in zip(found, expected, strict=True))


def click_times(path: Path) -> list[float]:
    """Return the times, in seconds, of the clicks in the first audio stream (the middle of each click)."""
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
