"""Estimate of the mean motion between two pictures by block matching, for balanced sampling and histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Luma = NDArray[np.int32]
"""A picture's luma in 0..255, `[H, W]`."""

Vectors = NDArray[np.int64]
"""A motion vector (y, x) in whole pixels for each block, `[rows, columns, 2]`."""

Costs = NDArray[np.int64]
"""The sum of absolute differences of each block and its match, `[rows, columns]`."""

MAX_SIDE = 640
"""Largest side in pixels at which blocks are matched; larger pictures are reduced by a whole factor."""

BLOCK = 8
"""Side of a block in pixels."""

MIN_TEXTURE = 8
"""Range of luma values that a block must span for its motion to count, in code values."""

ZERO_BONUS = BLOCK * BLOCK // 2
"""Subtracted from the cost of the zero vector (half a code value a pixel), so that noise is not taken for motion."""

MIN_FRACTION = 0.1
"""Subpixel corrections of a zero vector up to this size, in pixels, are taken for noise and dropped."""


def estimate_mean_motion(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Estimate the mean length of the motion between two pictures, in pixels, over all blocks with texture.

    first, second: RGB `[H, W, 3]`. Returns 0 if no block has texture or the picture is smaller than a block.

    Blocks are matched by the sum of absolute differences on an image pyramid, from coarse to fine. Candidates are the
    zero vector and the vectors of the five nearest blocks one level above; the best one is refined by one pixel a
    level, and by half a pixel at most at the end. Occlusion is not modelled.
    """
    factor = -(-max(first.shape[:2]) // MAX_SIDE)
    a, b = (_reduce(_to_luma(picture), factor) for picture in (first, second))
    if min(a.shape) < BLOCK:
        return 0.0
    pyramid = [(a, b)]
    while min(pyramid[-1][0].shape) >= 4 * BLOCK:
        pyramid.append((_reduce(pyramid[-1][0], 2), _reduce(pyramid[-1][1], 2)))
    vectors = np.zeros((1, 1, 2), np.int64)
    for level in reversed(range(len(pyramid))):
        matcher = _BlockMatcher(*pyramid[level])
        vectors, costs = matcher.refine(*matcher.best_candidate(_propagate(vectors, matcher.shape)))
        if level == len(pyramid) - 1:  # the coarsest pictures are small enough to search far
            for _ in range(2 * BLOCK):
                vectors, costs = matcher.refine(vectors, costs)
    has_texture = np.ptp(matcher.blocks, axis=(2, 3)) >= MIN_TEXTURE
    if not has_texture.any():
        return 0.0
    subpixel_vectors = vectors + matcher.subpixel_correction(vectors, costs)
    lengths = np.hypot(subpixel_vectors[..., 0], subpixel_vectors[..., 1])
    return float(lengths[has_texture].mean() * factor)


class _BlockMatcher:
    """Matches the blocks of one picture in another one."""

    def __init__(self, source: Luma, target: Luma) -> None:
        self.shape = rows, columns = source.shape[0] // BLOCK, source.shape[1] // BLOCK
        whole_blocks = source[: rows * BLOCK, : columns * BLOCK]
        self.blocks = whole_blocks.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
        self.windows: NDArray[Any] = sliding_window_view(np.pad(target, BLOCK, mode="edge"), (BLOCK, BLOCK))
        self.y, self.x = np.meshgrid(*(np.arange(n) * BLOCK + BLOCK for n in self.shape), indexing="ij")

    def cost(self, vectors: Vectors) -> Costs:
        """Return the sum of absolute differences of each block and the target displaced by its vector."""
        y = np.clip(self.y + vectors[..., 0], 0, self.windows.shape[0] - 1)
        x = np.clip(self.x + vectors[..., 1], 0, self.windows.shape[1] - 1)
        costs: Costs = np.abs(self.windows[y, x] - self.blocks).sum((2, 3), dtype=np.int64)
        return costs

    def best_candidate(self, candidates: list[Vectors]) -> tuple[Vectors, Costs]:
        """Return for each block the candidate of the lowest cost, the earlier one on a tie, and that cost."""
        costs = np.stack([self.cost(vectors) for vectors in candidates])
        costs -= ZERO_BONUS * (np.stack(candidates) == 0).all(3)
        winner = costs.argmin(0)
        best = np.take_along_axis(np.stack(candidates), winner[None, ..., None], 0)[0]
        return best, np.take_along_axis(costs, winner[None], 0)[0]

    def refine(self, vectors: Vectors, costs: Costs) -> tuple[Vectors, Costs]:
        """Replace each vector by the best of its eight neighbours if that has a lower cost."""
        offsets = [np.array((dy, dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
        neighbours, neighbour_costs = self.best_candidate([vectors + offset for offset in offsets])
        is_better = neighbour_costs < costs
        return np.where(is_better[..., None], neighbours, vectors), np.where(is_better, neighbour_costs, costs)

    def subpixel_correction(self, vectors: Vectors, costs: Costs) -> NDArray[np.float64]:
        """Return the offset, −½..½ on each axis, to the minimum of a parabola through three neighbouring costs.

        It is 0 for an exact match and for a small correction of a zero vector (`MIN_FRACTION`).
        """
        is_zero = (vectors == 0).all(2)
        costs = costs + ZERO_BONUS * is_zero
        offsets = np.zeros(vectors.shape)
        for axis in (0, 1):
            unit = np.eye(2, dtype=np.int64)[axis]
            before, after = self.cost(vectors - unit), self.cost(vectors + unit)
            curvature = before + after - 2 * costs
            vertex = np.clip((before - after) / np.maximum(2 * curvature, 1), -0.5, 0.5)
            offsets[..., axis] = np.where(curvature > 0, vertex, 0)
        offsets[is_zero] *= np.abs(offsets[is_zero]) > MIN_FRACTION
        offsets[costs == 0] = 0
        return offsets


def _propagate(vectors: Vectors, shape: tuple[int, int]) -> list[Vectors]:
    """Return the candidates of a level's blocks: the zero vector, and twice the nearest vectors one level above.

    vectors: of the level above. shape: rows and columns of the level's blocks. The nearest vectors are those of the
    block at the same place and of its four neighbours.
    """
    rows, columns = (np.minimum(np.arange(n) // 2, m - 1) for n, m in zip(shape, vectors.shape[:2], strict=True))
    padded = np.pad(2 * vectors, ((1, 1), (1, 1), (0, 0)), mode="edge")
    candidates = [np.zeros((*shape, 2), np.int64)]
    for dy, dx in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
        candidates.append(padded[np.ix_(rows + 1 + dy, columns + 1 + dx)])
    return candidates


def _to_luma(picture: NDArray[np.uint8]) -> Luma:
    """Return the BT.601 luma of an RGB picture in 8-bit integer arithmetic."""
    r, g, b = (picture[..., k].astype(np.int32) for k in range(3))
    return (77 * r + 150 * g + 29 * b + 128) >> 8


def _reduce(luma: Luma, factor: int) -> Luma:
    """Average over `factor` × `factor` pixels, rounded; an incomplete last row or column is dropped."""
    if factor == 1:
        return luma
    height, width = luma.shape[0] // factor, luma.shape[1] // factor
    cells = luma[: height * factor, : width * factor].reshape(height, factor, width, factor)
    sums: Luma = cells.sum((1, 3), dtype=np.int32)
    return (sums + factor * factor // 2) // (factor * factor)
