"""The augmentation on pictures whose pixels say where they come from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from midframe.errors import SettingError
from midframe.training.data import augmentation
from midframe.training.data.augmentation import (
    GUIDED,
    PAPER,
    REPOSITORY,
    Augmentation,
    augment,
    augment_batch,
    generator_for,
)

SMALL = replace(PAPER, crop=40, offset=6, resize=(52, 120))
PRESETS = {
    "paper": SMALL,
    "repository": replace(REPOSITORY, crop=40, offset=6, resize=(52, 120), least_difference=0.0, least_deviation=0.0),
    "guided": replace(GUIDED, crop=40, offset=6),
}
"""The presets' ways at the sizes of the pictures below."""


def coordinates(frames: int = 3, height: int = 120, width: int = 200) -> torch.Tensor:
    """A window `[N, 3, H, W]` whose channels are the column, the row and the frame number."""
    x = torch.arange(width).float().expand(height, width)
    y = torch.arange(height).float()[:, None].expand(height, width)
    return torch.stack([torch.stack((x, y, torch.full((height, width), float(k)))) for k in range(frames)])


def noise(frames: int = 3, height: int = 120, width: int = 200, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (frames, 3, height, width), dtype=torch.uint8, generator=generator)


def test_the_presets_are_the_reports_and_its_authors_numbers() -> None:
    assert (PAPER.crop, PAPER.offset, PAPER.resize, PAPER.interpolation) == (160, 12, (184, 720), "bilinear")
    assert (REPOSITORY.crop, REPOSITORY.offset, REPOSITORY.resize) == (160, 24, (208, 720))
    assert (REPOSITORY.least_difference, REPOSITORY.least_deviation) == (220, 16)
    assert Augmentation(160, 12, (184, 720), "bilinear", "paper", 0, 0, 0, False, 0, 0) == PAPER
    smallest, largest = 10**9, 0
    for sample in range(300):
        size = augmentation.plan((3, 3, 720, 1280), generator_for(0, 0, sample)).size
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
def test_the_middle_stays_in_the_middle(seed: int, frames: int) -> None:
    cut = augmentation.crop_with_offset(coordinates(frames), generator_for(0, 0, seed), crop=64, offset=12)
    corners = cut[:, :2, 0, 0]
    assert torch.equal(corners[0] + corners[-1], 2 * corners[frames // 2])
    assert (corners[-1] - corners[frames // 2]).abs().max() <= 12
    moves = corners.diff(dim=0)
    assert torch.equal(moves, moves[:1].expand_as(moves))


@pytest.mark.parametrize("positions", [(0, 1, 3), (0, 3, 4), (1, 3, 5), (0, 2, 6)])
def test_a_target_at_another_time_stays_where_even_motion_puts_it(positions: tuple[int, int, int]) -> None:
    first, target, second = positions
    furthest = 0
    for sample in range(60):
        generator = generator_for(5, 0, sample)
        cut = augmentation.crop_with_offset(coordinates(), generator, crop=64, offset=12, positions=positions)
        before, here, after = cut[:, :2, 0, 0]
        assert torch.equal((here - before) * (second - target), (after - here) * (target - first))
        furthest = max(furthest, int((after - here).abs().max()), int((before - here).abs().max()))
    assert furthest == 12


@pytest.mark.parametrize("name", PRESETS)
def test_a_translation_becomes_a_translation_with_its_target_half_way(name: str) -> None:
    # A smooth picture moves by (4, 2) a frame. Whatever was done to it, what the middle frame shows at a point is what
    # the outer ones show half of the whole motion before and after.
    how = replace(PRESETS[name], interpolation="antialiased", permute=False)
    y, x = torch.meshgrid(torch.arange(120).double(), torch.arange(200).double(), indexing="ij")
    window = torch.stack(
        [torch.stack([128 + 50 * torch.sin((x - 4 * k) / 34) + 50 * torch.cos((y - 2 * k) / 26)] * 3) for k in range(3)]
    )
    for sample in range(12):
        cut, plan = augment(window, generator_for(3, 1, sample), how, return_plan=True)
        scale = plan.size.height / 120
        moved = torch.tensor([4 * plan.size.width / 200, 2 * scale], dtype=torch.float64)
        if plan.turn.left_right:
            moved[0] *= -1
        if plan.turn.upside_down:
            moved[1] *= -1
        if plan.turn.transposed:
            moved = moved.flip(0)
        if plan.reversed:
            moved = -moved
        for other, way in ((0, -1), (2, 1)):
            flow = way * moved + torch.tensor(plan.shifts[other], dtype=torch.float64)
            seen = sampled(cut[other], flow)
            inside = seen.isfinite()
            assert inside.float().mean() > 0.3
            assert (seen - cut[1])[inside].abs().mean() < 0.15  # half a pixel would be 0.4 at least


def sampled(picture: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """A picture `[3, S, S]` at x + flow, bilinear; not a number where that lies outside."""
    side = picture.shape[-1]
    x, y = torch.arange(side) + flow[0], torch.arange(side) + flow[1]
    u, v = torch.meshgrid(2 * (y + 0.5) / side - 1, 2 * (x + 0.5) / side - 1, indexing="ij")
    grid = torch.stack((v, u), -1)[None].to(picture)
    found = torch.nn.functional.grid_sample(picture[None], grid, align_corners=False, padding_mode="border")[0]
    within = ((x >= 0) & (x <= side - 1))[None, :] & ((y >= 0) & (y <= side - 1))[:, None]
    return found.where(within, torch.nan)


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


def test_ours_moves_frames_in_all_four_diagonal_directions() -> None:
    ways = Counter()
    for sample in range(200):
        (x, y), *_ = augmentation.plan((3, 3, 120, 200), generator_for(0, 0, sample), PRESETS["guided"]).shifts
        ways[np.sign(x), np.sign(y)] += 1
    assert all(ways[x, y] > 20 for x in (-1, 1) for y in (-1, 1))


@pytest.mark.parametrize("name", PRESETS)
def test_all_steps_at_once_are_the_steps_one_after_the_other(name: str) -> None:
    # The one resizes only what the crops need, the others the whole window.
    how = PRESETS[name]
    sizes = set()
    for sample in range(12):
        whole = augment(noise(), generator_for(4, 2, sample), how)
        generator = generator_for(4, 2, sample)
        window = augmentation.resize(noise(), generator, how)
        sizes.add(window.shape[-2:])
        window = augmentation.crop_with_offset(window, generator, crop=how.crop, offset=how.offset)
        window = augmentation.flip(window, generator, how.flips)
        if how.flips != "repository":
            window = augmentation.swap(window, generator)
        window = augmentation.colour(window, generator, how)
        assert torch.allclose(whole, window, atol=0.02)
    assert len(sizes) > 5


@pytest.mark.parametrize("kind", ["bilinear", "antialiased", "area"])
@pytest.mark.parametrize("size", [(52, 87), (119, 200), (75, 120)])
def test_resizing_against_independent_computations(kind: str, size: tuple[int, int]) -> None:
    window = noise().double()
    made = augmentation.steps.resampled_crops(window, size, [(0, 0)] * 3, size, kind)  # type: ignore[arg-type]
    if kind == "area":
        wanted = area(window.numpy(), size)
    else:
        wanted = torch.nn.functional.interpolate(
            window, size=size, mode="bilinear", antialias=kind == "antialiased", align_corners=False
        ).numpy()
    assert np.abs(made.numpy() - wanted).max() < 1e-4


def area(window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mean over what each new pixel covers: differences of the integral, which is linear between the pixels."""
    for axis, count in ((-2, size[0]), (-1, size[1])):
        along = np.moveaxis(window, axis, -1)
        integral = np.concatenate((np.zeros((*along.shape[:-1], 1)), along.cumsum(-1)), -1)
        at = np.linspace(0, along.shape[-1], count + 1)
        edges = np.apply_along_axis(lambda row, at=at: np.interp(at, np.arange(len(row)), row), -1, integral)
        window = np.moveaxis(np.diff(edges, axis=-1) * count / along.shape[-1], -1, axis)
    return window


def test_bilinear_and_area_are_those_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    window = noise(1).float()
    for kind, flag in (("bilinear", cv2.INTER_LINEAR), ("area", cv2.INTER_AREA)):
        made = augmentation.steps.resampled_crops(window, (70, 110), [(0, 0)], (70, 110), kind)  # type: ignore[arg-type]
        wanted = cv2.resize(window[0].permute(1, 2, 0).numpy(), (110, 70), interpolation=flag)
        assert np.abs(made[0].permute(1, 2, 0).numpy() - wanted).max() < 0.02


@pytest.mark.parametrize("name", PRESETS)
def test_any_layout_and_a_memory_map_give_the_same(name: str, tmp_path: Path) -> None:
    window = noise()
    stored = np.memmap(tmp_path / "window", np.uint8, "w+", shape=(3, 120, 200, 3))
    stored[:] = window.permute(0, 2, 3, 1).numpy()
    stored.flush()
    mapped = np.memmap(tmp_path / "window", np.uint8, "r", shape=(3, 120, 200, 3)).transpose(0, 3, 1, 2)
    last = window.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for sample in range(6):
        results = [
            augment(given, generator_for(1, 1, sample), PRESETS[name])
            for given in (window, last, mapped, window.float(), window.numpy())
        ]
        assert all(result.dtype == torch.float32 and result.shape == (3, 3, 40, 40) for result in results)
        assert all(torch.allclose(result, results[0], atol=1e-3) for result in results)
        assert results[0].min() >= -1e-3
        assert results[0].max() <= 255 + 1e-3


def test_what_a_sample_becomes_does_not_depend_on_its_batch() -> None:
    windows = [noise(seed=1), noise(height=90, width=90, seed=2), noise(height=200, width=70, seed=3)]
    for how in PRESETS.values():
        whole, plans = augment_batch(windows, [generator_for(7, 2, k) for k in range(3)], how, return_plan=True)
        assert whole.shape == (3, 3, 3, 40, 40)
        for k in (2, 0, 1):
            alone, plan = augment(windows[k], generator_for(7, 2, k), how, return_plan=True)
            assert torch.equal(whole[k], alone)
            assert plans[k] == plan
        assert not torch.equal(augment(windows[2], generator_for(7, 3, 2), how), whole[2])
    together = torch.stack([noise(seed=4), noise(seed=5)])
    as_one = augment_batch(together, [generator_for(0, 0, k) for k in range(2)], SMALL)
    assert torch.equal(as_one[1], augment(together[1], generator_for(0, 0, 1), SMALL))


def test_the_window_is_left_as_it_was() -> None:
    window = noise().float()
    before = window.clone()
    for sample in range(8):
        augment(window, generator_for(0, 0, sample), replace(PRESETS["guided"], resize=(1.0, 1.0)))
    assert torch.equal(window, before)


def test_frames_that_are_hardly_large_enough_are_moved_less_and_smaller_ones_refused() -> None:
    furthest = 0
    for sample in range(40):
        plan = augmentation.plan((3, 3, 44, 60), generator_for(0, 0, sample), SMALL)
        assert (plan.size.height, plan.size.width) == (44, 60)
        furthest = max(furthest, *(abs(move) for pair in plan.shifts for move in pair))
    assert furthest == 2
    with pytest.raises(SettingError, match="40x40 cannot be cut out of frames of 60x39"):
        augmentation.plan((3, 3, 39, 60), generator_for(0, 0, 0), SMALL)


def test_flips_by_the_report_by_its_author_and_ours() -> None:
    window = coordinates(3, 8, 8)
    seen: dict[str, Counter[tuple[bool, ...]]] = {"paper": Counter(), "repository": Counter(), "free": Counter()}
    for flips, counter in seen.items():
        for sample in range(400):
            how = Augmentation(crop=8, offset=0, flips=flips)  # type: ignore[arg-type]
            done, plan = augment(window, generator_for(0, 0, sample), how, return_plan=True)
            x, y, t = done[0, :, 0, 0].int().tolist()
            across, down = done[0, :2, 0, 1] - done[0, :2, 0, 0]
            turned = bool(across == 0)
            corner = (x == 7, y == 7)
            assert (t == 2) == plan.reversed
            assert turned == bool(down != 0)
            counter[(*corner, turned, plan.reversed)] += 1
    assert set(seen["paper"]) == {(x, not x, False, t) for x in (True, False) for t in (True, False)}
    assert min(seen["paper"].values()) > 70
    one = {(True, False, False, False), (False, True, False, False), (False, False, False, True)}
    assert set(seen["repository"]) == one
    assert min(seen["repository"].values()) > 100
    assert len(seen["free"]) == 16
    assert min(seen["free"].values()) > 8


def test_the_coin_leaves_the_middle_frame_bilinear() -> None:
    kinds = Counter(
        augmentation.plan((3, 3, 720, 1280), generator_for(0, 0, sample), REPOSITORY).size[2:] for sample in range(200)
    )
    assert set(kinds) == {("bilinear", "bilinear"), ("bilinear", "area")}
    assert min(kinds.values()) > 70


def test_colour_is_changed_by_the_formula_and_alike_in_all_frames() -> None:
    how = replace(PRESETS["guided"], brightness=0.2, contrast=0.3, gamma=0.5)
    window = noise().double()
    for sample in range(20):
        plan = augmentation.plan(window.shape, generator_for(0, 0, sample), how)
        tint = plan.tint
        assert abs(tint.brightness) <= 0.2
        assert 0.7 <= tint.contrast <= 1.3
        assert 2**-0.5 <= tint.gamma <= 2**0.5
        values = (window.numpy() / 255) ** tint.gamma
        wanted = np.clip(((values - 0.5) * tint.contrast + 0.5 + tint.brightness) * 255, 0, 255)
        assert np.abs(tint.apply(window).numpy() - wanted[:, list(tint.channels)]).max() < 1e-9
    assert torch.equal(augmentation.colour(window, generator_for(0, 0, 0), PAPER), window)


def test_worth_by_hand() -> None:
    still = torch.zeros(3, 3, 8, 8)
    still[:, :, :4] = 32.1  # a deviation of 16.05
    moved = still + torch.tensor([0.0, 15.0, 30.0]).view(3, 1, 1, 1)  # differences of 225
    assert augmentation.worth(moved)
    assert not augmentation.worth(still)
    assert not augmentation.worth(still + torch.tensor([0.0, 15.0, 29.0]).view(3, 1, 1, 1))
    assert not augmentation.worth(moved * 0 + torch.tensor([0.0, 15.0, 30.0]).view(3, 1, 1, 1))


def test_crops_not_worth_it_are_drawn_again_a_number_of_times() -> None:
    # Only the right half moves and has structure.
    window = noise().float()
    window[:, :, :, :100] = 100
    how = replace(SMALL, resize=(1.0, 1.0), least_difference=220.0, least_deviation=16.0)
    once = sum(augmentation.worth(augment(window, generator_for(0, 0, k), replace(how, attempts=1))) for k in range(40))
    often = sum(augmentation.worth(augment(window, generator_for(0, 0, k), how)) for k in range(40))
    assert once < 35
    assert often == 40
    flat = torch.zeros(3, 3, 120, 200)
    assert augment(flat, generator_for(0, 0, 0), how).shape == (3, 3, 40, 40)


@pytest.mark.parametrize("count", [3, 5, 7])
def test_frames_chosen_out_of_a_window_lie_at_their_times(count: int) -> None:
    times = [Fraction(1, 2), Fraction(1, 3), Fraction(2, 3), Fraction(1, 4)]
    seen: Counter[Fraction] = Counter()
    spans: Counter[int] = Counter()
    for sample in range(300):
        first, target, second, time = augmentation.choose_frames(count, generator_for(0, 0, sample), times)
        assert 0 <= first < target < second < count
        assert Fraction(target - first, second - first) == time
        seen[time] += 1
        spans[second - first] += time == Fraction(1, 2)
    assert set(seen) == {time for time in times if time.denominator < count}
    assert min(seen.values()) > 40
    held = [spans[k] for k in range(2, count, 2)]
    assert all(abs(a - b) < 35 for a, b in pairwise(held))


def test_a_time_that_no_window_holds_is_refused() -> None:
    with pytest.raises(SettingError, match="windows of 3 frames"):
        augmentation.choose_frames(3, generator_for(0, 0, 0), [Fraction(1, 3)])


@pytest.mark.parametrize(
    "wrong",
    [{"crop": 0}, {"offset": -1}, {"resize": (0, 720)}, {"resize": (720, 184)}, {"attempts": 0}, {"contrast": 1.0}],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingError, match="augmentation needs"):
        Augmentation(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_but_the_numbers_drawn_comes_from_the_processor(name: str) -> None:
    # The meta device refuses any operation with a tensor of another one.
    for sample in range(6):
        window = torch.empty(3, 3, 120, 200, dtype=torch.uint8, device="meta")
        result, plan = augment(window, generator_for(0, 0, sample), PRESETS[name], return_plan=True)
        assert (result.device.type, result.shape, result.dtype) == ("meta", (3, 3, 40, 40), torch.float32)
        assert plan == augmentation.plan((3, 3, 120, 200), generator_for(0, 0, sample), PRESETS[name])


def test_the_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for rows in (32, 7, 1000):
        monkeypatch.setattr("midframe.training.data.resampling._BLOCK", rows)
        results.append(augment(noise(), generator_for(0, 0, 3), PRESETS["guided"]))
    assert all(torch.allclose(result, results[0], atol=1e-3) for result in results)


@pytest.mark.gpu
def test_on_a_gpu_the_same_is_drawn_and_the_pixels_stay_there() -> None:
    for how in PRESETS.values():
        windows = torch.stack([noise(seed=4), noise(seed=5)])
        here = augment_batch(windows, [generator_for(0, 0, k) for k in range(2)], how)
        there = augment_batch(windows.cuda(), [generator_for(0, 0, k) for k in range(2)], how)
        assert there.is_cuda
        assert (there.cpu() - here).abs().max() < 0.05
