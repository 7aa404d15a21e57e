"""Synthetic samples: their flow and visibility compared with their frames, and the statistics of their motion."""

from __future__ import annotations

import time as clock
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops import warp
from midframe.training.synthetic.geometry import IDENTITY, ZERO, Affine, Wave
from midframe.training.synthetic.layer import Layer
from midframe.training.synthetic.rendering import ground_truth_flow, render_frame, visibility_in
from midframe.training.synthetic.sample import SyntheticSample, render_sample
from midframe.training.synthetic.scene import SceneSettings

PLAIN = SceneSettings(overlay=0, shadow=0, brightness_drift=0, noise=0, motion_blur=0)
"""Layers in motion and nothing else."""
BACKGROUND = replace(PLAIN, foreground_counts=(1.0,))
"""A background in motion and nothing else."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int = 3, side: int = 420) -> list[Tensor]:
    """Return pictures without fine detail: waves of 100 pixels and more."""
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    pictures = []
    for k in range(count):
        planes = [torch.sin(x / (16 + c) + k) + torch.sin(y / (19 - c) + 2 * k + c) for c in range(3)]
        pictures.append((127 + 50 * torch.stack(planes)).to(torch.uint8))
    return pictures


def detailed(count: int = 3, height: int = 200, width: int = 300) -> list[Tensor]:
    """Return pictures with detail at all scales, as real ones have: noise whose amplitude falls with its frequency."""
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


def warp_picture(picture: Tensor, flow: Tensor) -> Tensor:
    return warp(picture[None], flow[None])[0]


def are_equal(one: SyntheticSample, other: SyntheticSample) -> bool:
    return all(torch.equal(tensor, getattr(other, name)) for name, tensor in vars(one).items())


@pytest.mark.parametrize("bend", [0.0, 1.0])
@pytest.mark.parametrize("time", [0.5, 0.2])
@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_frames_warped_by_the_flow_equal_the_target(bend: float, time: float, blur: float) -> None:
    textures, settings = smooth(), replace(BACKGROUND, bend=bend, motion_blur=blur)
    largest = 0.0
    for seed in range(12):
        sample = render_sample(textures, generator(seed), size=96, time=time, settings=settings)
        for frame, flow, visible in zip(
            (sample.first, sample.second), sample.flow.split(2), sample.visibility, strict=True
        ):
            difference = (warp_picture(frame, flow) - sample.target).abs() * visible
            # The textures change by up to 6 a pixel, their 8-bit steps by 1. Motion blur averages different flows.
            assert difference.max() < (3.5 if blur else 2.5)
            assert difference.mean() < 0.5
            assert visible.mean() > 0.3
            largest = max(largest, float((frame - sample.target).abs().max()))
    assert largest > 30


def test_warping_holds_for_foreground_layers_except_at_their_edges() -> None:
    textures, settings = smooth(), replace(PLAIN, foreground_counts=(0, 0, 0, 0, 1), still_object=0)
    for seed in range(12):
        sample = render_sample(textures, generator(seed), size=128, time=0.4, settings=settings)
        velocity = sample.flow[2:] / 0.6
        jump = torch.zeros(1, 128, 128)
        jump[:, :, 1:] += velocity.diff(dim=2).norm(dim=0)
        jump[:, 1:, :] += velocity.diff(dim=1).norm(dim=0)
        inner = 1 - F.max_pool2d((jump > 0.3).float(), 9, 1, 4)[0]
        for frame, flow, visible in zip(
            (sample.first, sample.second), sample.flow.split(2), sample.visibility, strict=True
        ):
            compared = visible * inner
            difference = (warp_picture(frame, flow) - sample.target).abs().amax(0)
            assert compared.mean() > 0.03
            # The few that differ lie beside an edge in the frame, though not in the target.
            assert ((difference > 2.5) * compared).sum() / compared.sum() < 0.015


def square_over_background(velocity: float, bent: bool = False) -> list[Layer]:
    """Return the layers of a square that moves to the right over a still background of 64×64 pixels.

    At time ½ the square covers columns and rows 20 to 39.
    """
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    background = Layer(torch.stack((x, y, x + y)), IDENTITY, ZERO)
    cover = F.pad(torch.ones(1, 20, 20), (2, 2, 2, 2))
    square = torch.cat((torch.full((3, 24, 24), 200.0), cover))
    waves = (Wave((0.1, 0.05), 0.3, (1.0, -0.8)),) if bent else ()
    coordinates = Affine(1, 0, -18, 0, 1, -18)
    return [background, Layer(square, coordinates, Affine(0, 0, velocity, 0, 0, 0), waves)]


def test_visibility_of_a_square_over_a_still_background() -> None:
    layers = square_over_background(8.0)
    first, target, second = (render_frame(layers, time, 64).layer_index for time in (0.0, 0.5, 1.0))
    flow = ground_truth_flow(layers, target, 0.5)
    square = torch.zeros(64, 64, dtype=torch.bool)
    square[20:40, 20:40] = True
    assert torch.equal(target == 1, square)
    assert torch.equal(flow, torch.stack((-4.0 * square, 0.0 * square, 4.0 * square, 0.0 * square)))
    # At time 0 the square covers columns 16 to 35, at time 1 columns 24 to 43.
    visible_in_first, visible_in_second = torch.ones(64, 64), torch.ones(64, 64)
    visible_in_first[20:40, 16:20] = 0
    visible_in_second[20:40, 40:44] = 0
    assert torch.equal(visibility_in(flow[:2], target, first), visible_in_first)
    assert torch.equal(visibility_in(flow[2:], target, second), visible_in_second)


def test_pixels_that_leave_the_picture_are_not_visible() -> None:
    background = Layer(torch.rand(3, 80, 80, generator=generator(0)), IDENTITY, Affine(0, 0, 10, 0, 0, -6))
    layer_index = torch.zeros(32, 32, dtype=torch.uint8)
    flow = ground_truth_flow([background], layer_index, 0.5)
    visible = visibility_in(flow[2:], layer_index, layer_index)
    assert torch.equal(visible[3:, :27], torch.ones(29, 27))
    assert visible[:3].sum() == 0
    assert visible[:, 27:].sum() == 0


def test_points_of_a_bent_layer_move_in_straight_lines() -> None:
    layer = square_over_background(8.0, bent=True)[1]
    layer = replace(layer, velocity=Affine(0.05, -0.1, 8, 0.08, -0.06, 3))
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    affine, bend = layer.velocity.map_grid(x, y), layer.wave_velocity(x, y)
    velocity = [a + b for a, b in zip(affine, bend, strict=True)]
    for time in (-0.1, 0.0, 0.3, 0.5, 1.0):
        at_time = [p + (time - 0.5) * v for p, v in zip((x, y), velocity, strict=True)]
        for found, reference in zip(layer.reference_positions(time, *at_time), (x, y), strict=True):
            assert (found - reference).abs().max() < 5e-3
        for found, v in zip(layer.velocity_at(time, *at_time), velocity, strict=True):
            assert (found - v).abs().max() < 5e-3


def test_a_layer_lies_inside_its_bounding_box_at_every_time() -> None:
    layer = replace(square_over_background(30.0, bent=True)[1], velocity=Affine(0.1, -0.3, 20, 0.3, 0.1, -9))
    x, y = torch.arange(64.0)[None], torch.arange(64.0)[:, None]
    for time in (0.0, 0.25, 0.5, 1.0):
        left, top, right, bottom = layer.bounding_box(time, 64)
        coverage = layer.sample(time, x, y)[3]
        total = float(coverage.sum())
        coverage[top:bottom, left:right] = 0
        assert total > 50
        assert coverage.sum() == 0


@pytest.mark.parametrize("time", [0.1, 0.5, 0.8])
def test_flow_to_both_frames_is_one_straight_line(time: float) -> None:
    for seed in range(10):
        flow = render_sample(detailed(), generator(seed), size=64, time=time).flow
        torch.testing.assert_close(flow[:2] / time, -flow[2:] / (1 - time), rtol=1e-5, atol=1e-5)


def test_the_frames_do_not_depend_on_the_targets_time() -> None:
    textures = detailed()
    settings = SceneSettings(brightness_drift=0.5, noise=0.5, overlay=0.5, motion_blur=0.5, bend=0.5)
    for seed in range(10):
        one, other = (
            render_sample(textures, generator(seed), size=48, time=time, settings=settings) for time in (0.5, 0.15)
        )
        assert torch.equal(one.first, other.first)
        assert torch.equal(one.second, other.second)


def test_a_target_at_the_time_of_a_frame_equals_that_frame() -> None:
    textures = detailed()
    for seed in range(6):
        early = render_sample(textures, generator(seed), size=48, time=1e-5, settings=PLAIN)
        late = render_sample(textures, generator(seed), size=48, time=1 - 1e-5, settings=PLAIN)
        assert (early.target - early.first).abs().max() < 0.5
        assert (late.target - late.second).abs().max() < 0.5


def test_a_sample_depends_on_its_seed_alone() -> None:
    textures = detailed()
    seeds_and_times = ((5, 0.5), (3, 0.3), (9, 0.5), (4, 0.7))
    samples = [render_sample(textures, generator(seed), size=48, time=time) for seed, time in seeds_and_times]
    again = [render_sample(textures, generator(seed), size=48, time=time) for seed, time in seeds_and_times]
    for number, (one, other) in enumerate(zip(samples, again, strict=True)):
        assert are_equal(one, other)
        assert not torch.equal(one.target, samples[number - 1].target)


def test_shapes_types_and_range() -> None:
    for seed in range(20):
        sample = render_sample(detailed(), generator(seed), size=40)
        for frame in (sample.first, sample.target, sample.second):
            assert frame.shape == (3, 40, 40)
            assert frame.dtype == torch.float32
            assert 0 <= frame.min() <= frame.max() <= 255
        assert sample.flow.shape == (4, 40, 40)
        assert sample.flow.isfinite().all()
        assert sample.visibility.shape == (2, 40, 40)
        assert ((sample.visibility == 0) | (sample.visibility == 1)).all()


def test_overlays_stand_still_in_front_of_everything() -> None:
    textures = detailed()
    overlays = 0
    for seed in range(20):
        without = render_sample(textures, generator(seed), size=96, settings=replace(PLAIN, still_camera=0))
        sample = render_sample(textures, generator(seed), size=96, settings=replace(PLAIN, still_camera=0, overlay=1))
        changed = (sample.flow != without.flow).any(0)
        assert (sample.flow[:, changed] == 0).all()
        assert (sample.visibility[:, changed] == 1).all()
        opaque = changed & ((sample.target - sample.first).abs().amax(0) < 1e-3)
        overlays += int(opaque.sum() > 30)
    assert overlays > 12


def test_an_overlay_shows_its_own_colours_in_every_frame() -> None:
    overlay = torch.zeros(4, 64, 64)
    overlay[:, 30:40, 10:50] = torch.tensor([10.0, 20.0, 30.0, 1.0])[:, None, None]
    layers = square_over_background(8.0)
    for time in (0.0, 0.5, 1.0):
        frame = render_frame(layers, time, 64, overlay=overlay)
        assert torch.equal(frame.picture[:, 30:40, 10:50], overlay[:3, 30:40, 10:50])
        assert (frame.layer_index[30:40, 10:50] == len(layers)).all()
    assert ground_truth_flow(layers, frame.layer_index, 0.5)[:, 30:40, 10:50].abs().max() == 0


def test_brightness_drifts_linearly_in_the_target_too() -> None:
    settings = replace(BACKGROUND, still_camera=1, bend=0, brightness_drift=1)
    largest = 0.0
    for seed in range(8):
        sample = render_sample(smooth(), generator(seed), size=32, time=0.25, settings=settings)
        expected = 0.75 * sample.first + 0.25 * sample.second
        inside = ((sample.first > 0) & (sample.first < 255) & (sample.second > 0) & (sample.second < 255)).all(0)
        assert (expected - sample.target)[:, inside].abs().max() < 1e-3
        largest = max(largest, float((sample.first - sample.second).abs().max()))
    assert largest > 10


def test_noise_is_in_the_frames_and_not_in_the_target() -> None:
    for seed in range(4):
        with_noise = replace(PLAIN, noise=1)
        clean, noisy = (render_sample(detailed(), generator(seed), size=48, settings=s) for s in (PLAIN, with_noise))
        assert torch.equal(clean.target, noisy.target)
        first, second = noisy.first - clean.first, noisy.second - clean.second
        assert first.std() > 0.5
        assert (first * second).mean().abs() < 0.1 * first.std() * second.std()


def test_the_target_is_as_sharp_as_the_frames() -> None:
    """A network would learn a blur that only the target has, or only the frames."""
    textures, energy = detailed(), torch.zeros(3)
    for seed in range(60):
        sample = render_sample(textures, generator(seed), size=64, settings=replace(PLAIN, still_camera=0))
        frames = torch.stack((sample.first, sample.target, sample.second))
        energy += frames.diff(dim=-1)[:, :, :-1].diff(dim=-2).square().mean((1, 2, 3))
    assert (energy / energy[1] - 1).abs().max() < 0.06


def test_most_motion_is_small_and_some_is_large() -> None:
    textures = detailed()
    lengths, with_still_background = [], 0
    start = clock.perf_counter()
    for seed in range(200):
        flow = render_sample(textures, generator(seed), size=64).flow
        length = (flow[2:] - flow[:2]).norm(dim=0).flatten()
        lengths.append(length[::7])
        with_still_background += bool((length == 0).float().mean() > 0.3) and bool(length.max() > 1)
    print(f"{(clock.perf_counter() - start) / 200 * 1e3:.1f} ms a sample of side 64")
    all_lengths = torch.cat(lengths)
    assert 2.5 < all_lengths.median() < 10
    assert (all_lengths <= 3).float().mean() > 0.3
    assert 0.05 < (all_lengths > 20).float().mean() < 0.3
    assert 40 < all_lengths.max() < 70
    assert with_still_background > 15, "too few samples have a still background and a moving layer"


def test_arguments_out_of_range_are_refused() -> None:
    textures = smooth(1, 64)
    with pytest.raises(SettingError, match="0 textures"):
        render_sample([], generator(0), size=64)
    with pytest.raises(SettingError, match=r"time 1\.0"):
        render_sample(textures, generator(0), size=64, time=1.0)
    with pytest.raises(SettingError, match="size 8"):
        render_sample(textures, generator(0), size=8)
    with pytest.raises(SettingError, match="float32"):
        render_sample([textures[0].float()], generator(0), size=64)


def test_textures_may_be_smaller_than_the_sample() -> None:
    sample = render_sample(smooth(2, 40), generator(1), size=96, settings=PLAIN)
    assert sample.target.std() > 5
