"""Frames of a data set: the film's own colours, upright, at output size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from films import Film, picture
from midframe.training.build.frames import frame_to_rgb, output_size, rotate_upright, swaps_axes
from midframe.video.clips import ClipReport, open_clip_reader

LOSSLESS = Film(width=240, height=200, frames=4, codec="ffv1", scene="texture")


def first_frame(path: Path, size: tuple[int, int] = (1280, 720)) -> np.ndarray:
    with open_clip_reader(path) as film:
        frame = next(film.frames(film.start, film.start + 1, ClipReport()))
        return frame_to_rgb(frame, film.film, size)


@pytest.mark.parametrize(
    "film",
    [
        LOSSLESS,
        replace(LOSSLESS, matrix="bt709"),
        replace(LOSSLESS, matrix="bt601", full_range=True),
        replace(LOSSLESS, pixel_format="yuv420p10le", matrix="bt2020"),
        replace(LOSSLESS, pixel_format="yuv444p", matrix="bt709"),
    ],
    ids=["untagged", "bt709", "bt601_full_range", "bt2020_10_bit", "yuv444"],
)
def test_colours_are_the_films_own(film: Film, film_factory: Callable[..., Path]) -> None:
    truth = picture(film, Fraction(0)) * 255
    found = first_frame(film_factory(film, ".mkv"))
    assert np.abs(found - truth).mean() < 1.0
    assert np.abs((found - truth).mean((0, 1))).max() < 0.5


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_films_are_stored_upright(rotation: int, film_factory: Callable[..., Path]) -> None:
    film = replace(LOSSLESS, rotation=rotation, codec=None, options={"crf": "4"})
    path = film_factory(film, ".mp4")
    truth = picture(film, Fraction(0)) * 255
    with av.open(str(path)) as container:
        degrees = next(container.decode(video=0)).rotation
    assert degrees % 360 == rotation
    expected = np.rot90(truth, degrees // 90)  # both count counter-clockwise
    found = first_frame(path)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 2.0


@pytest.mark.parametrize("a", [1, -1])
@pytest.mark.parametrize("d", [1, -1])
@pytest.mark.parametrize("crossed", [False, True])
def test_rotate_upright_follows_the_formula_of_the_display_matrix(a: int, d: int, crossed: bool) -> None:
    """Pixel (x, y) goes to (a·x + c·y, b·x + d·y); the result is shifted so that its corner is at 0."""
    one = 1 << 16
    b, c = (d, a) if crossed else (0, 0)
    a, d = (0, 0) if crossed else (a, d)
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    source = torch.arange(3 * 4 * 5).reshape(3, 4, 5)
    targets = {(x, y): (a * x + c * y, b * x + d * y) for x in range(5) for y in range(4)}
    left, top = (min(target[k] for target in targets.values()) for k in (0, 1))
    found = rotate_upright(source, matrix)
    assert swaps_axes(matrix) == crossed
    for (x, y), (u, v) in targets.items():
        assert torch.equal(found[:, v - top, u - left], source[:, y, x])


def test_output_size_fits_the_limit_and_keeps_the_shape() -> None:
    limit = (1280, 720)
    assert output_size(1920, 1080, limit) == (1280, 720)
    assert output_size(3840, 1600, limit) == (1280, 533)
    assert output_size(640, 360, limit) == (640, 360)
    assert output_size(1080, 1920, limit) == (720, 1280)
    assert output_size(1440, 1080, limit) == (960, 720)


def test_downscaling_keeps_positions_and_means(film_factory: Callable[..., Path]) -> None:
    path = film_factory(LOSSLESS, ".mkv")
    whole, half = first_frame(path), first_frame(path, (120, 100))
    assert half.shape == (100, 120, 3)
    by_area = whole.reshape(100, 2, 120, 2, 3).mean((1, 3))
    assert np.abs(half - by_area).mean() < 1.0
