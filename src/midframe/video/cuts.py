"""Hard cuts: between which two frames of a film does one shot end and the next begin?"""

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
"""A pair whose score is above this is a cut. Cuts mostly score 0.6 to 1.2, motion below 0.1."""

DELAY = 2
"""Frames that must be pushed after a pair before it is decided, unless the film is flushed."""

LOOK_BACK = 3
"""Pairs before a pair that may be looked at."""


@dataclass(frozen=True)
class Thumbnail:
    """What is kept of a frame: its luma as 32x32 cell means in 0..255, and the same values in rising order."""

    cells: Array
    ordered: Array


@dataclass(frozen=True)
class Decision:
    """Whether the frames `index` and `index + 1` are parted by a cut (counted from the first frame pushed).

    `score` is what was held against the threshold (0 for equal frames, about 1 for unrelated ones).
    """

    index: int
    cut: bool
    score: float


class CutDetector:
    """Finds the hard cuts of a film, frame by frame: `push` each frame's thumbnail, then `flush`.

    Both return the pairs that are now decided, in order, each once; a pair is decided `DELAY` frames after its second
    one at the latest. `flush` decides what is left and starts anew: the next frame pushed is not compared with those
    before it (indices go on, so the pair across the flush is left out).

    A pair's score is its `distance`, less `NEIGHBOUR` times the larger of the distances just before and just
    after it (repeated frames passed over): a cut stands alone, fast motion does not. Where the frames on both sides
    are alike but for one or two between them (a flash), the score is 0. A lower `threshold` finds more cuts, a
    higher one holds less.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        if not threshold > 0:
            raise SettingError(f"the cut threshold is {threshold}, it must be above 0 (default {THRESHOLD})")
        self.threshold = threshold
        self._next = 0  # index of the pair to decide next
        self._waiting = 0  # pairs pushed and not yet decided
        self._frames: deque[Thumbnail] = deque(maxlen=1 + DELAY + LOOK_BACK)
        self._distances: deque[float] = deque(maxlen=1 + DELAY + LOOK_BACK)

    def push(self, thumbnail: Thumbnail) -> list[Decision]:
        if self._frames:
            self._distances.append(distance(self._frames[-1], thumbnail))
            self._waiting += 1
        self._frames.append(thumbnail)
        return [self._decide()] if self._waiting > DELAY else []

    def flush(self) -> list[Decision]:
        decided = [self._decide() for _ in range(self._waiting)]
        self._next += bool(self._frames)
        self._frames.clear()
        self._distances.clear()
        return decided

    def _decide(self) -> Decision:
        distances = list(self._distances)
        pair = len(distances) - self._waiting
        motion = max(_nearest_motion(distances[:pair][::-1]), _nearest_motion(distances[pair + 1 :]))
        score = max(distances[pair] - NEIGHBOUR * min(motion, MOTION), 0.0)
        if score > self.threshold and self._is_flash():
            score = 0.0
        decision = Decision(self._next, score > self.threshold, score)
        self._next += 1
        self._waiting -= 1
        return decision

    def _is_flash(self) -> bool:
        """Whether frames around the pair are alike when one or two, one of the pair among them, are left out."""
        frames = list(self._frames)
        first = len(frames) - 1 - self._waiting
        spans = [(first - 1, first + 1), (first, first + 2), (first - 2, first + 1), (first, first + 3)]
        return any(
            a >= 0 and b < len(frames) and distance(frames[a], frames[b]) < ALIKE * self.threshold for a, b in spans
        )


def _nearest_motion(distances: list[float]) -> float:
    """The first of the distances that is not that of a repeated frame, or 0."""
    return next((d for d in distances if d > REPEATED), 0.0)


def thumbnail(luma: NDArray[Any], depth: int) -> Thumbnail:
    """The thumbnail of one frame.

    `luma` `[h, w]` is its luma (or gray, or green) plane, integers of `depth` bits, of any size and range.
    """
    rows = luma[:: max(1, luma.shape[0] // ROWS)]
    means = _cell_means(_cell_means(rows, 1), 0) * (255 / ((1 << depth) - 1))
    cells = means.astype(np.float32)
    return Thumbnail(cells, np.sort(cells, axis=None))


def distance(first: Thumbnail, second: Thumbnail) -> float:
    """How little two frames have to do with each other: 0 for equal ones, about 0.8 and more for two shots.

    The mean of two figures, plus a third:
    the share of the picture's structure (variance within blocks, 4x4 blocks of 8x8 cells) that is not found again in
    the other frame, after each block may move by up to 5 cells (a sixth of the picture) each way, and change its
    brightness and, by a factor of two, its contrast; the same share in the median block, so that one moving thing
    before a plain ground does not count for all; and the distance of the two brightness distributions
    (Wasserstein-1, in full scales). Both ways, the second from the first too. Borders that are plain in both frames
    (letterbox bars) are left out.
    """
    a, b = _without_bars(first.cells, second.cells)
    left_ab, structure_ab = _unexplained(a, b)
    left_ba, structure_ba = _unexplained(b, a)
    left, structure = np.concatenate([left_ab, left_ba]), np.concatenate([structure_ab, structure_ba])
    share = left.sum() / structure.sum()
    median = np.median(left / structure)
    brightness = np.abs(first.ordered - second.ordered).mean() / 255
    return float((share + median) / 2 + BRIGHTNESS * brightness)


GRID = 32  # cells each way
ROWS = 240  # about as many rows of the picture are read
BLOCKS = 4  # blocks each way
REACH = 5  # cells a block may move
GAIN = 2.0  # the factor by which its contrast may change
NOISE = 1.0  # standard deviation, in levels of 255, below which structure counts for nothing
BAR = 6.0  # levels of 255 by which a letterbox bar may vary
BRIGHTNESS = 1.5  # weight of the brightness distributions
NEIGHBOUR = 1.5  # how many times the neighbours' distance is taken off
MOTION = 0.5  # a distance above this is no longer motion; at most so much is taken off for it
REPEATED = 0.004  # a distance below this is a repeated frame
ALIKE = 0.6  # frames nearer than this share of the threshold are one shot


def _cell_means(values: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Values averaged into `GRID` cells along one axis, those at the edge of two cells shared by area."""
    # By running sums: a matrix product would wait for BLAS threads while the encoder keeps all cores busy.
    size = values.shape[axis]
    whole = np.uint32 if values.dtype.kind == "u" else np.float64
    sums = np.cumsum(values, axis=axis, dtype=whole)
    edges = np.linspace(0, size, GRID + 1)
    before = np.minimum(edges.astype(np.intp), size - 1)
    share = np.expand_dims(edges - before, 1 - axis)
    up_to = np.take(sums, before, axis) - (1 - share) * np.take(values, before, axis)
    means: NDArray[np.float64] = np.diff(up_to, axis=axis) * (GRID / size)
    return means


