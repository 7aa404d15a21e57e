"""The augmentation on pictures whose pixels say where they come from."""

from __future__ import annotations

import pytest
import torch

from midframe.learn import augmentation
from midframe.learn.augmentation import generator_for


def coordinates(frames: int = 3, height: int = 120, width: int = 200) -> torch.Tensor:
    """A window `[N, 3, H, W]` whose channels are the column, the row and the frame number."""
    x = torch.arange(width).float().expand(height, width)
    y = torch.arange(height).float()[:, None].expand(height, width)
    return torch.stack([torch.stack((x, y, torch.full((height, width), float(k)))) for k in range(frames)])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("frames", [3, 5, 7])
def test_the_middle_stays_in_the_middle(seed: int, frames: int) -> None:
    cut = augmentation.crop_with_offset(coordinates(frames), generator_for(0, 0, seed), crop=64, offset=12)
    corners = cut[:, :2, 0, 0]
    middle = corners[frames // 2]
    assert torch.equal(corners[0] + corners[-1], 2 * middle)
    assert (corners[-1] - middle).abs().max() <= 12
    steps = corners.diff(dim=0)
    assert (steps - steps.mean(0)).abs().max() <= 1


def test_a_translation_under_offsets_is_a_translation_with_its_target_half_way() -> None:
    # A picture that moves by (4, 2) a frame, cut with opposite offsets, moves by (4, 2) plus the offset a frame.
    height, width = 120, 200
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    window = torch.stack([torch.stack([torch.sin((x - 4 * k) / 9) + torch.cos((y - 2 * k) / 7)] * 3) for k in range(3)])
    for sample in range(10):
        generator = generator_for(3, 1, sample)
        moved = augmentation.crop_with_offset(coordinates(), generator_for(3, 1, sample), crop=64, offset=12)
        cut = augmentation.crop_with_offset(window, generator, crop=64, offset=12)
        at = moved[:, :2, 0, 0].double()
        first, middle, last = (torch.stack((at[k, 0] - 4 * k, at[k, 1] - 2 * k)) for k in range(3))
        assert torch.allclose(first + last, 2 * middle)
        u, v = at[1, 0] - 4 + torch.arange(64), at[1, 1] - 2 + torch.arange(64)
        wanted = torch.sin(u / 9)[None, :] + torch.cos(v / 7)[:, None]
        assert torch.allclose(cut[1, 0], wanted)


def test_offsets_and_places_cover_their_range() -> None:
    seen, lefts = set(), set()
    for sample in range(400):
        cut = augmentation.crop_with_offset(coordinates(), generator_for(1, 0, sample), crop=64, offset=3)
        corners = cut[:, :2, 0, 0]
        seen.add(tuple((corners[2] - corners[1]).abs().int().tolist()))
        lefts.add(int(corners[1, 0]))
    assert seen == {(x, y) for x in range(4) for y in range(4)}
    assert min(lefts) <= 3
    assert max(lefts) >= 200 - 64 - 3


def test_what_a_sample_becomes_does_not_depend_on_its_batch() -> None:
    windows = torch.stack([coordinates() + k for k in range(4)])
    whole = augmentation.augment_batch(windows, [generator_for(7, 2, k) for k in range(4)], crop=64, offset=5)
    alone = augmentation.augment(windows[2], generator_for(7, 2, 2), crop=64, offset=5)
    assert torch.equal(whole[2], alone)
    assert whole.shape == (4, 3, 3, 64, 64)
    again = augmentation.augment(windows[2], generator_for(7, 3, 2), crop=64, offset=5)
    assert not torch.equal(again, alone)


def test_resizing_keeps_the_shape_and_what_crop_and_offset_need() -> None:
    sizes = set()
    for sample in range(60):
        small = augmentation.resize(coordinates(), generator_for(0, 0, sample), crop=64, offset=6, smallest=(100, 60))
        height, width = small.shape[-2:]
        sizes.add(height)
        assert 76 <= height <= 120
        assert abs(width - height * 200 / 120) <= 1
        # Column numbers still rise evenly from 0 to 199 (by pixel centres).
        assert small[0, 0, height // 2].diff().mean().item() == pytest.approx(200 / width, rel=0.02)
    assert len(sizes) > 25


def test_flip_mirrors_one_axis_and_swap_turns_time_in_half_of_the_cases() -> None:
    window = coordinates(3, 8, 8)
    flips = {"x": 0, "y": 0}
    swapped = 0
    for sample in range(400):
        flipped = augmentation.flip(window, generator_for(0, 0, sample))
        flips["x" if torch.equal(flipped, window.flip(-1)) else "y"] += 1
        assert torch.equal(flipped, window.flip(-1)) or torch.equal(flipped, window.flip(-2))
        swapped += bool(augmentation.swap(window, generator_for(0, 0, sample))[0, 2, 0, 0] == 2)
    assert 150 < flips["x"] < 250
    assert 150 < swapped < 250
