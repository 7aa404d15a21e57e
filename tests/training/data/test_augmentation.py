"""Augmentation of pictures whose pixel values are their coordinates, of noise, and of smooth motion."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from midframe.errors import SettingError
from midframe.training.data.augmentation import (
    GUIDED,
    PAPER,
    REPOSITORY,
    Augmentation,
    augment,
    generator_for,
    has_enough_change,
    plan_augmentation,
)
from midframe.training.data.resampling import crop_frames, resized_crops
from midframe.training.data.transforms import FlipMode, plan_colour, plan_crops, plan_flips, plan_resize

SMALL = replace(PAPER, crop=40, offset=6, resize_heights=(52, 120))
PRESETS = {
    "paper": SMALL,
    "repository": replace(
        REPOSITORY, crop=40, offset=6, resize_heights=(52, 120), least_difference=0.0, least_deviation=0.0
    ),
    "guided": replace(GUIDED, crop=40, offset=6),
}
"""The presets with crops that fit the pictures below."""


def coordinates(frames: int = 3, height: int = 120, width: int = 200) -> torch.Tensor:
    """Return a window `[N, 3, H, W]` whose channels are the column, the row and the frame number."""
    x = torch.arange(width).float().expand(height, width)
    y = torch.arange(height).float()[:, None].expand(height, width)
    return torch.stack([torch.stack((x, y, torch.full((height, width), float(k)))) for k in range(frames)])


def noise(frames: int = 3, height: int = 120, width: int = 200, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (frames, 3, height, width), dtype=torch.uint8, generator=generator)


def crop_with_offset(
    window: torch.Tensor,
    generator: torch.Generator,
    side: int,
    max_offset: int,
    positions: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Crop each frame of a window at random, with an offset from frame to frame."""
    positions = tuple(range(len(window))) if positions is None else positions
    plan = plan_crops(window.shape[2:], positions, generator, side=side, max_offset=max_offset)
    return crop_frames(window, plan.corners(), (side, side))


def test_presets_have_the_numbers_of_the_report_and_of_its_authors_code() -> None:
    assert (PAPER.crop, PAPER.offset, PAPER.resize_heights, PAPER.interpolation) == (160, 12, (184, 720), "bilinear")
    assert (REPOSITORY.crop, REPOSITORY.offset, REPOSITORY.resize_heights) == (160, 24, (208, 720))
    assert (REPOSITORY.least_difference, REPOSITORY.least_deviation) == (220, 16)
    assert Augmentation(160, 12, (184, 720), "bilinear", "one_axis", 0, 0, 0, False, 0, 0) == PAPER
    smallest, largest = 10**9, 0
    for sample in range(300):
        size = plan_augmentation((3, 3, 720, 1280), generator_for(0, 0, sample)).resize
        assert abs(size.width - size.height * 1280 / 720) <= 0.5
        smallest, largest = min(smallest, size.height), max(largest, size.height)
    assert 184 <= smallest < 192
    assert 712 < largest <= 720


