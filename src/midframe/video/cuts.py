"""Detect hard cuts: the pairs of neighbouring frames at which one shot ends and the next begins.

Only luma is used, and only numpy. The method and its measurements are described in docs/cuts.md.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from midframe.errors import SettingError

Array = NDArray[np.float32]

THRESHOLD = 0.37
"""Default threshold: a pair with a higher score is a cut. Most cuts score 0.6 to 1.2, motion below 0.1."""

DELAY = 2
"""Number of frames after a pair that are used to decide it; `flush` decides with the frames that there are."""

HISTORY = 3
"""Number of preceding pairs whose distances are used to decide a pair."""


@dataclass(frozen=True)
class Thumbnail:
    """A frame reduced to 32x32 luma values, from which cuts are detected."""

    cells: Array
    """Mean luma of the cells of a grid `[32, 32]`, scaled to 0..255."""
    sorted_values: Array
    """The values of `cells` in ascending order `[1024]`: the quantiles of the luma histogram."""


@dataclass(frozen=True)
class Decision:
    """The result for one pair of neighbouring frames."""

    index: int
    """Number of the pair's first frame, counted from the first frame pushed."""
    cut: bool
    """Whether there is a cut between frame `index` and the next."""
    score: float
    """The value compared with the threshold: 0 for equal frames, about 1 for unrelated ones."""


class CutDetector:
    """Detects the hard cuts of a film frame by frame: `push` the thumbnail of each frame, then `flush`.

    Both methods return the pairs that are now decided, in order, each pair once.

    The score of a pair is its `distance` minus `NEIGHBOUR_WEIGHT` times the motion around it, because fast motion makes
    the distances of several pairs large, and a cut that of only one. The motion is the larger of two distances: those
    of the nearest pairs before and after it that are not repeated frames. It is at most `MAX_MOTION`. A score above the
    threshold is set to 0 at a flash (one or two frames between frames that match). A lower threshold finds more cuts, a
    higher one gives fewer false alarms.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        if not threshold > 0:
            raise SettingError(f"the cut threshold is {threshold}, it must be above 0 (default {THRESHOLD})")
        self.threshold = threshold
        self._next_index = 0  # of the pair that is decided next
        self._undecided = 0  # number of pairs pushed and not decided
        self._frames: deque[Thumbnail] = deque(maxlen=1 + DELAY + HISTORY)
        self._distances: deque[float] = deque(maxlen=1 + DELAY + HISTORY)

    def push(self, thumbnail: Thumbnail) -> list[Decision]:
        """Add the next frame, and return the decision on the pair that ends `DELAY` frames earlier, if there is one."""
        if self._frames:
            self._distances.append(distance(self._frames[-1], thumbnail))
            self._undecided += 1
        self._frames.append(thumbnail)
        return [self._decide()] if self._undecided > DELAY else []

    def flush(self) -> list[Decision]:
        """Decide all remaining pairs, and start again: the next frame is not compared with the frames before it.

        The numbering continues. The pair of the last frame before the flush and the next frame is counted, but it is
        not decided.
        """
        decisions = [self._decide() for _ in range(self._undecided)]
        self._next_index += bool(self._frames)  # the pair that is counted, but not decided
        self._frames.clear()
        self._distances.clear()
        return decisions

    def _decide(self) -> Decision:
        """Decide the first undecided pair."""
        distances = list(self._distances)
        index = len(distances) - self._undecided
        motion = max(_nearest_motion(distances[:index][::-1]), _nearest_motion(distances[index + 1 :]))
        score = max(distances[index] - NEIGHBOUR_WEIGHT * min(motion, MAX_MOTION), 0.0)
        if score > self.threshold and self._includes_flash():
            score = 0.0
        decision = Decision(self._next_index, score > self.threshold, score)
        self._next_index += 1
        self._undecided -= 1
        return decision

    def _includes_flash(self) -> bool:
        """Return whether a frame of the first undecided pair belongs to a flash.

        A flash is one or two frames, if the frame before and the frame after them match.
        """
        frames = list(self._frames)
        first = len(frames) - 1 - self._undecided
        around_flash = [(first - 1, first + 1), (first, first + 2), (first - 2, first + 1), (first, first + 3)]
        return any(
            before >= 0
            and after < len(frames)
            and distance(frames[before], frames[after]) < MATCH_FACTOR * self.threshold
            for before, after in around_flash
        )


def thumbnail(luma: NDArray[Any], depth: int) -> Thumbnail:
    """Return the thumbnail of a frame from its luma plane `[height, width]`: integers of `depth` bits, of any size."""
    rows = luma[:: max(1, luma.shape[0] // SAMPLED_ROWS)]
    means = _cell_means(_cell_means(rows, 1), 0) * (255 / ((1 << depth) - 1))
    cells = means.astype(np.float32)
    return Thumbnail(cells, np.sort(cells, axis=None))


def distance(first: Thumbnail, second: Thumbnail) -> float:
    """Return how different two frames are: 0 for equal frames, about 0.8 and more for frames of two shots.

    The distance is the mean of two block-matching residuals plus `HISTOGRAM_WEIGHT` times a histogram distance:

    - the sum of the residuals of all blocks, as a fraction of the sum of their variances (see `_match_blocks`);
    - the median over the blocks of residual / variance, so that one object that moves in front of a plain background
      does not dominate;
    - the Wasserstein-1 distance of the two luma histograms, as a fraction of full scale.

    Blocks are matched in both directions. Borders that are uniform in both frames (letterbox bars) are cropped.
    """
    a, b = _crop_uniform_borders(first.cells, second.cells)
    residual_ab, variance_ab = _match_blocks(a, b)
    residual_ba, variance_ba = _match_blocks(b, a)
    residual, variance = np.concatenate([residual_ab, residual_ba]), np.concatenate([variance_ab, variance_ba])
    total = residual.sum() / variance.sum()
    median = np.median(residual / variance)
    histogram = np.abs(first.sorted_values - second.sorted_values).mean() / 255
    return float((total + median) / 2 + HISTOGRAM_WEIGHT * histogram)


GRID = 32
"""Cells of a thumbnail along each axis."""
SAMPLED_ROWS = 240
"""Number of rows of a frame that are averaged: all of a smaller frame, and up to twice as many of a larger one."""
BLOCKS = 4
"""Matched blocks along each axis."""
SEARCH_RADIUS = 5
"""Largest displacement of a block along each axis, in cells (5 of 32 is 16 % of the picture)."""
MAX_GAIN = 2.0
"""Largest factor by which the contrast of a matched block may change, up or down."""
NOISE_DEVIATION = 1.0
"""Standard deviation of the noise that is assumed; its variance is added to that of each block, in levels of 255."""
BORDER_RANGE = 6.0
"""Largest range of values in a uniform border, in levels of 255."""
HISTOGRAM_WEIGHT = 1.5
"""Weight of the histogram distance."""
NEIGHBOUR_WEIGHT = 1.5
"""Multiple of the neighbours' distance that is subtracted from the distance of a pair."""
MAX_MOTION = 0.5
"""Upper limit of the neighbours' distance in the score of a pair."""
REPEATED = 0.004
"""Distance up to which two frames count as a repeated frame."""
MATCH_FACTOR = 0.6
"""Frames around a flash match if their distance is below this fraction of the threshold."""


