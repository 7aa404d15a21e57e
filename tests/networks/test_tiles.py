"""Tiles for want of memory: the same frame, and only where there is need."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from midframe.networks.average import Average
from midframe.networks.base import InterpolationNetwork
from midframe.networks.tiles import MOST, OVERLAP, Tiled


class Small(InterpolationNetwork):
    """Moves by a few pixels, and has memory for so many of them."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.calls = 0

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        self.calls += 1
        if first.shape[-1] * first.shape[-2] > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return torch.roll(first, (3, -5), (-2, -1)) + second * time.view(-1, 1, 1, 1)


@pytest.mark.parametrize("size", [(700, 1280), (1281, 699), (900, 901)])
def test_tiles_give_the_same_frame(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(1, 3, *size, generator=generator) for _ in range(2))
    time = torch.tensor([0.25])
    tiled = Tiled(Small(size[0] * size[1] * 2 // 3))
    made, whole = tiled(first, second, time), Small(1 << 30)(first, second, time)
    assert tiled.tiles > 1
    # A roll wraps at the picture's border, and at a tile's: only the former is different.
    assert torch.equal(made[..., 8:-8, 8:-8], whole[..., 8:-8, 8:-8])


def test_enough_memory_makes_no_tiles_and_what_worked_is_kept() -> None:
    first = torch.rand(1, 3, 64, 64)
    roomy = Tiled(Small(64 * 64))
    roomy(first, first, torch.tensor([0.5]))
    assert (roomy.tiles, roomy.network.calls) == (1, 1)
    tight = Tiled(Small(800 * (400 + OVERLAP)))
    large = torch.rand(1, 3, 800, 800)
    tight(large, large, torch.tensor([0.5]))
    tried = tight.network.calls
    tight(large, large, torch.tensor([0.5]))
    assert tight.tiles == 2
    assert (tried, tight.network.calls) == (3, 5)


def test_no_memory_at_all_ends() -> None:
    tiled = Tiled(Small(0))
    with pytest.raises(torch.OutOfMemoryError):
        tiled(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64), torch.tensor([0.5]))
    assert tiled.tiles == MOST


def test_it_stands_for_its_network() -> None:
    assert Tiled(Average()).averages
    assert Tiled(Average()).any_time == Average().any_time
