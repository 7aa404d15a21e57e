"""At cuts and in gaps output frames are duplicates, bit for bit, of the nearer source frame."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
import pytest

from films import Film, read_frames
from made_frames import Noise, use_network
from midframe.conversion import convert
from midframe.conversion.pairs import frame_pairs
from midframe.video.cuts import CutDetector
from midframe.video.probe import probe
from midframe.video.reader import ReadReport
from midframe.video.reader import read_frames as read_film
from midframe.video.timeline import Timeline, gap_limit

LABELS = Path(__file__).resolve().parents[2] / "benchmarks" / "labels" / "cuts.json"
CUT = Film(frames=12, rate=Fraction(25), cuts=(6,), codec="ffv1")
TWO_CUTS = Film(frames=14, rate=Fraction(25), cuts=(4, 9), codec="ffv1", pixel_format="yuv422p10le")
# Intervals of 40 ms, one of 0.5 s (the limit) and one of 0.52 s.
GAP = Film(
    times=tuple(Fraction(t, 100) for t in (0, 4, 8, 12, 62, 66, 70, 122, 126, 130)),
    rate=Fraction(25),
    speed=(0.3, 0.1),
    codec="ffv1",
)
# At 5 frames a second the limit is five intervals, 1 s: 0.6 s is below it, 1.1 s above.
SLOW = Film(
    times=tuple(Fraction(t, 10) for t in (0, 2, 4, 10, 12, 14, 25, 27)), rate=Fraction(5), speed=(1, 0), codec="ffv1"
)


def pairs_without_interpolation(film: Film) -> set[int]:
    """Return the pairs at cuts and gaps, by the number of their first frame."""
    intervals = [b - a for a, b in pairwise(film.frame_times)]
    limit = max(Fraction(1, 2), 5 * sorted(intervals)[len(intervals) // 2])
    return {k for k, interval in enumerate(intervals) if interval > limit} | {cut - 1 for cut in film.cuts}


def equal_planes(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def check_output(film: Film, path: Path, out: Path, times: list[Fraction], snap: Fraction = Fraction(0)) -> None:
    """Check that output frames equal the nearest source frame exactly where they should.

    times: of the output frames. snap: an output frame this near to a source frame, in seconds, must equal it.
    """
    source, found = read_frames(path), read_frames(out)
    assert len(found) == len(times)
    not_interpolated = pairs_without_interpolation(film)
    source_times = film.frame_times
    for frame, time in zip(found, times, strict=True):
        assert frame.time is not None
        assert abs(frame.time - time) <= Fraction(1, 2000)
        k = min(bisect_right(source_times, time) - 1, len(source_times) - 1)
        following = min(k + 1, len(source_times) - 1)
        is_first_nearer = time - source_times[k] <= source_times[following] - time
        nearest = k if is_first_nearer or following == k else following
        copied = abs(time - source_times[nearest]) <= snap or k in not_interpolated or following == k
        assert equal_planes(frame.planes, source[nearest].planes) == copied, f"frame at {time}"


@pytest.fixture(autouse=True)
def _noise(monkeypatch: pytest.MonkeyPatch) -> None:
    use_network(monkeypatch, Noise())


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("film", [CUT, TWO_CUTS, GAP, SLOW], ids=["cut", "two-cuts", "gap", "slow"])
def test_duplicated_frames_with_a_factor(
    film: Film, factor: int, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = film_factory(film, ".mkv"), tmp_path / "out.mkv"
    counts = convert(path, out, factor=factor, encoder="ffv1", shader="off").counts
    starts = film.frame_times
    times = [a + (b - a) * j / factor for a, b in pairwise(starts) for j in range(factor)] + [starts[-1]]
    check_output(film, path, out, times)
    duplicated = len(pairs_without_interpolation(film)) * (factor - 1)
    assert counts.duplicated_at_cuts + counts.duplicated_at_gaps == duplicated
    assert (counts.duplicated_at_cuts > 0) == bool(film.cuts)
    assert counts.interpolated == (len(starts) - 1) * (factor - 1) - duplicated
    assert counts.source == len(starts)


@pytest.mark.parametrize("rate", [Fraction(60), Fraction(50), Fraction(10)])
@pytest.mark.parametrize("film", [CUT, GAP], ids=["cut", "gap"])
def test_duplicated_frames_with_a_frame_rate(
    film: Film, rate: Fraction, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = film_factory(film, ".mkv"), tmp_path / "out.mkv"
    convert(path, out, fps=rate, encoder="ffv1", shader="off")
    times = [k / rate for k in range(ceil(film.duration * rate))]
    check_output(film, path, out, times, snap=1 / rate / 10)


def test_without_cut_detection_all_frames_are_interpolated(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    counts = convert(film_factory(CUT, ".mkv"), tmp_path / "out.mkv", cuts=False, encoder="ffv1").counts
    assert (counts.interpolated, counts.duplicated_at_cuts) == (11, 0)


@pytest.mark.parametrize("fps", [None, Fraction(60)])
def test_a_film_of_one_frame(fps: Fraction | None, film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(frames=1, rate=Fraction(25), codec="ffv1")
    path, out = film_factory(film, ".mkv"), tmp_path / "out.mkv"
    counts = convert(path, out, fps=fps, encoder="ffv1").counts
    found, (source,) = read_frames(out), read_frames(path)
    assert len(found) == (1 if fps is None else 3)
    assert counts.interpolated == 0
    assert all(equal_planes(frame.planes, source.planes) for frame in found)


@pytest.mark.parametrize("cuts", [(), (1,)])
def test_a_film_of_two_frames(cuts: tuple[int, ...], film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(frames=2, rate=Fraction(25), cuts=cuts, codec="ffv1")
    path, out = film_factory(film, ".mkv"), tmp_path / "out.mkv"
    convert(path, out, factor=4, encoder="ffv1", shader="off")
    check_output(film, path, out, [Fraction(k, 100) for k in range(5)])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(json.loads(LABELS.read_text())["cuts"]))
def test_labelled_cuts_of_real_films_are_detected(name: str, shared_data: Path) -> None:
    """Nothing is interpolated between the last frame of a shot and the first one of the next."""
    film = probe(shared_data / "films" / name)
    assert film.ticks is not None
    timeline = Timeline(Fraction(0), Fraction(0), factor=2)
    limit = gap_limit(film.ticks, film.time_base)
    frames = read_film(film, ReadReport())
    found = {}
    for k, pair in enumerate(frame_pairs(frames, timeline, limit, film.last_duration, CutDetector())):
        found[k + 1] = pair.hold_reason
    labels = json.loads(LABELS.read_text())["cuts"][name]
    assert {cut: found[cut] for cut in labels} == dict.fromkeys(labels, "cut")
