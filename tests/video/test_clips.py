"""`ClipReader`: clips have the frames that decoding the whole film gives, and damage is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from films import Film, bit_flips, draw, read_planes, read_times, size_change, truncated
from midframe.errors import InputError
from midframe.video.clips import ClipReader, ClipReport, open_clip_reader
from midframe.video.frame import Frame

LONG = Film(frames=60, width=96, height=64, gop=12)


def read_clip(reader: ClipReader, start: Fraction, end: Fraction, report: ClipReport | None = None) -> list[Frame]:
    """Return the frames of a clip with copied planes, as the decoder reuses its own."""
    frames = reader.frames(start, end, report or ClipReport())
    return [replace(frame, planes=tuple(plane.copy() for plane in frame.planes)) for frame in frames]


@pytest.mark.parametrize(
    ("film", "suffix"),
    [
        pytest.param(LONG, ".mp4", id="mp4"),
        pytest.param(LONG, ".mkv", id="mkv"),
        pytest.param(replace(LONG, start=Fraction(1, 2)), ".mkv", id="starts-late"),
        pytest.param(replace(LONG, codec="mpeg2video", pixel_format="yuv420p"), ".mpg", id="mpg"),
        pytest.param(replace(LONG, codec="libvpx-vp9", b_frames=0), ".webm", id="webm"),
        pytest.param(replace(LONG, codec="mpeg4", b_frames=0), ".avi", id="avi"),
        pytest.param(replace(LONG, codec="libx264", options={"x264-params": "open-gop=1"}), ".ts", id="ts-open-gop"),
        pytest.param(
            replace(LONG, codec="libx265", options={"x265-params": "log-level=none:open-gop=1"}),
            ".mp4",
            id="hevc-open-gop",
        ),
        pytest.param(
            replace(LONG, times=tuple(Fraction(k * k + 20 * k, 1000) for k in range(40))), ".mkv", id="variable-rate"
        ),
    ],
)
def test_clips_are_those_of_the_decoded_film(film: Film, suffix: str, film_factory: Callable[..., Path]) -> None:
    path = film_factory(film, suffix)
    times, planes = read_times(path), read_planes(path)
    with open_clip_reader(path) as opened:
        assert opened.start == times[0]
        assert opened.duration is not None
        assert abs(opened.duration - (times[-1] - times[0])) < Fraction(1, 5) + max(0, times[0])
        for start in (
            times[-1] - Fraction(1, 3),
            times[0],
            times[3],
            times[20],
            times[20] + Fraction(1, 997),
            times[7],
            times[35],
        ):
            report = ClipReport()
            end = start + Fraction(1, 4)
            found = read_clip(opened, start, end, report)
            wanted = [k for k, time in enumerate(times) if start <= time < end]
            assert [frame.time for frame in found] == [times[k] for k in wanted]
            for frame, k in zip(found, wanted, strict=True):
                for a, b in zip(frame.planes, planes[k], strict=True):
                    np.testing.assert_array_equal(a, b)
            assert (report.damaged, report.interlaced, report.format_change, dict(report.messages)) == (0, 0, None, {})
        assert read_clip(opened, times[-1] + 1, times[-1] + 2) == []


def test_decoding_starts_at_a_key_frame_or_continues_from_the_clip_before(film_factory: Callable[..., Path]) -> None:
    with open_clip_reader(film_factory(LONG)) as film:
        reports = [ClipReport() for _ in range(3)]
        starts = (Fraction(30, 24), Fraction(33, 24), Fraction(50, 24))
        for start, report in zip(starts, reports, strict=True):
            assert [frame.time for frame in read_clip(film, start, start + Fraction(2, 24), report)] == [
                start,
                start + Fraction(1, 24),
            ]
    # Key frames are 0, 12, 24, 36, 48. The frames decoded are 24..31, then 32..34, then 48..51.
    assert [report.decoded for report in reports] == [8, 3, 4]


def test_damage_is_reported(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    broken = bit_flips(film_factory(replace(LONG, width=320, height=192)), 400, 3, tmp_path / "flips.mp4", first=0.2)
    reports_of_damage = 0
    with open_clip_reader(broken) as film:
        for k in range(4):
            report = ClipReport()
            read_clip(film, Fraction(k, 2), Fraction(k + 1, 2), report)
            reports_of_damage += bool(report.damaged or report.messages)
    assert reports_of_damage >= 3


def test_a_clip_beyond_a_missing_end_is_empty(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = replace(LONG, container_options={"movflags": "+faststart"})
    cut = truncated(film_factory(film), 0.5, tmp_path / "cut.mp4")
    with open_clip_reader(cut) as opened:
        assert read_clip(opened, Fraction(0), Fraction(1, 4))
        assert read_clip(opened, Fraction(9, 4), Fraction(5, 2)) == []


def test_a_clip_ends_at_a_change_of_size(tmp_path: Path) -> None:
    path = size_change(replace(LONG, frames=24), tmp_path / "change.ts", 128, 96)
    with open_clip_reader(path) as film:
        report = ClipReport()
        found = read_clip(film, film.start, film.start + 100, report)
    assert report.format_change is not None
    assert {(frame.width, frame.height) for frame in found} == {(96, 64)}


def test_interlaced_frames_are_counted(film_factory: Callable[..., Path]) -> None:
    film = Film(frames=8, interlaced=True)
    with open_clip_reader(film_factory(film)) as opened:
        report = ClipReport()
        found = read_clip(opened, opened.start, opened.start + 1, report)
    assert report.interlaced == len(found) > 0


def test_a_film_without_timestamps_is_refused(tmp_path: Path) -> None:
    path = draw(replace(LONG, frames=6, b_frames=0), tmp_path / "bare.h264")
    with pytest.raises(InputError, match="have no timestamps"), open_clip_reader(path):
        pass


@pytest.mark.slow
def test_clips_of_real_films(shared_data: Path) -> None:
    for path in sorted((shared_data / "films").glob("*.*")):
        if path.suffix == ".md":
            continue
        with open_clip_reader(path) as film:
            everything = {
                frame.time: hash(b"".join(p.tobytes() for p in frame.planes))
                for frame in read_clip(film, film.start - 1, film.start + 1000)
            }
            assert film.duration is not None
            for fraction in (0.8, 0.15, 0.5):
                start = film.start + film.duration * Fraction(fraction)
                found = read_clip(film, start, start + Fraction(1, 5))
                wanted = [time for time in everything if start <= time < start + Fraction(1, 5)]
                assert [frame.time for frame in found] == wanted, path.name
                for frame in found:
                    assert hash(b"".join(p.tobytes() for p in frame.planes)) == everything[frame.time], path.name
