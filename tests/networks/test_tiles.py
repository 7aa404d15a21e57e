"""Prediction in tiles if memory does not suffice: the same frame, and only when it is needed."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from torch import Tensor

from midframe.networks.base import NO_HINTS, FrameWindow, Hints, InterpolationNetwork, MapName, Prediction, PreparedPair
from midframe.networks.tiles import MAX_TILES, OVERLAP, TiledNetwork

TIME = torch.tensor([0.25])


class LimitedMemory(InterpolationNetwork):
    """Moves the frame by a few pixels, has memory for a limited number of pixels, and counts its calls."""

    def __init__(self, max_pixels: int) -> None:
        super().__init__()
        self.max_pixels = max_pixels
        self.calls = 0

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        self.calls += 1
        if first.shape[-1] * first.shape[-2] > self.max_pixels:
            raise torch.OutOfMemoryError("out of memory")
        return torch.roll(first, (3, -5), (-2, -1)) + second * time.view(-1, 1, 1, 1)


@pytest.mark.parametrize("size", [(700, 1280), (1281, 699), (900, 901)])
def test_tiles_give_the_same_frame(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(1, 3, *size, generator=generator) for _ in range(2))
    tiled = TiledNetwork(LimitedMemory(size[0] * size[1] * 2 // 3))
    frame = tiled.prepare(FrameWindow(first, second)).at(TIME).frame
    whole = LimitedMemory(1 << 30)(first, second, TIME)
    assert tiled.tiles > 1
    # A roll wraps at the border of the picture and at the border of a tile; only the former is different.
    assert torch.equal(frame[..., 8:-8, 8:-8], whole[..., 8:-8, 8:-8])


def test_enough_memory_needs_no_tiles() -> None:
    first = torch.rand(1, 3, 64, 64)
    network = LimitedMemory(64 * 64)
    tiled = TiledNetwork(network)
    tiled.prepare(FrameWindow(first, first)).at(TIME)
    assert (tiled.tiles, network.calls) == (1, 1)


def test_the_number_of_tiles_is_kept_for_the_next_frame() -> None:
    network = LimitedMemory(800 * (400 + OVERLAP))
    tiled = TiledNetwork(network)
    large = torch.rand(1, 3, 800, 800)
    pair = tiled.prepare(FrameWindow(large, large))
    pair.at(TIME)
    assert (tiled.tiles, network.calls) == (2, 3)
    pair.at(TIME)
    assert (tiled.tiles, network.calls) == (2, 5)


def test_too_little_memory_for_any_tile_is_an_error() -> None:
    first = torch.rand(1, 3, 64, 64)
    tiled = TiledNetwork(LimitedMemory(0))
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        tiled.prepare(FrameWindow(first, first)).at(TIME)
    assert tiled.tiles == MAX_TILES


class Echo(InterpolationNetwork):
    """Predicts maps from its window and hints, pixel by pixel, and remembers what was carried over."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: list[object] = []

    def prepare(self, window: FrameWindow, hints: Hints = NO_HINTS, carried: object | None = None) -> PreparedPair:
        self.carried.append(carried)
        return EchoPair(window, hints)


class EchoPair(PreparedPair):
    def __init__(self, window: FrameWindow, hints: Hints) -> None:
        self.window, self.hints, self.carried = window, hints, "features"

    def at(self, time: Tensor, maps: Collection[MapName] = ()) -> Prediction:
        assert self.hints.motion_vectors is not None
        assert self.hints.static_mask is not None
        frame = self.window.first + self.window.earlier[0] + self.window.later[0]
        return Prediction(frame, torch.cat([self.hints.motion_vectors] * 2, 1), confidence=self.hints.static_mask)


def test_maps_hints_and_all_frames_of_the_window_are_tiled() -> None:
    frames = torch.rand(4, 1, 3, 500, 700)
    window = FrameWindow(frames[0], frames[1], earlier=(frames[2],), later=(frames[3],))
    hints = Hints(torch.rand(1, 2, 500, 700), torch.rand(1, 1, 500, 700))
    whole = EchoPair(window, hints).at(TIME)
    network = Echo()
    tiled = TiledNetwork(network)
    tiled.tiles = 4
    pair = tiled.prepare(window, hints, carried="old")
    stitched = pair.at(TIME)
    torch.testing.assert_close(vars(stitched), vars(whole), rtol=0, atol=0)
    assert network.carried == [None] * 4, "what another pair left over does not belong to a tile"
    assert pair.carried is None


def test_what_a_pair_leaves_over_is_passed_through() -> None:
    network = Echo()
    maps = torch.rand(1, 2, 64, 64), torch.rand(1, 1, 64, 64)
    frame = torch.rand(1, 3, 64, 64)
    pair = TiledNetwork(network).prepare(FrameWindow(frame, frame, (frame,), (frame,)), Hints(*maps), "old")
    pair.at(TIME)
    pair.at(TIME)
    assert network.carried == ["old"], "the pair is prepared once"
    assert pair.carried == "features"
