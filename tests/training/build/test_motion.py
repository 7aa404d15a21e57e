"""The estimate of motion: known translations are found, still pictures do not move, noise is no motion."""

from __future__ import annotations

import numpy as np
import pytest

from films.scenes import texture
from midframe.training.build.motion import estimate_mean_motion


def shown(width: int, height: int, shift: tuple[float, float], noise: int = 0) -> np.ndarray:
    pixels = texture(width, height, shift, 7) * 255
    pixels = pixels + np.random.default_rng(noise).normal(0, 1.0, pixels.shape) * bool(noise)
    return np.clip(pixels.round(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.0, -2.0), (3.0, 1.0), (5.5, 4.0), (-12.0, 9.0)])
@pytest.mark.parametrize("size", [(320, 192), (321, 183), (720, 400)])
def test_translation(size: tuple[int, int], shift: tuple[float, float]) -> None:
    found = estimate_mean_motion(shown(*size, (0, 0), 1), shown(*size, shift, 2))
    assert found == pytest.approx(np.hypot(*shift), rel=0.1, abs=0.2)


def test_stillness() -> None:
    still = shown(320, 192, (0, 0))
    assert estimate_mean_motion(still, still) == 0
    assert estimate_mean_motion(shown(320, 192, (0, 0), 1), shown(320, 192, (0, 0), 2)) < 0.1
    plain = np.full((184, 200, 3), 90, np.uint8)
    assert estimate_mean_motion(plain, plain + 1) == 0


def test_half_of_a_picture() -> None:
    first, second = shown(320, 192, (0, 0)), shown(320, 192, (6.0, 0))
    second[:, :160] = first[:, :160]
    assert estimate_mean_motion(first, second) == pytest.approx(3.0, rel=0.2)


@pytest.mark.parametrize("size", [(16, 16), (17, 200), (40, 33)])
def test_small_pictures(size: tuple[int, int]) -> None:
    assert estimate_mean_motion(shown(*size, (0, 0)), shown(*size, (0, 0))) == 0
