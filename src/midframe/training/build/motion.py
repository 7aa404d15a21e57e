"""How far things move from one picture to another: an estimate for balancing and for histograms, with numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Luma = NDArray[np.int32]


def mean_motion(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """The mean length of motion, in pixels, between two pictures `[H, W, 3]`, over all blocks that have texture.

    Blocks of 8x8 are matched by the sum of absolute differences, from a coarse picture down to a fine one (at most
    `FINEST` pixels wide): each block tries the motion of its five nearest blocks a level above, and none at all, then
    the eight neighbours of the best. Of large occluded areas it knows nothing. The same pictures give the same number.
    """
    factor = -(-max(first.shape[:2]) // FINEST)
    a, b = (_shrunk(_luma(picture), factor) for picture in (first, second))
    if min(a.shape) < BLOCK:
        return 0.0
    levels = [(a, b)]
    while min(levels[-1][0].shape) >= 4 * BLOCK:
        levels.append((_shrunk(levels[-1][0], 2), _shrunk(levels[-1][1], 2)))
    motion = np.zeros((1, 1, 2), np.int64)
    for a, b in reversed(levels):
        search = _Search(a, b)
        best, cost = search.refined(*search.best_of(_inherited(motion, search.shape)))
        if a is levels[-1][0]:  # as far as one likes where it costs nothing
            for _ in range(2 * BLOCK):
                best, cost = search.refined(best, cost)
        motion = best
    textured = np.ptp(search.blocks, axis=(2, 3)) >= TEXTURE
    if not textured.any():
        return 0.0
    exact = motion + search.fraction(motion, cost)
    return float(np.hypot(exact[..., 0], exact[..., 1])[textured].mean() * factor)


FINEST = 640
"""The longest side at which motion is looked for."""

BLOCK = 8
TEXTURE = 8
"""Levels by which a block's luma must vary so that its motion counts."""

STAY = BLOCK * BLOCK // 2
"""How much worse (half a level) standing still may match and is preferred yet: noise is no motion."""


class _Search:
    """Blocks of `a`, looked for in `b`. Costs are sums of absolute differences `[rows, columns]`."""

    def __init__(self, a: Luma, b: Luma) -> None:
        self.shape = rows, columns = a.shape[0] // BLOCK, a.shape[1] // BLOCK
        whole = a[: rows * BLOCK, : columns * BLOCK]
        self.blocks = whole.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
        self.windows: NDArray[Any] = sliding_window_view(np.pad(b, BLOCK, mode="edge"), (BLOCK, BLOCK))
        self.y, self.x = np.meshgrid(*(np.arange(n) * BLOCK + BLOCK for n in self.shape), indexing="ij")

    def cost(self, motion: NDArray[np.int64]) -> NDArray[np.int64]:
        y = np.clip(self.y + motion[..., 0], 0, self.windows.shape[0] - 1)
        x = np.clip(self.x + motion[..., 1], 0, self.windows.shape[1] - 1)
        cost: NDArray[np.int64] = np.abs(self.windows[y, x] - self.blocks).sum((2, 3), dtype=np.int64)
        return cost

    def best_of(self, candidates: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each block the candidate that matches best, the earlier on a tie, and its cost."""
        costs = np.stack([self.cost(motion) for motion in candidates])
        costs -= STAY * (np.stack(candidates) == 0).all(3)
        winner = costs.argmin(0)
        best = np.take_along_axis(np.stack(candidates), winner[None, ..., None], 0)[0]
        return best, np.take_along_axis(costs, winner[None], 0)[0]

    def refined(
        self, motion: NDArray[np.int64], cost: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The best among a motion and its eight neighbours."""
        around = [motion + np.array((dy, dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
        other, lower = self.best_of(around)
        better = lower < cost
        return np.where(better[..., None], other, motion), np.where(better, lower, cost)

    def fraction(self, motion: NDArray[np.int64], cost: NDArray[np.int64]) -> NDArray[np.float64]:
        """What a parabola through the costs on both sides adds to a motion on each axis; nothing where it stands."""
        stands = (motion == 0).all(2)
        cost = cost + STAY * stands
        added = np.zeros(motion.shape)
        for axis in (0, 1):
            step = np.eye(2, dtype=np.int64)[axis]
            before, after = self.cost(motion - step), self.cost(motion + step)
            bend = before + after - 2 * cost
            added[..., axis] = np.where(bend > 0, np.clip((before - after) / np.maximum(2 * bend, 1), -0.5, 0.5), 0)
        added[stands] *= np.abs(added[stands]) > QUIET
        added[cost == 0] = 0
        return added


QUIET = 0.1
"""Parts of a pixel by which a block that stands still may seem to move."""


def _inherited(motion: NDArray[np.int64], shape: tuple[int, int]) -> list[NDArray[np.int64]]:
    """Candidates for each block of a level: standing still, and twice the motions found around it a level above."""
    rows, columns = (np.minimum(np.arange(n) // 2, m - 1) for n, m in zip(shape, motion.shape[:2], strict=True))
    padded = np.pad(2 * motion, ((1, 1), (1, 1), (0, 0)), mode="edge")
    candidates = [np.zeros((*shape, 2), np.int64)]
    for dy, dx in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
        candidates.append(padded[np.ix_(rows + 1 + dy, columns + 1 + dx)])
    return candidates


def _luma(picture: NDArray[np.uint8]) -> Luma:
    r, g, b = (picture[..., k].astype(np.int32) for k in range(3))
    return (77 * r + 150 * g + 29 * b + 128) >> 8


def _shrunk(luma: Luma, factor: int) -> Luma:
    """Averaged over `factor` x `factor` pixels; what is left over at the right and lower edge goes."""
    if factor == 1:
        return luma
    h, w = luma.shape[0] // factor, luma.shape[1] // factor
    cells = luma[: h * factor, : w * factor].reshape(h, factor, w, factor)
    whole: Luma = cells.sum((1, 3), dtype=np.int32)
    return (whole + factor * factor // 2) // (factor * factor)