def test_generators_differ_by_seed_epoch_and_sample() -> None:
    seen = Counter(
        torch.randint(1 << 62, (), generator=generator_for(seed, epoch, sample)).item()
        for seed in range(3)
        for epoch in range(8)
        for sample in range(60)
    )
    assert max(seen.values()) == 1
    again = torch.randint(1 << 62, (), generator=generator_for(2, 7, 59)).item()
    assert again in seen


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("frames", [3, 5, 7])
def test_outer_crops_lie_symmetrically_about_the_middle_one(seed: int, frames: int) -> None:
    crops = crop_with_offset(coordinates(frames), generator_for(0, 0, seed), 64, 12)
    corners = crops[:, :2, 0, 0]
    assert torch.equal(corners[0] + corners[-1], 2 * corners[frames // 2])
    assert (corners[-1] - corners[frames // 2]).abs().max() <= 12
    offsets = corners.diff(dim=0)
    assert torch.equal(offsets, offsets[:1].expand_as(offsets))


@pytest.mark.parametrize("positions", [(0, 1, 3), (0, 3, 4), (1, 3, 5), (0, 2, 6)])
def test_offsets_are_proportional_to_time(positions: tuple[int, int, int]) -> None:
    first, target, second = positions
    largest = 0
    for sample in range(60):
        generator = generator_for(5, 0, sample)
        crops = crop_with_offset(coordinates(), generator, 64, 12, positions)
        before, middle, after = crops[:, :2, 0, 0]
        assert torch.equal((middle - before) * (second - target), (after - middle) * (target - first))
        largest = max(largest, int((after - middle).abs().max()), int((before - middle).abs().max()))
    assert largest == 12


@pytest.mark.parametrize("name", PRESETS)
def test_uniform_motion_stays_uniform(name: str) -> None:
    """A smooth picture moves by (4, 2) a frame; after augmentation the target still lies half way along the flow."""
    augmentation = replace(PRESETS[name], interpolation="antialiased", permute_channels=False)
    y, x = torch.meshgrid(torch.arange(120).double(), torch.arange(200).double(), indexing="ij")
    window = torch.stack(
        [torch.stack([128 + 50 * torch.sin((x - 4 * k) / 34) + 50 * torch.cos((y - 2 * k) / 26)] * 3) for k in range(3)]
    )
    for sample in range(12):
        augmented = augment(window, generator_for(3, 1, sample), augmentation)
        frames, plan = augmented.frames, augmented.plan
        velocity = torch.tensor([4 * plan.resize.width / 200, 2 * plan.resize.height / 120], dtype=torch.float64)
        if plan.flips.left_right:
            velocity[0] *= -1
        if plan.flips.upside_down:
            velocity[1] *= -1
        if plan.flips.transpose:
            velocity = velocity.flip(0)
        if plan.is_time_reversed:
            velocity = -velocity
        for outer, sign in ((0, -1), (2, 1)):
            flow = sign * velocity + torch.tensor(plan.content_shifts[outer], dtype=torch.float64)
            warped = warp_by_constant_flow(frames[outer], flow)
            inside = warped.isfinite()
            assert inside.float().mean() > 0.3
            assert (warped - frames[1])[inside].abs().mean() < 0.15  # half a pixel would be 0.4 at least


def warp_by_constant_flow(picture: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Sample a picture `[3, S, S]` at x + flow, bilinearly; NaN where that is outside the picture."""
    side = picture.shape[-1]
    x, y = torch.arange(side) + flow[0], torch.arange(side) + flow[1]
    u, v = torch.meshgrid(2 * (y + 0.5) / side - 1, 2 * (x + 0.5) / side - 1, indexing="ij")
    grid = torch.stack((v, u), -1)[None].to(picture)
    found = torch.nn.functional.grid_sample(picture[None], grid, align_corners=False, padding_mode="border")[0]
    within = ((x >= 0) & (x <= side - 1))[None, :] & ((y >= 0) & (y <= side - 1))[:, None]
    return found.where(within, torch.nan)


def test_offsets_and_corners_cover_their_range() -> None:
    offsets, lefts = set(), set()
    for sample in range(400):
        crops = crop_with_offset(coordinates(), generator_for(1, 0, sample), 64, 3)
        corners = crops[:, :2, 0, 0]
        offsets.add(tuple((corners[2] - corners[1]).abs().int().tolist()))
        lefts.add(int(corners[1, 0]))
    assert offsets == {(x, y) for x in range(4) for y in range(4)}
    assert min(lefts) <= 3
    assert max(lefts) >= 200 - 64 - 3


def test_guided_shifts_frames_in_all_four_diagonal_directions() -> None:
    directions = Counter()
    for sample in range(200):
        plan = plan_augmentation((3, 3, 120, 200), generator_for(0, 0, sample), PRESETS["guided"])
        (x, y), *_ = plan.content_shifts
        directions[np.sign(x), np.sign(y)] += 1
    assert all(directions[x, y] > 20 for x in (-1, 1) for y in (-1, 1))


@pytest.mark.parametrize("name", PRESETS)
def test_augment_equals_its_transforms_one_after_the_other(name: str) -> None:
    """`augment` resizes only the pixels inside the crops; here the whole window is resized and then cropped."""
    settings = PRESETS[name]
    sizes = set()
    for sample in range(12):
        augmented = augment(noise(), generator_for(4, 2, sample), settings).frames
        generator = generator_for(4, 2, sample)
        resize = plan_resize(
            (120, 200),
            generator,
            min_side=settings.crop + 2 * settings.offset,
            heights=settings.resize_heights,
            interpolation=settings.interpolation,
        )
        size = (resize.height, resize.width)
        filters = (resize.outer_filter, resize.middle_filter, resize.outer_filter)
        window = torch.cat(
            [
                resized_crops(frame[None], size, [(0, 0)], size, kind)
                for frame, kind in zip(noise(), filters, strict=True)
            ]
        )
        sizes.add(size)
        window = crop_with_offset(window, generator, settings.crop, settings.offset)
        window = plan_flips(generator, settings.flips).apply(window)
        window = plan_colour(
            generator,
            brightness=settings.brightness,
            contrast=settings.contrast,
            gamma=settings.gamma,
            permute_channels=settings.permute_channels,
        ).apply(window)
        assert torch.allclose(augmented, window, atol=0.02)
    assert len(sizes) > 5


@pytest.mark.parametrize("name", PRESETS)
def test_memory_layout_and_memory_maps_do_not_change_the_result(name: str, tmp_path: Path) -> None:
    window = noise()
    stored = np.memmap(tmp_path / "window", np.uint8, "w+", shape=(3, 120, 200, 3))
    stored[:] = window.permute(0, 2, 3, 1).numpy()
    stored.flush()
    mapped = np.memmap(tmp_path / "window", np.uint8, "r", shape=(3, 120, 200, 3)).transpose(0, 3, 1, 2)
    channels_last = window.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for sample in range(6):
        results = [
            augment(given, generator_for(1, 1, sample), PRESETS[name]).frames
            for given in (window, channels_last, mapped, window.float(), window.numpy())
        ]
        assert all(result.dtype == torch.float32 and result.shape == (3, 3, 40, 40) for result in results)
        assert all(torch.allclose(result, results[0], atol=1e-3) for result in results)
        assert results[0].min() >= -1e-3
        assert results[0].max() <= 255 + 1e-3


def test_a_sample_depends_on_its_window_and_generator_alone() -> None:
    windows = [noise(seed=1), noise(height=90, width=90, seed=2), noise(height=200, width=70, seed=3)]
    for settings in PRESETS.values():
        in_order = [augment(windows[k], generator_for(7, 2, k), settings) for k in range(3)]
        for k in (2, 0, 1):
            again = augment(windows[k], generator_for(7, 2, k), settings)
            assert again.frames.shape == (3, 3, 40, 40)
            assert torch.equal(in_order[k].frames, again.frames)
            assert in_order[k].plan == again.plan
        other_epoch = augment(windows[2], generator_for(7, 3, 2), settings)
        assert not torch.equal(other_epoch.frames, in_order[2].frames)


def test_augment_does_not_change_its_window() -> None:
    window = noise().float()
    before = window.clone()
    for sample in range(8):
        augment(window, generator_for(0, 0, sample), replace(PRESETS["guided"], resize_heights=(1.0, 1.0)))
    assert torch.equal(window, before)


def test_small_frames_have_smaller_offsets_and_too_small_ones_are_refused() -> None:
    largest = 0
    for sample in range(40):
        plan = plan_augmentation((3, 3, 44, 60), generator_for(0, 0, sample), SMALL)
        assert (plan.resize.height, plan.resize.width) == (44, 60)
        largest = max(largest, *(abs(shift) for pair in plan.content_shifts for shift in pair))
    assert largest == 2
    with pytest.raises(SettingError, match="40x40 cannot be cut out of frames of 60x39"):
        plan_augmentation((3, 3, 39, 60), generator_for(0, 0, 0), SMALL)


def test_flip_modes_draw_their_combinations() -> None:
    window = coordinates(3, 8, 8)
    counts: dict[FlipMode, Counter[tuple[bool, ...]]] = {
        "one_axis": Counter(),
        "one_of_three": Counter(),
        "any": Counter(),
    }
    for mode, counter in counts.items():
        for sample in range(400):
            augmented = augment(window, generator_for(0, 0, sample), Augmentation(crop=8, offset=0, flips=mode))
            frames, plan = augmented.frames, augmented.plan
            x, y, t = frames[0, :, 0, 0].int().tolist()
            across, down = frames[0, :2, 0, 1] - frames[0, :2, 0, 0]
            is_transposed = bool(across == 0)
            mirrored = (x == 7, y == 7)
            assert (t == 2) == plan.is_time_reversed
            assert is_transposed == bool(down != 0)
            counter[(*mirrored, is_transposed, plan.is_time_reversed)] += 1
    assert set(counts["one_axis"]) == {(x, not x, False, t) for x in (True, False) for t in (True, False)}
    assert min(counts["one_axis"].values()) > 70
    one_flip = {(True, False, False, False), (False, True, False, False), (False, False, False, True)}
    assert set(counts["one_of_three"]) == one_flip
    assert min(counts["one_of_three"].values()) > 100
    assert len(counts["any"]) == 16
    assert min(counts["any"].values()) > 8


def test_bilinear_or_area_leaves_the_middle_frame_bilinear() -> None:
    plans = [plan_augmentation((3, 3, 720, 1280), generator_for(0, 0, k), REPOSITORY).resize for k in range(200)]
    filters = Counter((plan.middle_filter, plan.outer_filter) for plan in plans)
    assert set(filters) == {("bilinear", "bilinear"), ("bilinear", "area")}
    assert min(filters.values()) > 70


def test_colour_changes_all_frames_alike_by_its_formula() -> None:
    settings = replace(PRESETS["guided"], brightness=0.2, contrast=0.3, gamma=0.5)
    window = noise().double()
    for sample in range(20):
        colour = plan_augmentation(window.shape, generator_for(0, 0, sample), settings).colour
        assert abs(colour.brightness) <= 0.2
        assert 0.7 <= colour.contrast <= 1.3
        assert 2**-0.5 <= colour.gamma <= 2**0.5
        values = (window.numpy() / 255) ** colour.gamma
        expected = np.clip(((values - 0.5) * colour.contrast + 0.5 + colour.brightness) * 255, 0, 255)
        assert np.abs(colour.apply(window).numpy() - expected[:, list(colour.channels)]).max() < 1e-9
    unchanged = plan_augmentation(window.shape, generator_for(0, 0, 0), SMALL).colour
    assert torch.equal(unchanged.apply(window), window)


def test_has_enough_change_by_hand() -> None:
    still = torch.zeros(3, 3, 8, 8)
    still[:, :, :4] = 32.1  # a deviation of 16.05
    moved = still + torch.tensor([0.0, 15.0, 30.0]).view(3, 1, 1, 1)  # differences of 225
    assert has_enough_change(moved)
    assert not has_enough_change(still)
    assert not has_enough_change(still + torch.tensor([0.0, 15.0, 29.0]).view(3, 1, 1, 1))
    assert not has_enough_change(moved * 0 + torch.tensor([0.0, 15.0, 30.0]).view(3, 1, 1, 1))


def test_samples_without_enough_change_are_drawn_again() -> None:
    """Only the right half of the window moves and has structure."""
    window = noise().float()
    window[:, :, :, :100] = 100
    settings = replace(SMALL, resize_heights=(1.0, 1.0), least_difference=220.0, least_deviation=16.0)

    def passing(attempts: int) -> int:
        changed = replace(settings, attempts=attempts)
        return sum(has_enough_change(augment(window, generator_for(0, 0, k), changed).frames) for k in range(40))

    assert passing(attempts=1) < 35
    assert passing(attempts=10) == 40
    flat = torch.zeros(3, 3, 120, 200)
    assert augment(flat, generator_for(0, 0, 0), settings).frames.shape == (3, 3, 40, 40)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"crop": 0}, "a crop of at least 1"),
        ({"offset": -1}, "an offset of 0 or more"),
        ({"resize_heights": (0, 720)}, "a resize range that rises"),
        ({"resize_heights": (720, 184)}, "a resize range that rises"),
        ({"attempts": 0}, "at least 1 attempt"),
        ({"contrast": 1.0}, "a contrast from 0"),
    ],
    ids=["crop", "offset", "resize_from_zero", "resize_falling", "attempts", "contrast"],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=f"augmentation needs {message}"):
        Augmentation(**setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRESETS)
def test_pixels_stay_on_the_windows_device(name: str) -> None:
    """The meta device refuses operations with tensors of other devices; only the random numbers come from the CPU."""
    for sample in range(6):
        window = torch.empty(3, 3, 120, 200, dtype=torch.uint8, device="meta")
        augmented = augment(window, generator_for(0, 0, sample), PRESETS[name])
        frames = augmented.frames
        assert (frames.device.type, frames.shape, frames.dtype) == ("meta", (3, 3, 40, 40), torch.float32)
        assert augmented.plan == plan_augmentation((3, 3, 120, 200), generator_for(0, 0, sample), PRESETS[name])


def test_the_block_size_of_the_resize_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for rows in (32, 7, 1000):
        monkeypatch.setattr("midframe.training.data.resampling.BLOCK_ROWS", rows)
        results.append(augment(noise(), generator_for(0, 0, 3), PRESETS["guided"]).frames)
    assert all(torch.allclose(result, results[0], atol=1e-3) for result in results)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_sample_on_the_gpu() -> None:
    for settings in PRESETS.values():
        for k in range(2):
            window = noise(seed=4 + k)
            on_cpu = augment(window, generator_for(0, 0, k), settings).frames
            on_gpu = augment(window.cuda(), generator_for(0, 0, k), settings).frames
            assert on_gpu.is_cuda
            assert (on_gpu.cpu() - on_cpu).abs().max() < 0.05
