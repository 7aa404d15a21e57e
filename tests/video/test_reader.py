"""`read_frames` yields the right frames at the right times: whole films, parts, damaged and interlaced films."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
import pytest

from films import AudioTrack, Film, read_planes, read_times, undecodable
from midframe.errors import Cancelled, InputError
from midframe.video.damage import DamageLog
from midframe.video.frame import Frame
from midframe.video.probe import probe
from midframe.video.reader import ReadOptions, ReadReport, read_frames


def read(path: Path, **options: Any) -> tuple[list[Frame], ReadReport]:
    """Probe a film and read all its frames; the options are those of `ReadOptions`."""
    report = ReadReport()
    return list(read_frames(probe(path), report, ReadOptions(**options))), report


def has_planes(frame: Frame, planes: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(frame.planes, planes, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi", ".webm", ".mpg", ".h264"])
def test_all_frames_are_read_unchanged_at_their_times(suffix: str, film_factory: Callable[..., Path]) -> None:
    path = film_factory(Film(rate=Fraction(25)), suffix)
    frames, report = read(path)
    assert report == ReadReport(frames=24)
    assert all(has_planes(frame, planes) for frame, planes in zip(frames, read_planes(path), strict=True))
    times = [frame.time for frame in frames]
    assert times == (read_times(path) or [Fraction(k, 25) for k in range(24)])
    if suffix not in {".mkv", ".webm"}:
        assert {frame.duration for frame in frames} == {Fraction(1, 25)}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".h264", ".avi"])
def test_a_part_is_read_as_in_the_whole_film(suffix: str, film_factory: Callable[..., Path]) -> None:
    """The film is long enough for a seek, and has open groups of pictures."""
    film = Film(frames=80, gop=10, width=64, height=48, rate=Fraction(25), options={"x264-params": "open-gop=1"})
    path = film_factory(film, suffix)
    whole, _ = read(path)
    for first, last in ((0, 5), (41, 44), (50, 50), (59, 80), (79, 80)):
        start, end = whole[first].time, whole[last].time if last < 80 else None
        part, report = read(path, start=start, end=end)
        assert report == ReadReport(frames=last - first)
        assert [frame.time for frame in part] == [frame.time for frame in whole[first:last]]
        assert all(has_planes(a, b.planes) for a, b in zip(part, whole[first:last], strict=True))


def test_reading_stops_when_cancelled_or_closed(film_factory: Callable[..., Path]) -> None:
    read_so_far: list[Frame] = []
    with pytest.raises(Cancelled, match="stopped"):
        read_so_far.extend(read_frames(probe(film_factory()), ReadReport(), cancelled=lambda: len(read_so_far) > 3))
    frames = read_frames(probe(film_factory()), ReadReport(), cancelled=lambda: False)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert not DamageLog._open


def test_copies_of_a_neighbour_have_the_times_of_the_lost_frames(
    film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    whole = film_factory(Film(frames=12, codec="ffv1", gop=1), ".mkv")
    broken = undecodable(whole, {4, 5, 11}, tmp_path / "broken.mkv")
    frames, report = read(broken, keep_going=True)
    assert [frame.time for frame in frames] == read_times(whole)
    assert [k for k, frame in enumerate(frames) if frame.lost] == [4, 5, 11]
    assert report.lost == 3
    assert report.messages
    assert has_planes(frames[5], frames[3].planes)
    with pytest.raises(InputError, match=r"0\.167 s.*4 of 12"):
        read(broken)


def test_equal_errors_of_two_films_are_both_counted(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """By default PyAV skips a message that equals the one before it, even if that concerned another film."""
    broken = undecodable(film_factory(Film(frames=6, codec="ffv1", gop=1), ".mkv"), {5}, tmp_path / "broken.mkv")
    first, second = (read(broken, keep_going=True)[1].messages for _ in range(2))
    assert first == second != Counter()


def test_log_settings_of_pyav_are_restored(film_factory: Callable[..., Path]) -> None:
    before = (av.logging.get_level(), av.logging.get_skip_repeated())
    read(film_factory())
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before


def test_transparent_frames_are_refused_unless_alpha_is_dropped(
    film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "alpha.mov"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=25, options={})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgba"
        for k in range(3):
            pixels = np.full((48, 64, 4), 255, np.uint8)
            pixels[:, :, 3] = 255 if k < 2 else 100
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgba")))
        out.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"0\.080 s is transparent.*--drop-alpha"):
        read(path)
    assert len(read(path, drop_alpha=True)[0]) == 3


def test_cover_art_and_other_streams_are_ignored(film_factory: Callable[..., Path]) -> None:
    path = film_factory(Film(cover=True, second_video=True, audio=(AudioTrack(),)))
    frames, report = read(path)
    assert report == ReadReport(frames=24)
    assert (frames[0].width, frames[0].height) == (160, 96)


INTERLACED = Film(frames=10, interlaced=True, codec="ffv1", gop=1, rate=Fraction(25))


@pytest.mark.parametrize("height", [96, 91, 10])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le"])
def test_deinterlacing_keeps_the_number_and_times_of_frames(
    height: int, pixel_format: str, film_factory: Callable[..., Path]
) -> None:
    path = film_factory(replace(INTERLACED, height=height, pixel_format=pixel_format), ".mkv")
    whole, _ = read(path)
    frames, report = read(path, deinterlace="frame")
    assert report == ReadReport(frames=10)
    assert [frame.time for frame in frames] == [frame.time for frame in whole]
    assert all(frame.layout == whole[0].layout and frame.height == height for frame in frames)
    fields, report = read(path, deinterlace="field")
    assert report == ReadReport(frames=10)
    assert [frame.time for frame in fields[::2]] == [frame.time for frame in whole]
    assert [frame.time for frame in fields[1::2]] == [frame.time + frame.duration / 2 for frame in whole]  # type: ignore[operator]
    assert all(a.time + a.duration == b.time for a, b in pairwise(fields))  # type: ignore[operator]


def test_the_lines_of_each_field_are_unchanged(film_factory: Callable[..., Path]) -> None:
    """Top field first: the even lines of the first picture are the film's own, and the odd lines of the second."""
    path = film_factory(INTERLACED, ".mkv")
    whole, _ = read(path)
    fields, _ = read(path, deinterlace="field")
    frames, _ = read(path, deinterlace="frame")
    for k in range(10):
        for parity in (0, 1):
            luma = fields[2 * k + parity].planes[0]
            assert np.array_equal(luma[parity::2], whole[k].planes[0][parity::2])
            assert not np.array_equal(luma, whole[k].planes[0])
        assert has_planes(frames[k], fields[2 * k].planes)