def _nearest_motion(distances: list[float]) -> float:
    """Return the first distance that is not that of a repeated frame; 0 if there is none."""
    return next((d for d in distances if d > REPEATED), 0.0)


def _cell_means(values: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Average values into `GRID` cells along one axis.

    A value that lies partly in each of two cells counts in both, weighted by its overlap.
    """
    # Cumulative sums, because a matrix product would wait for BLAS threads while the encoder keeps all cores busy.
    size = values.shape[axis]
    dtype = np.uint32 if values.dtype.kind == "u" else np.float64
    sums = np.cumsum(values, axis=axis, dtype=dtype)
    edges = np.linspace(0, size, GRID + 1)
    before = np.minimum(edges.astype(np.intp), size - 1)
    fraction = np.expand_dims(edges - before, 1 - axis)
    up_to_edge = np.take(sums, before, axis) - (1 - fraction) * np.take(values, before, axis)
    means: NDArray[np.float64] = np.diff(up_to_edge, axis=axis) * (GRID / size)
    return means


def _crop_uniform_borders(a: Array, b: Array) -> tuple[Array, Array]:
    """Crop the rows and columns at the borders that are uniform in both frames, unless less than half would remain."""
    ranges = []
    for axis in (1, 0):
        varied = np.flatnonzero((np.ptp(a, axis) > BORDER_RANGE) | (np.ptp(b, axis) > BORDER_RANGE))
        enough = len(varied) > 0 and varied[-1] + 1 - varied[0] >= GRID // 2
        ranges.append(slice(varied[0], varied[-1] + 1) if enough else slice(None))
    rows, columns = ranges
    return a[rows, columns], b[rows, columns]


def _match_blocks(a: Array, b: Array) -> tuple[Array, Array]:
    """Match each block of frame `a` in frame `b`; return the residuals and the variances of the blocks.

    The variance of a block is here the sum of its squared deviations from its mean, plus that of noise. The residual is
    the smallest sum of squared differences to a block of `b` that is displaced by up to `SEARCH_RADIUS`. The mean of
    that block, and its contrast within `MAX_GAIN`, are first fitted to the block of `a`.
    """
    h, w = a.shape[0] // BLOCKS, a.shape[1] // BLOCKS
    blocks = a[: h * BLOCKS, : w * BLOCKS].reshape(BLOCKS, h, BLOCKS, w).swapaxes(1, 2).reshape(-1, h * w, 1)
    blocks = blocks - blocks.mean(1, keepdims=True)
    variance = np.square(blocks).sum((1, 2))
    windows = sliding_window_view(np.pad(b, SEARCH_RADIUS, mode="edge"), (h, w))
    shifts = 2 * SEARCH_RADIUS + 1
    corners = [(i * h, j * w) for i in range(BLOCKS) for j in range(BLOCKS)]
    candidates = np.stack([windows[y : y + shifts, x : x + shifts].reshape(-1, h * w) for y, x in corners])
    # Axes: b is the block, s the displacement, p the pixel.
    energy = np.maximum(np.einsum("bsp,bsp->bs", candidates, candidates) - candidates.sum(2) ** 2 / (h * w), 0)
    correlation = np.einsum("bsp,bp->bs", candidates, blocks[..., 0])
    gain = np.clip(correlation / (energy + 1e-3), 1 / MAX_GAIN, MAX_GAIN)
    residual = (variance[:, None] - 2 * gain * correlation + gain**2 * energy).min(1)
    return np.clip(residual, 0, 4 * variance), variance + np.float32(h * w * NOISE_DEVIATION**2)
