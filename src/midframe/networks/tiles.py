"""Run a network in tiles when the memory of the device does not hold the whole picture."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from types import EllipsisType

import torch
from torch import Tensor

from midframe.networks.base import NO_HINTS, FrameWindow, Hints, InterpolationNetwork, MapName, Prediction, PreparedPair

OVERLAP = 192
"""Pixels of the neighbouring tiles that a tile reads on each side; longer motion is cut off at its border."""

MAX_TILES = 64
"""The largest number of tiles of a picture; if memory does not suffice for these, the error is raised."""

Index = tuple[EllipsisType, slice, slice]
"""Rows and columns of a tensor `[..., H, W]`."""


class TiledNetwork:
    """A network that doubles the number of tiles whenever a device runs out of memory, and then stays there."""

    def __init__(self, network: InterpolationNetwork) -> None:
        self.network = network
        self.tiles = 1
        """Tiles that a picture is divided into now."""

    def prepare(self, window: FrameWindow, hints: Hints = NO_HINTS, carried: object | None = None) -> PreparedPair:
        """Prepare the prediction of frames between two source frames; see `InterpolationNetwork.prepare`."""
        return _TiledPair(self, window, hints, carried)


class _TiledPair(PreparedPair):
    """Two source frames of a tiled network.

    While there is one tile, the network's own prepared pair is kept for all times. With several tiles, each tile is
    prepared anew for each time, because keeping all of them would need the memory that tiles save.
    """

    def __init__(self, tiled: TiledNetwork, window: FrameWindow, hints: Hints, carried: object | None) -> None:
        self._tiled, self._window, self._hints, self._carried_over = tiled, window, hints, carried
        self._whole: PreparedPair | None = None

    def at(self, time: Tensor, maps: Collection[MapName] = ()) -> Prediction:
        """Predict the frame at `time`; double the number of tiles and retry if the device runs out of memory."""
        while True:
            try:
                return self._predict_whole(time, maps) if self._tiled.tiles == 1 else self._predict_tiles(time, maps)
            except torch.OutOfMemoryError:
                if self._tiled.tiles >= MAX_TILES:
                    raise
                self._tiled.tiles *= 2
            # Outside the handler, because the exception keeps the tensors of the failed attempt alive.
            self._whole = self._carried_over = self.carried = None
            if self._window.first.is_cuda:
                torch.cuda.empty_cache()

    def _predict_whole(self, time: Tensor, maps: Collection[MapName]) -> Prediction:
        """Predict the whole picture at once."""
        if self._whole is None:
            self._whole = self._tiled.network.prepare(self._window, self._hints, self._carried_over)
            self.carried, self._carried_over = self._whole.carried, None
        return self._whole.at(time, maps)

    def _predict_tiles(self, time: Tensor, maps: Collection[MapName]) -> Prediction:
        """Predict the picture tile by tile, and stitch the frame and the requested maps together."""
        height, width = self._window.first.shape[-2:]
        stitched: dict[str, Tensor] = {}
        for tile in _tiles(self._tiled.tiles, height, width):
            window, hints = _crop_window(self._window, tile.source), _crop_hints(self._hints, tile.source)
            pair = self._tiled.network.prepare(window, hints)
            prediction = pair.at(time, maps)
            for field in fields(prediction):
                part: Tensor | None = getattr(prediction, field.name)
                if part is None:
                    continue
                if field.name not in stitched:
                    stitched[field.name] = part.new_empty(*part.shape[:2], height, width)
                stitched[field.name][tile.target] = part[tile.inner]
        return Prediction(**stitched)


@dataclass(frozen=True)
class _Tile:
    """Where one tile is read and written."""

    source: Index
    """The tile with its overlap, in the whole picture."""
    inner: Index
    """The tile without its overlap, in the picture that `source` cuts out."""
    target: Index
    """The tile without its overlap, in the whole picture."""


def _tiles(count: int, height: int, width: int) -> Iterator[_Tile]:
    """Divide a picture into `count` tiles, a power of two."""
    rows, columns = _grid(count, height, width)
    for y0, y1 in _spans(height, rows):
        for x0, x1 in _spans(width, columns):
            top, left = max(y0 - OVERLAP, 0), max(x0 - OVERLAP, 0)
            yield _Tile(
                source=(..., slice(top, y1 + OVERLAP), slice(left, x1 + OVERLAP)),
                inner=(..., slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)),
                target=(..., slice(y0, y1), slice(x0, x1)),
            )


def _crop_window(window: FrameWindow, index: Index) -> FrameWindow:
    """Cut the same rectangle out of every frame of a window."""
    return FrameWindow(
        window.first[index],
        window.second[index],
        tuple(frame[index] for frame in window.earlier),
        tuple(frame[index] for frame in window.later),
    )


def _crop_hints(hints: Hints, index: Index) -> Hints:
    """Cut the same rectangle out of every map of the hints."""
    vectors, mask = hints.motion_vectors, hints.static_mask
    return Hints(None if vectors is None else vectors[index], None if mask is None else mask[index])


def _grid(count: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the tiles: each doubling halves the longer side of a tile."""
    rows = columns = 1
    while rows * columns < count:
        if height / rows > width / columns:
            rows *= 2
        else:
            columns *= 2
    return rows, columns


def _spans(size: int, parts: int) -> list[tuple[int, int]]:
    """Divide `size` pixels into `parts` spans (start, end) of nearly the same length."""
    edges = [size * k // parts for k in range(parts + 1)]
    return list(pairwise(edges))