def test_field_order_is_read_from_the_frames(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """The same with the bottom field first, as the frames are marked."""
    path = tmp_path / "bottom.mkv"
    with av.open(str(film_factory(INTERLACED, ".mkv"))) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        graph = av.filter.Graph()
        chain = [
            graph.add_buffer(template=source.streams.video[0]),
            graph.add("setfield", "bff"),
            graph.add("buffersink"),
        ]
        chain[0].link_to(chain[1])
        chain[1].link_to(chain[2])
        graph.configure()
        for picture in source.decode(video=0):
            graph.vpush(picture)
            shown = graph.vpull()
            shown.pict_type = 0
            out.mux(stream.encode(shown))
        out.mux(stream.encode(None))
    whole, _ = read(path)
    fields, _ = read(path, deinterlace="field")
    for k in range(10):
        for parity in (0, 1):
            luma = fields[2 * k + parity].planes[0]
            assert np.array_equal(luma[1 - parity :: 2], whole[k].planes[0][1 - parity :: 2])


@pytest.mark.parametrize("mode", ["frame", "field"])
def test_a_part_is_deinterlaced_as_in_the_whole_film(mode: str, film_factory: Callable[..., Path]) -> None:
    """The filter sees the neighbours of the part on both sides, also after a seek."""
    path = film_factory(replace(INTERLACED, frames=60, width=64, height=48), ".mkv")
    whole, _ = read(path, deinterlace=mode)
    each = 2 if mode == "field" else 1
    for first, last in ((0, 1), (7, 12), (50, 60)):
        end = whole[last * each].time if last < 60 else None
        part, _ = read(path, deinterlace=mode, start=whole[first * each].time, end=end)
        assert [frame.time for frame in part] == [frame.time for frame in whole[first * each : last * each]]
        assert all(has_planes(a, b.planes) for a, b in zip(part, whole[first * each : last * each], strict=True))


def test_a_film_of_one_frame_is_deinterlaced(film_factory: Callable[..., Path]) -> None:
    path = film_factory(replace(INTERLACED, frames=1), ".mkv")
    assert len(read(path, deinterlace="frame")[0]) == 1
    assert len(read(path, deinterlace="field")[0]) == 2


def test_frames_too_small_for_the_filter_are_refused(film_factory: Callable[..., Path]) -> None:
    path = film_factory(replace(INTERLACED, interlaced=False, height=2), ".mkv")
    with pytest.raises(InputError, match="cannot be deinterlaced"):
        read(path, deinterlace="frame")


@pytest.mark.slow
def test_no_damage_is_reported_for_real_films(shared_data: Path) -> None:
    for path in sorted((shared_data / "films").iterdir()):
        if path.suffix == ".md":
            continue
        film = probe(path)
        report = ReadReport()
        times = [frame.time for frame in read_frames(film, report)]
        assert film.ticks is not None
        assert times == [tick * film.time_base for tick in film.ticks], path.name
        assert report == ReadReport(frames=len(times), losses=report.lost_side_data), path.name
        assert (film.problems, film.duplicate_frames, film.undecodable_start) == ((), 0, 0), path.name
