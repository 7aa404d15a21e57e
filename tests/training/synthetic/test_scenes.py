"""Drawn samples: what they say of motion and visibility against what their frames show."""

from __future__ import annotations

import time as clock
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops import warp
from midframe.training.synthetic.layers import IDENTITY, STILL, Affine, Layer, Wave, frame_at, motion_from, seen_in
from midframe.training.synthetic.scenes import Drawn, Scene, draw, draw_batch

PLAIN = Scene(caption=0, shadow=0, drift=0, noise=0, blur=0)
"""Nothing but layers and their motion."""
ALONE = replace(PLAIN, cutouts=(1.0,))
PARTS = ("first", "target", "second", "motion", "seen")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int = 3, side: int = 420) -> list[Tensor]:
    """Pictures without fine detail: waves of 100 pixels and more."""
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    pictures = []
    for k in range(count):
        planes = [torch.sin(x / (16 + c) + k) + torch.sin(y / (19 - c) + 2 * k + c) for c in range(3)]
        pictures.append((127 + 50 * torch.stack(planes)).to(torch.uint8))
    return pictures


def detailed(count: int = 3, height: int = 200, width: int = 300) -> list[Tensor]:
    """Pictures with as much detail at all sizes as real ones have: noise whose amplitude falls with its frequency."""
    pictures = []
    for k in range(count):
        levels = [
            F.interpolate(torch.randn(1, 3, height // s, width // s, generator=generator(10 * k + s)), (height, width))
            for s in (1, 2, 4, 8, 16)
        ]
        mixed = sum(level[0] * (1 + i) for i, level in enumerate(levels))
        assert isinstance(mixed, Tensor)
        pictures.append((127 + 12 * mixed).clamp(0, 255).to(torch.uint8))
    return pictures


def moved(frame: Tensor, motion: Tensor) -> Tensor:
    return warp(frame[None], motion[None])[0]


def equal(one: Drawn, other: Drawn) -> bool:
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in PARTS)


@pytest.mark.parametrize("bend", [0.0, 1.0])
@pytest.mark.parametrize("time", [0.5, 0.2])
@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_both_frames_moved_by_the_motion_are_the_target(bend: float, time: float, blur: float) -> None:
    # A blurred frame moves only nearly as its points do where the motion differs from place to place.
    textures, scene = smooth(), replace(ALONE, bend=bend, blur=blur)
    moves = 0.0
    for seed in range(12):
        drawn = draw(textures, generator(seed), size=96, time=time, scene=scene)
        for frame, motion, seen in zip((drawn.first, drawn.second), drawn.motion.split(2), drawn.seen, strict=True):
            difference = (moved(frame, motion) - drawn.target).abs() * seen
            # The textures change by up to 6 a pixel, their 8-bit steps by 1.
            assert difference.max() < (3.5 if blur else 2.5)
            assert difference.mean() < 0.5
            assert seen.mean() > 0.3
            moves = max(moves, float((frame - drawn.target).abs().max()))
    assert moves > 30


def test_with_cutouts_too_but_for_the_pixels_of_their_edges() -> None:
    textures, scene = smooth(), replace(PLAIN, cutouts=(0, 0, 0, 0, 1), still_cutout=0)
    for seed in range(12):
        drawn = draw(textures, generator(seed), size=128, time=0.4, scene=scene)
        velocity = drawn.motion[2:] / 0.6
        jump = torch.zeros(1, 128, 128)
        jump[:, :, 1:] += velocity.diff(dim=2).norm(dim=0)
        jump[:, 1:, :] += velocity.diff(dim=1).norm(dim=0)
        inner = 1 - F.max_pool2d((jump > 0.3).float(), 9, 1, 4)[0]
        for frame, motion, seen in zip((drawn.first, drawn.second), drawn.motion.split(2), drawn.seen, strict=True):
            kept = seen * inner
            difference = (moved(frame, motion) - drawn.target).abs().amax(0)
            assert kept.mean() > 0.03
            # What is left lies beside an edge in the frame, though not in the target.
            assert ((difference > 2.5) * kept).sum() / kept.sum() < 0.015


def square_over_background(velocity: float, bent: bool = False) -> list[Layer]:
    """A square, half way on columns and rows 20 to 39 of 64, that moves to the right over a still background."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    background = Layer(torch.stack((x, y, x + y)), IDENTITY, STILL)
    cover = F.pad(torch.ones(1, 20, 20), (2, 2, 2, 2))
    square = torch.cat((torch.full((3, 24, 24), 200.0), cover))
    waves = (Wave((0.1, 0.05), 0.3, (1.0, -0.8)),) if bent else ()
    place = Affine(1, 0, -18, 0, 1, -18)
    return [background, Layer(square, place, Affine(0, 0, velocity, 0, 0, 0), waves)]


def test_seen_of_a_square_over_a_still_background() -> None:
    layers = square_over_background(8.0)
    (_, before), (_, label), (_, after) = (frame_at(layers, s, 64) for s in (0.0, 0.5, 1.0))
    motion = motion_from(layers, label, 0.5, 64)
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[20:40, 20:40] = True
    assert torch.equal(label == 1, inside)
    assert torch.equal(motion, torch.stack((-4.0 * inside, 0.0 * inside, 4.0 * inside, 0.0 * inside)))
    # The square lies on columns 16 to 35 first: what it covers there, it has uncovered half way.
    first, second = torch.ones(64, 64), torch.ones(64, 64)
    first[20:40, 16:20] = 0
    second[20:40, 40:44] = 0
    assert torch.equal(seen_in(motion[:2], label, before), first)
    assert torch.equal(seen_in(motion[2:], label, after), second)


def test_what_leaves_the_picture_is_not_seen() -> None:
    background = Layer(torch.rand(3, 80, 80, generator=generator(0)), IDENTITY, Affine(0, 0, 10, 0, 0, -6))
    label = torch.zeros(32, 32, dtype=torch.uint8)
    motion = motion_from([background], label, 0.5, 32)
    seen = seen_in(motion[2:], label, label)
    assert torch.equal(seen[3:, :27], torch.ones(29, 27))
    assert seen[:3].sum() == 0
    assert seen[:, 27:].sum() == 0


def test_points_of_a_bent_layer_move_straight() -> None:
    layer = square_over_background(8.0, bent=True)[1]
    layer = replace(layer, velocity=Affine(0.05, -0.1, 8, 0.08, -0.06, 3))
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    straight, bend = layer.velocity.on(x, y), layer.bend(x, y)
    for s in (-0.1, 0.0, 0.3, 0.5, 1.0):
        there = [p + (s - 0.5) * (a + b) for p, a, b in zip((x, y), straight, bend, strict=True)]
        for found, half_way in zip(layer.positions(s, there[0], there[1]), (x, y), strict=True):
            assert (found - half_way).abs().max() < 5e-3
        for found, a, b in zip(layer.motion(s, there[0], there[1]), straight, bend, strict=True):
            assert (found - (a + b)).abs().max() < 5e-3


def test_a_layer_lies_inside_its_box_at_every_time() -> None:
    layer = replace(square_over_background(30.0, bent=True)[1], velocity=Affine(0.1, -0.3, 20, 0.3, 0.1, -9))
    x, y = torch.arange(64.0)[None], torch.arange(64.0)[:, None]
    for s in (0.0, 0.25, 0.5, 1.0):
        left, top, right, bottom = layer.box(s, 64)
        cover = layer.sample(s, x, y)[3]
        whole = float(cover.sum())
        cover[top:bottom, left:right] = 0
        assert whole > 50
        assert cover.sum() == 0


@pytest.mark.parametrize("time", [0.1, 0.5, 0.8])
def test_motion_to_both_frames_is_one_straight_line(time: float) -> None:
    for seed in range(10):
        motion = draw(detailed(), generator(seed), size=64, time=time).motion
        torch.testing.assert_close(motion[:2] / time, -motion[2:] / (1 - time), rtol=1e-5, atol=1e-5)


def test_the_frames_are_the_same_whatever_the_time_of_the_target() -> None:
    textures, scene = detailed(), Scene(drift=0.5, noise=0.5, caption=0.5, blur=0.5, bend=0.5)
    for seed in range(10):
        one, other = (draw(textures, generator(seed), size=48, time=time, scene=scene) for time in (0.5, 0.15))
        assert torch.equal(one.first, other.first)
        assert torch.equal(one.second, other.second)


def test_a_target_near_a_frame_becomes_that_frame() -> None:
    textures = detailed()
    for seed in range(6):
        early = draw(textures, generator(seed), size=48, time=1e-5, scene=PLAIN)
        late = draw(textures, generator(seed), size=48, time=1 - 1e-5, scene=PLAIN)
        assert (early.target - early.first).abs().max() < 0.5
        assert (late.target - late.second).abs().max() < 0.5


def test_one_seed_one_sample_and_the_batch_changes_nothing() -> None:
    textures = detailed()
    seeds, times = (5, 3, 9, 4), (0.5, 0.3, 0.5, 0.7)
    alone = [draw(textures, generator(seed), size=48, time=time) for seed, time in zip(seeds, times, strict=True)]
    again = [draw(textures, generator(seed), size=48, time=time) for seed, time in zip(seeds, times, strict=True)]
    batch = draw_batch(textures, [generator(seed) for seed in seeds], size=48, times=times)
    for number, (one, other) in enumerate(zip(alone, again, strict=True)):
        assert equal(one, other)
        assert equal(one, Drawn(*(getattr(batch, part)[number] for part in PARTS)))
        assert not torch.equal(one.target, alone[number - 1].target)


def test_shapes_types_and_range() -> None:
    for seed in range(20):
        drawn = draw(detailed(), generator(seed), size=40)
        for frame in (drawn.first, drawn.target, drawn.second):
            assert frame.shape == (3, 40, 40)
            assert frame.dtype == torch.float32
            assert 0 <= frame.min() <= frame.max() <= 255
        assert drawn.motion.shape == (4, 40, 40)
        assert drawn.motion.isfinite().all()
        assert drawn.seen.shape == (2, 40, 40)
        assert ((drawn.seen == 0) | (drawn.seen == 1)).all()


def test_captions_stand_still_over_everything() -> None:
    textures = detailed()
    captions = 0
    for seed in range(20):
        without = draw(textures, generator(seed), size=96, scene=replace(PLAIN, still_camera=0))
        drawn = draw(textures, generator(seed), size=96, scene=replace(PLAIN, still_camera=0, caption=1))
        changed = (drawn.motion != without.motion).any(0)
        assert (drawn.motion[:, changed] == 0).all()
        assert (drawn.seen[:, changed] == 1).all()
        opaque = changed & ((drawn.target - drawn.first).abs().amax(0) < 1e-3)
        captions += int(opaque.sum() > 30)
    assert captions > 12


def test_a_caption_shows_its_own_colours_in_every_frame() -> None:
    still = torch.zeros(4, 64, 64)
    still[:, 30:40, 10:50] = torch.tensor([10.0, 20.0, 30.0, 1.0])[:, None, None]
    layers = square_over_background(8.0)
    for s in (0.0, 0.5, 1.0):
        frame, label = frame_at(layers, s, 64, still=still)
        assert torch.equal(frame[:, 30:40, 10:50], still[:3, 30:40, 10:50])
        assert (label[30:40, 10:50] == len(layers)).all()
    assert motion_from(layers, label, 0.5, 64)[:, 30:40, 10:50].abs().max() == 0


def test_brightness_drifts_linearly_in_the_target_too() -> None:
    scene = replace(ALONE, still_camera=1, bend=0, drift=1)
    largest = 0.0
    for seed in range(8):
        drawn = draw(smooth(), generator(seed), size=32, time=0.25, scene=scene)
        expected = 0.75 * drawn.first + 0.25 * drawn.second
        inside = ((drawn.first > 0) & (drawn.first < 255) & (drawn.second > 0) & (drawn.second < 255)).all(0)
        assert (expected - drawn.target)[:, inside].abs().max() < 1e-3
        largest = max(largest, float((drawn.first - drawn.second).abs().max()))
    assert largest > 10


def test_noise_is_in_the_frames_and_not_in_the_target() -> None:
    for seed in range(4):
        clean, noisy = (draw(detailed(), generator(seed), size=48, scene=replace(PLAIN, noise=n)) for n in (0, 1))
        assert torch.equal(clean.target, noisy.target)
        first, second = noisy.first - clean.first, noisy.second - clean.second
        assert first.std() > 0.5
        assert (first * second).mean().abs() < 0.1 * first.std() * second.std()


def test_the_target_is_as_sharp_as_the_frames() -> None:
    # Blur that only the middle had (or had not) would be learnt.
    textures, energy = detailed(), torch.zeros(3)
    for seed in range(60):
        drawn = draw(textures, generator(seed), size=64, scene=replace(PLAIN, still_camera=0))
        frames = torch.stack((drawn.first, drawn.target, drawn.second))
        energy += frames.diff(dim=-1)[:, :, :-1].diff(dim=-2).square().mean((1, 2, 3))
    assert (energy / energy[1] - 1).abs().max() < 0.06


def test_most_motion_is_small_and_some_is_large() -> None:
    textures = detailed()
    lengths, still = [], 0
    start = clock.perf_counter()
    for seed in range(200):
        motion = draw(textures, generator(seed), size=64).motion
        length = (motion[2:] - motion[:2]).norm(dim=0).flatten()
        lengths.append(length[::7])
        still += bool((length == 0).float().mean() > 0.3) and bool(length.max() > 1)
    print(f"{(clock.perf_counter() - start) / 200 * 1e3:.1f} ms a sample of side 64")
    lengths_ = torch.cat(lengths)
    assert 2.5 < lengths_.median() < 10
    assert (lengths_ <= 3).float().mean() > 0.3
    assert 0.05 < (lengths_ > 20).float().mean() < 0.3
    assert 40 < lengths_.max() < 70
    assert still > 15, "no sample has a still background and something that moves over it"


def test_what_does_not_fit_is_refused() -> None:
    textures = smooth(1, 64)
    with pytest.raises(SettingError, match="0 textures"):
        draw([], generator(0), size=64)
    with pytest.raises(SettingError, match=r"time 1\.0"):
        draw(textures, generator(0), size=64, time=1.0)
    with pytest.raises(SettingError, match="size 8"):
        draw(textures, generator(0), size=8)
    with pytest.raises(SettingError, match="float32"):
        draw([textures[0].float()], generator(0), size=64)


def test_pictures_smaller_than_the_sample_serve_too() -> None:
    drawn = draw(smooth(2, 40), generator(1), size=96, scene=PLAIN)
    assert drawn.target.std() > 5
