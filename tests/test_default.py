"""The shipped weights `default`: the file and its card, and interpolated frames against known motion."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import midframe
from converted import interpolated_times, times_at_rate
from films import DecodedFrame, Film, picture, planes, read_frames
from midframe.networks import read_info
from midframe.networks.base import InterpolationNetwork
from midframe.networks.guided import Guided
from midframe.networks.models import SHIPPED

FILE = SHIPPED / "default.safetensors"
MAX_BYTES = 10_000_000
FILMS = re.compile(r"[\w-]+\.(?:mp4|mkv|webm|mpg|avi|mov)")
MACHINE = re.compile(r"(?<![\w.:/])/[a-z]\w*/|[A-Z]:\\|https?://(?:localhost|\d)", re.IGNORECASE)
"""An absolute path, or the address of a machine."""
MARGIN = 3.0
"""Decibels by which the PSNR of interpolated frames must exceed that of the mean of their source frames."""

TEXTURE = Film(96, 64, frames=3, scene="texture", speed=(5.0, 2.0), codec="ffv1")
SHAPES = Film(160, 96, frames=3, speed=(6.0, 2.0), codec="ffv1")
EIGHTHS = [k / 8 for k in range(9)]


@pytest.fixture(scope="module")
def default() -> InterpolationNetwork:
    return midframe.load("default")


def psnr(a: Any, b: Any, peak: float = 1.0) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return float(10 * np.log10(peak**2 / max(error, 1e-12)))


def luma(frame: DecodedFrame) -> np.ndarray[Any, Any]:
    return frame.planes[0].astype(float)


# The file and its card


def test_the_file_is_small_and_in_half_precision() -> None:
    assert FILE.stat().st_size <= MAX_BYTES
    with safe_open(FILE, framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118


def test_it_is_a_trained_network_for_any_time(default: InterpolationNetwork) -> None:
    assert isinstance(default, Guided)
    assert default.any_time
    assert not default.is_untrained_average
    assert not default.training
    assert all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in default.parameters())


def test_the_card_agrees_with_the_metadata() -> None:
    info = read_info(FILE)
    assert info.card is not None
    card = info.card.read_text(encoding="utf-8")
    trained_on = set(FILMS.findall(info.data))
    assert trained_on
    section = card.split("## Data")[1].split("\n## ")[0]
    assert set(FILMS.findall(section)) == trained_on
    assert f"Licence: {info.licence}." in card
    assert f"{info.training['steps']:,} steps" in card
    assert f"`{info.network}`" in card
    for title in ("## Training", "## Data", "## Limits"):
        assert title in card
    for text in (card, info.data, info.licence, str(dict(info.training)), str(dict(info.settings))):
        assert not MACHINE.search(text)


def test_no_training_film_has_a_licence_that_forbids_it(shared_data: Path) -> None:
    """By the table beside the films: DAVIS, non-commercial, AGPL, GPL-3, and films without a stated licence."""
    forbidden = {"craft-film-anamorphic.mp4"}
    for row in (shared_data / "films" / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if len(cells) < 3 or not FILMS.fullmatch(cells[0]):
            continue
        if re.search(r"DAVIS|-NC|non-commercial|AGPL|(?<!L)GPL-3", cells[2]) or cells[2] == "not stated":
            forbidden.add(cells[0])
    assert len(forbidden) > 5
    assert not forbidden & set(FILMS.findall(read_info(FILE).data))


# Films


def check(film: Film, out: Path, times: Sequence[Fraction]) -> None:
    """Check that source frames are bit-exact, and interpolated frames closer to the truth than the mean."""
    found = read_frames(out)
    assert len(found) == len(times)
    peak = float((1 << film.format.components[0].bits) - 1)
    starts = film.frame_times
    count = 0
    for frame, time in zip(found, times, strict=True):
        assert frame.pixel_format == film.pixel_format
        true = planes(film, time)
        if time in starts or time > starts[-1]:
            source = planes(film, min(time, starts[-1]))
            assert all(np.array_equal(a, b) for a, b in zip(frame.planes, source, strict=True))
            continue
        count += 1
        before, after = next((a, b) for a, b in pairwise(starts) if a < time < b)
        part = float((time - before) / (after - before))
        mean = [(1 - part) * a + part * b for a, b in zip(planes(film, before), planes(film, after), strict=True)]
        assert psnr(luma(frame), true[0], peak) > psnr(np.round(mean[0]), true[0], peak) + MARGIN, f"at {time}"
        for k in (1, 2):
            assert psnr(frame.planes[k], true[k], peak) > psnr(np.round(mean[k]), true[k], peak) + 1
    assert count


@pytest.mark.parametrize(
    ("film", "factor"),
    [
        (SHAPES, 2),
        (TEXTURE, 3),
        (TEXTURE, 4),
        (replace(TEXTURE, pixel_format="yuv422p10le"), 2),
        (replace(TEXTURE, pixel_format="yuv444p", width=33, height=17, speed=(3.0, 1.0)), 2),
    ],
    ids=["shapes", "thirds", "quarters", "10-bit", "33x17"],
)
def test_a_film_of_known_motion(film: Film, factor: int, film_factory: Callable[..., Path], tmp_path: Path) -> None:
    summary = midframe.convert(film_factory(film, ".mkv"), tmp_path / "out.mkv", factor=factor, encoder="ffv1")
    assert summary.counts.interpolated == 2 * (factor - 1)
    assert not [warning for warning in summary.warnings if "average" in warning]
    check(film, tmp_path / "out.mkv", interpolated_times(film.frame_times, factor))


def test_a_film_at_60_frames_per_second(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """From 25 to 60: the interpolated frames lie at 5/12 and 10/12, then at 1/4 and 2/3 between source frames."""
    film = replace(TEXTURE, rate=Fraction(25))
    midframe.convert(film_factory(film, ".mkv"), tmp_path / "out.mp4", fps=Fraction(60), crf=0)
    times = times_at_rate(film.frame_times, film.duration, Fraction(60))
    found = read_frames(tmp_path / "out.mp4")
    assert len(found) == len(times) == 8
    for frame, time in zip(found[1:5], times[1:5], strict=True):
        scores = {at: psnr(luma(frame), planes(film, Fraction(at))[0], 255) for at in times[:5]}
        assert max(scores, key=lambda at: scores[at]) == time


def test_frames_at_cuts_are_duplicated(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(frames=6, cuts=(3,), codec="ffv1")
    path, out = film_factory(film, ".mkv"), tmp_path / "out.mkv"
    counts = midframe.convert(path, out, encoder="ffv1").counts
    assert (counts.interpolated, counts.duplicated_at_cuts) == (4, 1)
    source, found = read_frames(path), read_frames(out)
    assert all(np.array_equal(a, b) for a, b in zip(found[5].planes, source[2].planes, strict=True))


def test_a_static_half_stays_and_the_other_half_moves(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(scene="half", frames=3, codec="ffv1", pixel_format="yuv420p10le", speed=(4.0, 1.0))
    midframe.convert(film_factory(film, ".mkv"), tmp_path / "out.mkv", encoder="ffv1")
    source = planes(film, 0)[0].astype(float)
    for k, frame in enumerate(read_frames(tmp_path / "out.mkv")):
        deviation = np.abs(luma(frame) - source)[:, : 80 - 14]
        assert deviation.max() <= 1
        assert deviation.mean() < 0.05
        true = planes(film, Fraction(k, 48))[0].astype(float)
        assert psnr(luma(frame)[:, 80:], true[:, 80:], 1023) > 38


def test_equal_frames_are_repeated_bit_for_bit(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(scene="static", frames=3, codec="ffv1")
    counts = midframe.convert(film_factory(film, ".mkv"), tmp_path / "out.mkv", encoder="ffv1").counts
    assert (counts.interpolated, counts.repeated) == (0, 2)
    frames = read_frames(tmp_path / "out.mkv")
    assert all(np.array_equal(a, b) for frame in frames for a, b in zip(frame.planes, frames[0].planes, strict=True))


# Pairs of frames


@pytest.mark.parametrize("scene", ["texture", "shapes", "edge"])
def test_a_frame_matches_its_own_time_best(scene: str, default: InterpolationNetwork) -> None:
    film = Film(96, 64, scene=scene, speed=(5.0, 2.0), rate=Fraction(1))
    first, second = picture(film, 0), picture(film, 1)
    truth = {at: picture(film, at) for at in EIGHTHS}
    for time in (0.25, 0.5, 0.75):
        frame = midframe.interpolate(first, second, time, network=default)
        scores = {at: psnr(frame, truth[at]) for at in EIGHTHS}
        assert max(scores, key=lambda at: scores[at]) == time, scores
        assert scores[time] > psnr((1 - time) * first + time * second, truth[time]) + MARGIN


@pytest.mark.parametrize(("width", "height"), [(16, 16), (17, 33)])
def test_the_smallest_sizes(width: int, height: int, default: InterpolationNetwork) -> None:
    """Half of the content enters across the border; the frame still matches its own time best."""
    film = Film(width, height, scene="texture", speed=(2.0, 1.0), rate=Fraction(1))
    first, second = picture(film, 0), picture(film, 1)
    for time in (0.25, 0.5):
        frame = midframe.interpolate(first, second, time, network=default)
        assert frame.shape == (height, width, 3)
        scores = {at: psnr(frame, picture(film, at)) for at in EIGHTHS}
        assert max(scores, key=lambda at: scores[at]) == time, scores


def test_reversed_time_gives_nearly_the_same_frame(default: InterpolationNetwork) -> None:
    film = Film(96, 64, speed=(4.0, 1.0), rate=Fraction(1))
    first, second = picture(film, 0), picture(film, 1)
    for time in (0.25, 0.5):
        forward = midframe.interpolate(first, second, time, network=default)
        backward = midframe.interpolate(second, first, 1 - time, network=default)
        assert psnr(forward, backward) > psnr(forward, picture(film, time)) + MARGIN


def test_interpolation_is_deterministic(default: InterpolationNetwork) -> None:
    first, second = picture(SHAPES, 0), picture(SHAPES, Fraction(1, 24))
    once = midframe.interpolate(first, second, 0.3, network=default)
    again = midframe.interpolate(first, second, 0.3, network=midframe.load())
    assert np.array_equal(once, again)
