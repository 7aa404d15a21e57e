"""`estimate_flow` on images whose motion is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.flow import estimate_flow

FLOW_SCALE = 2
"""Pixels of the frames per pixel of the flow."""
HALF = torch.tensor([0.5])


def texture(height: int = 128, width: int = 160, seed: int = 0) -> Tensor:
    """Return noise of all scales `[1, 3, 2 * height, 2 * width]`, 0..1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.zeros(1, 3, 2 * height, 2 * width)
    for scale in (2, 4, 8, 16, 32):
        octave = torch.randn(1, 3, 2 * height // scale, 2 * width // scale, generator=generator) * scale**0.5
        noise += F.interpolate(octave, size=noise.shape[-2:], mode="bicubic", align_corners=False)
    return torch.sigmoid(noise / noise.std())


def translated(image: Tensor, x: int, y: int, height: int = 128, width: int = 160) -> Tensor:
    """Return the central crop of an image whose content is translated by (x, y) pixels."""
    top, left = height // 2 - y, width // 2 - x
    return image[..., top : top + height, left : left + width]


@pytest.mark.parametrize("translation", [(0, 0), (2, 0), (0, -3), (8, 4), (-14, 10), (20, -12), (-28, 18), (32, -8)])
@pytest.mark.parametrize("time", [0.25, 0.5, 0.8])
def test_a_translation_is_estimated_at_every_time(translation: tuple[int, int], time: float) -> None:
    image = texture()
    first, second = translated(image, 0, 0), translated(image, *translation)
    flow = estimate_flow(first, second, torch.tensor([time])) * FLOW_SCALE
    expected = torch.tensor(translation).view(1, 2, 1, 1) / 2
    assert flow.shape[-1] == first.shape[-1] // FLOW_SCALE
    error = (flow[..., 8:-8, 10:-10] - expected).norm(dim=1)
    assert error.median() < 0.2 + 0.02 * expected.norm()


def test_a_moving_square_has_its_flow_where_it_is_at_the_given_time() -> None:
    background, foreground = texture(seed=1), texture(seed=2)
    frames = []
    for index in (0, 1):
        frame = translated(background, 0, 0).clone()
        left = 40 + 8 * index
        frame[..., 40:88, left : left + 48] = foreground[..., 40:88, 40:88]
        frames.append(frame)
    for time in (0.25, 0.75):
        horizontal = estimate_flow(*frames, torch.tensor([time]))[0, 0] * FLOW_SCALE
        left = round(40 + 8 * time)
        rows = slice(48 // FLOW_SCALE, 80 // FLOW_SCALE)
        columns = slice((left + 12) // FLOW_SCALE, (left + 36) // FLOW_SCALE)
        assert horizontal[rows, columns].mean() == pytest.approx(4, abs=0.6)
        assert horizontal[4 : 32 // FLOW_SCALE].abs().mean() < 0.5


def test_an_object_with_the_luma_of_its_background_is_tracked_by_colour() -> None:
    """The square has constant luma, the mean of its background, and moves in the opposite direction."""
    background, foreground = texture(seed=1), texture(seed=2)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    gray = (0.45 + 0.1 * (background * weights).sum(1, keepdim=True)).expand(-1, 3, -1, -1)
    coloured = 0.5 + (foreground[:, :1] * 0.6 + 0.1) * torch.tensor([-0.587, 0.299, 0.0]).view(1, 3, 1, 1)
    frames = []
    for index in (0, 1):
        frame = translated(gray, 6 * index, 0).clone()
        left = 60 - 6 * index
        frame[..., 40:88, left : left + 48] = coloured[..., 40:88, 40:88]
        frames.append(frame)
    horizontal = estimate_flow(*frames, HALF)[0, 0] * FLOW_SCALE
    square = slice(48 // FLOW_SCALE, 80 // FLOW_SCALE), slice(66 // FLOW_SCALE, 96 // FLOW_SCALE)
    assert horizontal[square].median() == pytest.approx(-3, abs=0.3)
    assert horizontal[4 : 32 // FLOW_SCALE, 8:-8].median() == pytest.approx(3, abs=0.1)


def test_exchanging_the_frames_reverses_the_flow() -> None:
    image = texture(seed=3)
    first, second = translated(image, 0, 0), translated(image, 7, -5)
    forward = estimate_flow(first, second, torch.tensor([0.3]))
    backward = estimate_flow(second, first, torch.tensor([0.7]))
    torch.testing.assert_close(forward, -backward, atol=2e-3, rtol=0)


def test_the_flow_of_equal_frames_is_zero() -> None:
    image = translated(texture(seed=4), 0, 0)
    assert estimate_flow(image, image, HALF).abs().max() == 0


def test_the_flow_of_flat_frames_is_zero() -> None:
    flat = torch.full((1, 3, 32, 32), 0.4)
    assert estimate_flow(flat, flat + 0.2, HALF).abs().max() < 1e-3


def test_changes_of_brightness_and_contrast_are_ignored() -> None:
    image = texture(seed=5)
    first, second = translated(image, 0, 0), translated(image, 6, 2)
    flow = estimate_flow(first, second, HALF)
    flow_of_darker = estimate_flow(first, second * 0.8 + 0.1, HALF)
    assert (flow - flow_of_darker).abs()[..., 6:-6, 6:-6].mean() < 0.05


@pytest.mark.parametrize("size", [(16, 16), (16, 64), (100, 36)])
def test_samples_of_a_batch_are_independent(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(6)
    first, second = torch.rand(2, 3, 3, *size, generator=generator)
    times = torch.tensor([0.2, 0.5, 0.9])
    flow = estimate_flow(first, second, times)
    assert flow.shape == (3, 2, size[0] // FLOW_SCALE, size[1] // FLOW_SCALE)
    assert torch.isfinite(flow).all()
    alone = estimate_flow(first[1:2], second[1:2], times[1:2])
    torch.testing.assert_close(flow[1:2], alone, atol=1e-4, rtol=1e-4)
