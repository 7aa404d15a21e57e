"""Frames in tiles, for pictures that do not fit into the memory of a device."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from midframe.networks.base import InterpolationNetwork

OVERLAP = 192
"""How many pixels of its neighbours a tile sees on each side; motion beyond that is cut off at its border."""

MOST = 64
"""Into how many tiles a picture is cut at most."""


class Tiled(InterpolationNetwork):
    """A network that halves the picture when the device's memory does not suffice, and stays at what worked.

    `tiles` is how many tiles a picture is made in now: 1 until there is need.
    """

    def __init__(self, network: InterpolationNetwork) -> None:
        super().__init__()
        self.network = network
        setattr(self, "any_time", network.any_time)  # noqa: B010 - a class variable elsewhere
        self.averages = network.averages
        self.tiles = 1

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        while True:
            try:
                return self._made(first, second, time)
            except torch.OutOfMemoryError:
                if self.tiles >= MOST:
                    raise
                self.tiles *= 2
            # Out of the handler, so that what the failed attempt holds is free.
            if first.is_cuda:
                torch.cuda.empty_cache()

    def _made(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        if self.tiles == 1:
            whole: Tensor = self.network(first, second, time)
            return whole
        height, width = first.shape[-2:]
        rows, columns = _grid(self.tiles, height, width)
        out = torch.empty_like(first)
        for y0, y1 in _spans(height, rows):
            for x0, x1 in _spans(width, columns):
                top, left = max(y0 - OVERLAP, 0), max(x0 - OVERLAP, 0)
                seen = (..., slice(top, y1 + OVERLAP), slice(left, x1 + OVERLAP))
                made = self.network(first[seen], second[seen], time)
                out[..., y0:y1, x0:x1] = made[..., y0 - top : y1 - top, x0 - left : x1 - left]
        return out


def _grid(tiles: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns: the longer side of a tile is halved each time."""
    rows = columns = 1
    while rows * columns < tiles:
        if height / rows > width / columns:
            rows *= 2
        else:
            columns *= 2
    return rows, columns


def _spans(size: int, parts: int) -> list[tuple[int, int]]:
    edges = [size * k // parts for k in range(parts + 1)]
    return list(pairwise(edges))