def _without_bars(a: Array, b: Array) -> tuple[Array, Array]:
    """Both cropped to the rows and columns that are not plain in both; as they are where too little would remain."""
    ranges = []
    for axis in (1, 0):
        used = np.flatnonzero((np.ptp(a, axis) > BAR) | (np.ptp(b, axis) > BAR))
        enough = len(used) > 0 and used[-1] + 1 - used[0] >= GRID // 2
        ranges.append(slice(used[0], used[-1] + 1) if enough else slice(None))
    rows, columns = ranges
    return a[rows, columns], b[rows, columns]


def _unexplained(a: Array, b: Array) -> tuple[Array, Array]:
    """For each block of `a`: the squared deviation that no shifted block of `b` explains, and all there is."""
    h, w = a.shape[0] // BLOCKS, a.shape[1] // BLOCKS
    blocks = a[: h * BLOCKS, : w * BLOCKS].reshape(BLOCKS, h, BLOCKS, w).swapaxes(1, 2).reshape(-1, h * w, 1)
    blocks = blocks - blocks.mean(1, keepdims=True)
    structure = np.square(blocks).sum((1, 2))
    windows = sliding_window_view(np.pad(b, REACH, mode="edge"), (h, w))
    n = 2 * REACH + 1
    corners = [(i * h, j * w) for i in range(BLOCKS) for j in range(BLOCKS)]
    shifted = np.stack([windows[y : y + n, x : x + n].reshape(n * n, h * w) for y, x in corners])
    energy = np.maximum(np.einsum("bsp,bsp->bs", shifted, shifted) - shifted.sum(2) ** 2 / (h * w), 0)
    common = np.einsum("bsp,bp->bs", shifted, blocks[..., 0])
    gain = np.clip(common / (energy + 1e-3), 1 / GAIN, GAIN)
    left = (structure[:, None] - 2 * gain * common + gain**2 * energy).min(1)
    return np.clip(left, 0, 4 * structure), structure + np.float32(h * w * NOISE**2)
