"""The steps of an alignment: what they must do, and Halide against the definition."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.errors import SettingError
from midframe.flow.estimate import align
from midframe.flow.steps import (
    correct_motion,
    half_luma,
    median_motion,
    motion_difference,
    normalise_contrast,
    propagate_motion,
)
from midframe.ops import warp

SHAPES = [(1, 6, 6), (2, 7, 33), (1, 40, 16), (3, 21, 50), (1, 70, 97)]
"""Batch, height, width: less than a vector, whole vectors and more; one strip of rows and several."""


def smooth(batch: int, channels: int, height: int, width: int, seed: int) -> Tensor:
    """Waves of all lengths, about 0..1."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.zeros(batch, channels, height, width)
    for step in (1, 3, 9):
        size = -(-height // step) + 1, -(-width // step) + 1
        noise = torch.randn(batch, channels, *size, generator=generator) * step**0.5
        waves += F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)
    return torch.sigmoid(waves / 2)


def case(shape: tuple[int, int, int], kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Frames of contrast 1, motion and times. border: motion that leads out of the frames almost everywhere."""
    batch, height, width = shape
    generator = torch.Generator().manual_seed(1)
    frames = smooth(2 * batch, 1, height, width, 2)
    motion = (smooth(batch, 2, height, width, 3) - 0.5) * 4
    if kind != "smooth":
        frames = torch.rand(frames.shape, generator=generator)
        motion = torch.randn(motion.shape, generator=generator) * (2 if kind == "random" else 100)
    return normalise_contrast(frames, backend="reference"), motion, torch.rand(batch, generator=generator) * 0.8 + 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_halide_is_the_reference(shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    for kind in ("smooth", "random", "border"):
        frames, motion, time = case(shape, kind)
        got = correct_motion(frames, motion, time, backend="halide")
        right = correct_motion(frames.double(), motion.double(), time.double(), backend="reference")
        assert right.dtype == torch.float64
        torch.testing.assert_close(got, right.float(), atol=2e-3 if kind == "border" else 2e-4, rtol=1e-5)
        assert torch.equal(median_motion(motion, backend="halide"), median_motion(motion, backend="reference"))
    frames = smooth(batch, 1, height, width, 4)
    right = normalise_contrast(frames.double(), backend="reference").float()
    torch.testing.assert_close(normalise_contrast(frames, backend="halide"), right, atol=2e-5, rtol=1e-5)
    rgb = smooth(batch, 3, height, width, 5)
    for given in (rgb, rgb.contiguous(memory_format=torch.channels_last), rgb.repeat_interleave(2, 0)[::2]):
        torch.testing.assert_close(half_luma(given, backend="halide"), half_luma(rgb, backend="reference"))


def costs(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    """What `propagate_motion` says a motion costs, by `warp` and in float64."""
    scale = torch.cat((-2 * time, 2 * (1 - time))).view(-1, 1, 1, 1)
    first, second = warp(frames.double(), (motion.repeat(2, 1, 1, 1) * scale).double(), backend="reference").chunk(2)
    apart = (second - first).square()
    return F.avg_pool2d(F.pad(apart / (apart + 0.6), (2, 2, 2, 2), mode="replicate"), 5, stride=1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["smooth", "random", "border"])
def test_halide_takes_the_neighbours_of_the_reference(shape: tuple[int, int, int], kind: str) -> None:
    frames, motion, time = case(shape, kind)
    got = propagate_motion(frames, motion, time, backend="halide")
    right = propagate_motion(frames, motion, time, backend="reference")
    # Where two cost the same but for rounding, either may be taken.
    differs = (got != right).any(1)
    assert differs.sum() <= 1 + 2e-3 * differs.numel()
    assert (costs(frames, got, time) - costs(frames, right, time)).mean().abs() < 2e-3


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 19), (1, 37, 1)])
def test_a_pixel_high_or_wide(shape: tuple[int, int, int]) -> None:
    for kind in ("smooth", "border"):
        frames, motion, time = case(shape, kind)
        right = correct_motion(frames.double(), motion.double(), time.double(), backend="reference").float()
        torch.testing.assert_close(correct_motion(frames, motion, time, backend="halide"), right, atol=2e-3, rtol=1e-5)
        assert torch.equal(median_motion(motion, backend="halide"), median_motion(motion, backend="reference"))
        taken = [propagate_motion(frames, motion, time, backend=backend) for backend in ("halide", "reference")]
        assert (taken[0] != taken[1]).any(1).sum() <= 1
        light = smooth(*shape[:1], 1, *shape[1:], 4)
        right = normalise_contrast(light.double(), backend="reference").float()
        torch.testing.assert_close(normalise_contrast(light, backend="halide"), right, atol=2e-5, rtol=1e-5)


def test_strides_do_not_count() -> None:
    """Torch calls a tensor contiguous whatever the stride of a dimension of one: also the time of a single sample."""
    frames, motion, time = case((1, 9, 20), "smooth")
    for operator in (propagate_motion, correct_motion):
        right = operator(frames, motion, time, backend="halide")
        for given in (time.repeat_interleave(4)[::4], time[0].expand(1)):
            assert torch.equal(operator(frames, motion, given, backend="halide"), right)
        apart = [tensor.repeat_interleave(2, 3)[..., ::2] for tensor in (frames, motion)]
        assert torch.equal(operator(*apart, time, backend="halide"), right)
    one = motion[..., :1, :1].contiguous(memory_format=torch.channels_last)
    assert torch.equal(median_motion(one, backend="halide"), one)


def test_threads_do_not_meet() -> None:
    cases = [case((1, 40, 50), kind) for kind in ("smooth", "random")]
    right = [correct_motion(*given) for given in cases]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda given: correct_motion(*given), cases * 8))
    assert all(torch.equal(*pair) for pair in zip(found, right * 8, strict=True))


def test_opcheck() -> None:
    frames, motion, time = case((1, 6, 18), "smooth")
    operators = torch.ops.midframe
    torch.library.opcheck(operators.half_luma, (smooth(1, 3, 7, 18, 15),))
    torch.library.opcheck(operators.normalise_contrast, (frames,))
    torch.library.opcheck(operators.propagate_motion, (frames, motion, time))
    torch.library.opcheck(operators.correct_motion, (frames, motion, time))
    torch.library.opcheck(operators.median_motion, (motion,))


@pytest.mark.parametrize("backend", ["halide", "reference"])
def test_there_are_no_gradients(backend: str) -> None:
    frames, motion, time = (given.requires_grad_() for given in case((1, 6, 18), "smooth"))
    rgb = smooth(1, 3, 6, 18, 16).requires_grad_()
    made = (
        half_luma(rgb, backend=backend),
        normalise_contrast(frames, backend=backend),
        propagate_motion(frames, motion, time, backend=backend),
        correct_motion(frames, motion, time, backend=backend),
        median_motion(motion, backend=backend),
    )
    assert not any(found.requires_grad for found in made)


def test_propagation_takes_the_motion_that_fits() -> None:
    whole = smooth(1, 1, 40, 56, 6)
    first, second = whole[..., 4:-4, 8:-8], whole[..., 4:-4, 4:-12]  # the second's content lies 4 to the right
    frames, time = normalise_contrast(torch.cat((first, second))), torch.tensor([0.5])
    motion = torch.zeros(1, 2, 32, 40)
    motion[:, 0, :, :20] = 2.0
    spread = propagate_motion(frames, motion, time)
    assert (spread[0, 0, :, :30] == 2).float().mean() > 0.9  # 3 + 9 pixels farther than it stood
    assert ((spread == 2) | (spread == 0)).all()
    assert costs(frames, spread, time).mean() < 0.7 * costs(frames, motion, time).mean()


@pytest.mark.parametrize("backend", ["reference", "halide", "torch"])
def test_difference_is_least_by_the_motion_that_fits(backend: str) -> None:
    """Of two channels it is the mean; by hand, at one pixel."""
    frames, motion, time = case((2, 21, 50), "random")
    colour = case((2, 21, 50), "smooth")[0]
    both = motion_difference(torch.cat((frames, colour), 1), motion, time, backend=backend)
    each = [motion_difference(maps, motion, time, backend=backend) for maps in (frames, colour)]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    scale = torch.cat((-2 * time, 2 * (1 - time))).view(-1, 1, 1, 1)
    first, second = warp(frames, torch.cat((motion, motion)) * scale).chunk(2)
    squares = (second - first).square()[1, 0, 8:13, 28:33]
    assert each[0][1, 0, 10, 30].item() == pytest.approx((squares / (squares + 0.6)).mean().item(), rel=1e-4)
    whole = normalise_contrast(smooth(1, 1, 30, 60, 6))
    moved = torch.cat((whole, whole.roll(-4, 3)))  # what was at x + 4 is at x: motion -4, half of it -2
    half = torch.tensor([0.5])
    right, wrong = (
        motion_difference(moved, torch.tensor([x, 0.0]).view(1, 2, 1, 1).expand(1, 2, 30, 60), half, backend=backend)
        for x in (-2.0, 2.0)
    )
    inner = (..., slice(6, -6), slice(10, -10))
    assert right[inner].max() < 1e-3 < wrong[inner].min()


def test_correction_leads_to_the_motion() -> None:
    whole = smooth(1, 1, 48, 64, 7)
    first, second = whole[..., 4:-4, 4:-4], whole[..., 3:-5, 4:-4]  # 1 down
    frames, time = normalise_contrast(torch.cat((first, second))), torch.tensor([0.3])
    motion = torch.zeros(1, 2, 40, 56)
    for _ in range(4):
        motion = correct_motion(frames, motion, time)
    inner = motion[..., 6:-6, 6:-6]
    assert (inner[:, 1] - 0.5).abs().median() < 0.05
    assert inner[:, 0].abs().median() < 0.05


@pytest.mark.parametrize("backend", ["halide", "reference"])
def test_median_is_the_thirteenth_of_25(backend: str) -> None:
    motion = torch.randn(1, 2, 9, 19, generator=torch.Generator().manual_seed(8))
    found = median_motion(motion, backend=backend)
    for y in range(9):
        for x in range(19):
            rows = [min(max(y + j, 0), 8) for j in range(-2, 3)]
            columns = [min(max(x + i, 0), 18) for i in range(-2, 3)]
            around = motion[0, 1][rows][:, columns].flatten().sort().values
            assert found[0, 1, y, x] == around[12]


def test_contrast_is_one_whatever_the_light() -> None:
    frames = smooth(1, 1, 48, 48, 9)
    made = normalise_contrast(frames)
    assert made[..., 8:-8, 8:-8].mean().abs() < 0.1
    assert made[..., 8:-8, 8:-8].std() == pytest.approx(1, abs=0.25)
    torch.testing.assert_close(normalise_contrast(frames * 0.7 + 0.2), made, atol=0.1, rtol=0)
    assert normalise_contrast(torch.full((1, 1, 8, 20), 0.3)).abs().max() < 1e-4


def test_alignment_is_the_same_by_halide() -> None:
    whole = smooth(2, 3, 140, 200, 10)
    first, second = whole[..., 6:-6, 8:-8], whole[..., 4:-8, 11:-5]
    times = torch.tensor([0.5, 0.3])
    got = align(first, second, times, backend="halide")
    right = align(first, second, times, backend="reference")
    apart = (got - right).abs()
    assert apart.median() < 1e-4
    assert (apart < 0.01).float().mean() > 0.99


def test_alignment_compiled_whole() -> None:
    first, second, times = smooth(1, 3, 32, 48, 11), smooth(1, 3, 32, 48, 12), torch.tensor([0.4])
    compiled = torch.compile(align, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(first, second, times), align(first, second, times), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types(dtype: torch.dtype) -> None:
    first, second = smooth(1, 3, 32, 32, 13).to(dtype), smooth(1, 3, 32, 32, 14).to(dtype)
    found = align(first, second, torch.tensor([0.4], dtype=dtype))
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    right = align(first.double(), second.double(), torch.tensor([0.4], dtype=dtype).double(), backend="reference")
    assert (found - right).abs().median() < 1e-3


def test_what_does_not_fit_is_refused() -> None:
    frames, motion, time = torch.rand(2, 1, 8, 8), torch.zeros(1, 2, 8, 8), torch.tensor([0.5])
    for operator in (propagate_motion, correct_motion):
        for wrong in ((frames[:1], motion, time), (frames, motion[:, :1], time), (frames, motion, time.view(1, 1))):
            with pytest.raises(SettingError):
                operator(*wrong)
        with pytest.raises(SettingError):
            operator(frames.long(), motion, time)
    for given in (torch.rand(1, 3, 8, 8), torch.rand(8, 8), torch.ones(1, 1, 8, 8, dtype=torch.int32)):
        with pytest.raises(SettingError):
            normalise_contrast(given)
    with pytest.raises(SettingError):
        median_motion(torch.rand(8, 8))
    with pytest.raises(SettingError):
        half_luma(torch.rand(1, 1, 8, 8))
