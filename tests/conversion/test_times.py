"""Output frames are shown at exact times, and source frames are unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from converted import (
    HALF_MILLISECOND,
    changed_source_frames,
    convert_quickly,
    interpolated_times,
    largest_difference,
    nearest_time,
    times_at_rate,
)
from films import Film, read_frames, read_times
from midframe.errors import SettingError

VARIABLE = tuple(Fraction(n, 1000) for n in (0, 40, 80, 200, 213, 260, 900, 940))
FILMS = {
    "constant": Film(frames=8, width=64, height=48),
    "broadcast": Film(frames=8, width=64, height=48, rate=Fraction(24000, 1001)),
    "variable": Film(times=VARIABLE, width=64, height=48),
    "late": Film(frames=8, width=64, height=48, start=Fraction(1001, 2000)),
    "hidden beginning": Film(frames=8, width=64, height=48, rate=Fraction(25), start=Fraction(-2, 25)),
}
Factory = Callable[..., Path]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize("factor", [2, 3])
def test_factor(film_factory: Factory, tmp_path: Path, name: str, suffix: str, factor: int) -> None:
    source = film_factory(FILMS[name], ".mp4")
    convert_quickly(source, tmp_path / f"out{suffix}", factor=factor)
    expected = interpolated_times(read_times(source), factor)
    assert largest_difference(read_times(tmp_path / f"out{suffix}"), expected) <= (
        HALF_MILLISECOND if suffix == ".mkv" else 0
    )


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mpg", ".avi", ".webm", ".mov"])
def test_other_containers_in(film_factory: Factory, tmp_path: Path, suffix: str) -> None:
    rate = Fraction(25) if suffix == ".mpg" else Fraction(24000, 1001)
    source = film_factory(Film(frames=8, rate=rate), suffix)
    convert_quickly(source, tmp_path / "out.mp4")
    assert read_times(tmp_path / "out.mp4") == interpolated_times(read_times(source), 2)


@pytest.mark.parametrize("factor", [4, 8])
def test_high_factors_in_webm(film_factory: Factory, tmp_path: Path, factor: int) -> None:
    source = film_factory(FILMS["broadcast"], ".mkv")
    convert_quickly(source, tmp_path / "out.webm", factor=factor, preset="8")
    assert (
        largest_difference(read_times(tmp_path / "out.webm"), interpolated_times(read_times(source), factor))
        <= HALF_MILLISECOND
    )


@pytest.mark.parametrize("rate", [Fraction(60), Fraction(60000, 1001), Fraction(10), Fraction(7, 3)])
@pytest.mark.parametrize("name", ["constant", "variable", "late"])
def test_rate(film_factory: Factory, tmp_path: Path, name: str, rate: Fraction) -> None:
    film = FILMS[name]
    source, target = film_factory(film, ".mp4"), tmp_path / "out.mp4"
    convert_quickly(source, target, fps=rate)
    sources = read_times(source)
    assert read_times(target) == times_at_rate(sources, sources[-1] + film.durations[-1], rate)


def test_a_rate_keeps_source_frames_at_its_times_and_repeats_the_last(film_factory: Factory, tmp_path: Path) -> None:
    film = replace(FILMS["variable"], last_duration=Fraction(1, 4), gop=1)
    source, target, rate = film_factory(film, ".mp4"), tmp_path / "out.mkv", Fraction(60)
    summary = convert_quickly(source, target, fps=rate)
    sources = read_times(source)
    expected = times_at_rate(sources, sources[-1] + Fraction(1, 4), rate)
    assert largest_difference(read_times(target), expected) <= HALF_MILLISECOND
    source_pairs = [
        (sources.index(nearest_time(sources, t)), k)
        for k, t in enumerate(expected)
        if t > sources[-1] or abs(t - nearest_time(sources, t)) <= 1 / rate / 10
    ]
    assert len(source_pairs) > 15, "the test needs frames that meet"
    assert changed_source_frames(source, target, source_pairs) == []
    assert summary.counts.source + summary.counts.repeated + summary.counts.duplicated_at_gaps >= len(source_pairs)


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray", "bgr0"]
)
def test_source_frames_are_bit_identical(film_factory: Factory, tmp_path: Path, pixel_format: str) -> None:
    film = Film(frames=4, width=65, height=47, codec="ffv1", pixel_format=pixel_format)
    source, target = film_factory(film, ".mkv"), tmp_path / "out.mkv"
    convert_quickly(source, target)
    if pixel_format == "bgr0":  # packed RGB becomes planar
        before, after = (
            [f.to_ndarray(format="rgb24") for f in av.open(str(p)).decode(video=0)] for p in (source, target)
        )
        assert all(np.array_equal(before[k], after[2 * k]) for k in range(4))
    else:
        assert changed_source_frames(source, target, [(k, 2 * k) for k in range(4)]) == []
    assert len(read_times(target)) == 7


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_the_last_frame_keeps_its_duration(film_factory: Factory, tmp_path: Path, suffix: str) -> None:
    source = film_factory(replace(FILMS["variable"], last_duration=Fraction(1, 2)), ".mp4")
    target = tmp_path / f"out{suffix}"
    convert_quickly(source, target)
    with av.open(str(target)) as film:
        assert abs(Fraction(film.duration, 1_000_000) - (VARIABLE[-1] + Fraction(1, 2))) < Fraction(2, 1000)


def test_times_too_close_for_matroska_are_refused(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(Film(times=(Fraction(0), Fraction(1, 500), Fraction(1, 10)), width=64, height=48), ".mp4")
    with pytest.raises(SettingError, match=r"too short for mkv.*write an \.mp4"):
        convert_quickly(source, tmp_path / "out.mkv", factor=8)
    convert_quickly(source, tmp_path / "out.mp4", factor=8)
    assert read_times(tmp_path / "out.mp4") == interpolated_times(read_times(source), 8)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_film_of_one_frame(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(Film(frames=1, width=64, height=48), ".mp4")
    convert_quickly(source, tmp_path / "two.mp4")
    convert_quickly(source, tmp_path / "fps.mp4", fps=Fraction(240))
    assert read_times(tmp_path / "two.mp4") == [0]
    assert read_times(tmp_path / "fps.mp4") == [Fraction(k, 240) for k in range(10)]


@pytest.mark.parametrize(("mode", "count"), [("frame", 15), ("field", 31)])
def test_deinterlacing_by_frame_and_by_field(film_factory: Factory, tmp_path: Path, mode: str, count: int) -> None:
    film = Film(frames=8, rate=Fraction(25), interlaced=True, options={"x264-params": "tff=1"})
    source, target = film_factory(film, ".mp4"), tmp_path / "out.mp4"
    summary = convert_quickly(source, target, deinterlace=mode)
    step = Fraction(1, 50 if mode == "frame" else 100)
    assert read_times(target) == [k * step for k in range(count)]
    assert not any("interlaced" in warning for warning in summary.warnings)
    assert any("--deinterlace" in w for w in convert_quickly(source, tmp_path / "combs.mp4").warnings)


REAL = [
    ("motorway-vfr.mp4", ".mp4", {"factor": 2}),
    ("phone-rotated-180-vfr.mp4", ".mp4", {"factor": 3}),
    ("phone-rotated-180-vfr.mp4", ".mkv", {"fps": Fraction(60)}),
    ("phone-hlg-10bit-rotated.mp4", ".mp4", {"factor": 2}),
    ("stream-water.webm", ".mkv", {"factor": 2}),
    ("city-night.mpg", ".mp4", {"factor": 2}),
    ("seattle-pan.avi", ".mp4", {"fps": Fraction(60000, 1001)}),
    ("cat-play.mp4", ".mp4", {"factor": 2}),
    ("skatepark-jump.mp4", ".mp4", {"fps": Fraction(25)}),
    ("elephants-dream-webvtt.webm", ".mp4", {"factor": 2}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "suffix", "settings"), REAL)
def test_real_films(
    shared_data: Path, tmp_path: Path, name: str, suffix: str, settings: dict[str, int | Fraction]
) -> None:
    source, target = shared_data / "films" / name, tmp_path / f"out{suffix}"
    summary = convert_quickly(source, target, encoder="libx264", preset="ultrafast", **settings)
    sources = read_times(source)
    end = sources[-1] + summary.plan.last_duration
    if "factor" in settings:
        expected = interpolated_times(sources, int(settings["factor"]))
    else:
        expected = times_at_rate(sources, end, Fraction(settings["fps"]))
    found = read_times(target)
    assert largest_difference([t - found[0] for t in found], [t - expected[0] for t in expected]) <= (
        2 * HALF_MILLISECOND if suffix == ".mkv" else 0
    )
    assert all(a < b for a, b in pairwise(found))
    assert {(f.width, f.height) for f in read_frames(target)[:1]} == {
        (summary.plan.format.width, summary.plan.format.height)
    }
