"""The estimate of mean motion: known translations are found; still pictures and noise have none."""

from __future__ import annotations

import numpy as np
import pytest

from films.scenes import texture
from midframe.training.build.motion import estimate_mean_motion


def picture(width: int, height: int, shift: tuple[float, float], noise: int = 0) -> np.ndarray:
    pixels = texture(width, height, shift, 7) * 255
    pixels = pixels + np.random.default_rng(noise).normal(0, 1.0, pixels.shape) * bool(noise)
    return np.clip(pixels.round(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.0, -2.0), (3.0, 1.0), (5.5, 4.0), (-12.0, 9.0)])
@pytest.mark.parametrize("size", [(320, 192), (321, 183), (720, 400)])
def test_translations_are_found(size: tuple[int, int], shift: tuple[float, float]) -> None:
    found = estimate_mean_motion(picture(*size, (0, 0), 1), picture(*size, shift, 2))
    assert found == pytest.approx(np.hypot(*shift), rel=0.1, abs=0.2)


def test_still_pictures_and_noise_have_no_motion() -> None:
    still = picture(320, 192, (0, 0))
    assert estimate_mean_motion(still, still) == 0
    assert estimate_mean_motion(picture(320, 192, (0, 0), 1), picture(320, 192, (0, 0), 2)) < 0.1
    plain = np.full((184, 200, 3), 90, np.uint8)
    assert estimate_mean_motion(plain, plain + 1) == 0


def test_the_mean_is_over_the_whole_picture() -> None:
    first, second = picture(320, 192, (0, 0)), picture(320, 192, (6.0, 0))
    second[:, :160] = first[:, :160]
    assert estimate_mean_motion(first, second) == pytest.approx(3.0, rel=0.2)


@pytest.mark.parametrize("size", [(16, 16), (17, 200), (40, 33)])
def test_small_pictures_have_an_estimate(size: tuple[int, int]) -> None:
    assert estimate_mean_motion(picture(*size, (0, 0)), picture(*size, (0, 0))) == 0
