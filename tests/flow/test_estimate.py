"""Motion by least squares, on pictures whose motion is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.flow.estimate import STEP, align


def texture(height: int = 128, width: int = 160, seed: int = 0) -> Tensor:
    """Noise of all scales `[1, 3, 2 height, 2 width]`, 0..1."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.zeros(1, 3, 2 * height, 2 * width)
    for scale in (2, 4, 8, 16, 32):
        noise = torch.randn(1, 3, 2 * height // scale, 2 * width // scale, generator=generator) * scale**0.5
        whole += F.interpolate(noise, size=whole.shape[-2:], mode="bicubic", align_corners=False)
    return torch.sigmoid(whole / whole.std())


def moved(whole: Tensor, x: int, y: int, height: int = 128, width: int = 160) -> Tensor:
    """The middle of a texture whose content is moved by (x, y)."""
    top, left = height // 2 - y, width // 2 - x
    return whole[..., top : top + height, left : left + width]


@pytest.mark.parametrize("motion", [(0, 0), (2, 0), (0, -3), (8, 4), (-14, 10), (20, -12), (-28, 18), (32, -8)])
@pytest.mark.parametrize("time", [0.25, 0.5, 0.8])
def test_a_translation_is_found_at_every_time(motion: tuple[int, int], time: float) -> None:
    whole = texture()
    found = align(whole_first := moved(whole, 0, 0), moved(whole, *motion), torch.tensor([time])) * STEP
    inner = found[..., 8:-8, 10:-10]
    wanted = torch.tensor(motion).view(1, 2, 1, 1) / 2
    assert whole_first.shape[-1] // STEP == found.shape[-1]
    assert (inner - wanted).norm(dim=1).median() < 0.2 + 0.02 * wanted.norm()


def test_a_square_moves_against_its_background_where_it_will_be_at_that_time() -> None:
    ground, square = texture(seed=1), texture(seed=2)
    frames = []
    for at in (0, 1):
        frame = moved(ground, 0, 0).clone()
        left = 40 + 8 * at
        frame[..., 40:88, left : left + 48] = square[..., 40:88, 40:88]
        frames.append(frame)
    for time in (0.25, 0.75):
        across = align(*frames, torch.tensor([time]))[0, 0] * STEP
        left = round(40 + 8 * time)
        inside, above = (
            (slice(48 // STEP, 80 // STEP), slice((left + 12) // STEP, (left + 36) // STEP)),
            slice(4, 32 // STEP),
        )
        assert across[inside].mean() == pytest.approx(4, abs=0.6)
        assert across[above].abs().mean() < 0.5


def test_what_differs_in_colour_alone_is_seen() -> None:
    """A square whose luma is even, and its background's mean, moves the other way."""
    ground, square = texture(seed=1), texture(seed=2)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    base = (0.45 + 0.1 * (ground * luma).sum(1, keepdim=True)).expand(-1, 3, -1, -1)
    green = 0.5 + (square[:, :1] * 0.6 + 0.1) * torch.tensor([-0.587, 0.299, 0.0]).view(1, 3, 1, 1)
    frames = []
    for at in (0, 1):
        frame = moved(base, 6 * at, 0).clone()
        left = 60 - 6 * at
        frame[..., 40:88, left : left + 48] = green[..., 40:88, 40:88]
        frames.append(frame)
    across = align(*frames, torch.tensor([0.5]))[0, 0] * STEP
    inside = slice(48 // STEP, 80 // STEP), slice(66 // STEP, 96 // STEP)
    assert across[inside].median() == pytest.approx(-3, abs=0.3)
    assert across[4 : 32 // STEP, 8:-8].median() == pytest.approx(3, abs=0.1)


def test_swapped_frames_give_the_opposite() -> None:
    whole = texture(seed=3)
    first, second = moved(whole, 0, 0), moved(whole, 7, -5)
    forward = align(first, second, torch.tensor([0.3]))
    back = align(second, first, torch.tensor([0.7]))
    torch.testing.assert_close(forward, -back, atol=2e-3, rtol=0)


def test_equal_and_flat_frames_do_not_move() -> None:
    whole = moved(texture(seed=4), 0, 0)
    half = torch.tensor([0.5])
    assert align(whole, whole, half).abs().max() == 0
    flat = torch.full((1, 3, 32, 32), 0.4)
    assert align(flat, flat + 0.2, half).abs().max() < 1e-3


def test_brightness_and_contrast_do_not_count() -> None:
    whole = texture(seed=5)
    first, second = moved(whole, 0, 0), moved(whole, 6, 2)
    plain = align(first, second, torch.tensor([0.5]))
    changed = align(first, second * 0.8 + 0.1, torch.tensor([0.5]))
    assert (plain - changed).abs()[..., 6:-6, 6:-6].mean() < 0.05


@pytest.mark.parametrize("size", [(16, 16), (16, 64), (100, 36)])
def test_small_pictures_and_batches(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(6)
    first, second = torch.rand(2, 3, 3, *size, generator=generator)
    times = torch.tensor([0.2, 0.5, 0.9])
    found = align(first, second, times)
    assert found.shape == (3, 2, size[0] // STEP, size[1] // STEP)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[1:2], align(first[1:2], second[1:2], times[1:2]), atol=1e-4, rtol=1e-4)
