"""Converting a part of a film: frames with start <= time < end, shifted to 0, and the other streams clipped."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from converted import (
    HALF_MILLISECOND,
    changed_source_frames,
    click_times,
    convert_quickly,
    interpolated_times,
    largest_difference,
    times_at_rate,
)
from films import AudioTrack, Chapter, Film, SubtitleTrack, packets, read_times
from midframe.errors import SettingError

Factory = Callable[..., Path]
TENTH = Fraction(1, 10)
LINES = ((2 * TENTH, 6 * TENTH, "before"), (7 * TENTH, 8 * TENTH, "inside"), (9 * TENTH, Fraction(3), "across"))
FILM = Film(
    frames=48,
    width=64,
    height=48,
    gop=24,
    audio=(AudioTrack(codec="pcm_s16le", kind="clicks"), AudioTrack()),
    subtitles=(SubtitleTrack(LINES),),
    chapters=(Chapter(Fraction(0), Fraction(1), "one"), Chapter(Fraction(1), Fraction(2), "two")),
)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(("start", "duration"), [("0.55", "0.9"), ("1/3", None), (None, "0.7"), ("1.9", "5")])
def test_frames_between_start_and_end(
    film_factory: Factory, tmp_path: Path, start: str | None, duration: str | None, suffix: str
) -> None:
    source, target = film_factory(FILM, ".mkv"), tmp_path / f"out{suffix}"
    begin = Fraction(start or 0)
    end = begin + Fraction(duration) if duration else Fraction(100)
    convert_quickly(
        source, target, start=Fraction(start) if start else None, duration=Fraction(duration) if duration else None
    )
    sources = read_times(source)
    taken = [k for k, time in enumerate(sources) if begin <= time < end]
    assert 0 < len(taken) < len(sources)
    assert sources[taken[0]] - sources[taken[0] - 1 if taken[0] else 0] < begin or taken[0] == 0
    expected = interpolated_times([sources[k] - sources[taken[0]] for k in taken], 2)
    assert largest_difference(read_times(target), expected) <= (HALF_MILLISECOND if suffix == ".mkv" else 0)
    if suffix == ".mkv":
        assert changed_source_frames(source, target, [(k, 2 * n) for n, k in enumerate(taken)]) == []


def test_other_streams_are_clipped_and_stay_synchronous(film_factory: Factory, tmp_path: Path) -> None:
    source, target = film_factory(FILM, ".mkv"), tmp_path / "out.mkv"
    start, duration = Fraction(55, 100), Fraction(9, 10)
    convert_quickly(source, target, start=start, duration=duration)
    sources = read_times(source)
    origin = next(time for time in sources if time >= start)
    end = start + duration
    before, after = packets(source), packets(target)
    for track in (1, 2):
        step = before[track][1].time - before[track][0].time
        inside = [p for p in before[track] if p.time >= origin and p.time + (p.duration or step) <= end]
        assert [p.md5 for p in after[track]] == [p.md5 for p in inside]
        assert len(inside) > 5
        for a, b in zip(inside, after[track], strict=True):
            assert abs(b.time - (a.time - origin)) <= HALF_MILLISECOND * 2
    lines = [(p.time, p.time + p.duration) for p in after[3]]
    expected = [(max(a, origin) - origin, min(b, end) - origin) for a, b, _ in LINES if a < end and b > origin]
    assert len(lines) == len(expected) == 3
    for line, clipped in zip(lines, expected, strict=True):
        assert max(abs(line[0] - clipped[0]), abs(line[1] - clipped[1])) <= 2 * HALF_MILLISECOND
    with av.open(str(target)) as film:
        chapters = [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in film.chapters()]
    assert [c[2]["title"] for c in chapters] == ["one", "two"]
    assert chapters[0][0] == 0
    assert abs(chapters[0][1] - (1 - origin)) <= HALF_MILLISECOND
    assert abs(chapters[1][1] - (end - origin)) <= HALF_MILLISECOND
    inside_clicks = [click for click in click_times(source) if origin + Fraction(1, 50) < click < end]
    assert inside_clicks
    assert all(abs(b - (a - origin)) < 0.003 for a, b in zip(inside_clicks, click_times(target), strict=True))


def test_subtitles_clipped_to_the_same_start_fit_into_mp4(film_factory: Factory, tmp_path: Path) -> None:
    lines = ((TENTH, Fraction(1), "a"), (2 * TENTH, Fraction(1), "b"), (3 * TENTH, Fraction(1), "c"))
    film = Film(frames=24, width=64, height=48, subtitles=(SubtitleTrack(lines),))
    convert_quickly(film_factory(film, ".mkv"), tmp_path / "out.mp4", start=TENTH * 5)
    texts = [bytes(p)[2:] for p in av.open(str(tmp_path / "out.mp4")).demux(subtitles=0) if p.size > 2]
    assert texts == [b"a", b"b", b"c"]


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".webm"])
def test_other_containers_and_other_rates(film_factory: Factory, tmp_path: Path, suffix: str) -> None:
    film = Film(frames=24, width=64, height=48, audio=(AudioTrack(),), gop=24)
    source, target = film_factory(film, suffix), tmp_path / "out.mp4"
    start = read_times(source)[7] - Fraction(1, 1000)
    convert_quickly(source, target, start=start, duration=Fraction(1, 3), fps=Fraction(60))
    taken = [time for time in read_times(source) if start <= time < start + Fraction(1, 3)]
    after = next(time for time in read_times(source) if time >= start + Fraction(1, 3))
    assert read_times(target) == [t - taken[0] for t in times_at_rate(taken, after, Fraction(60))]
    with av.open(str(target)) as out:
        assert all(p.pts >= 0 for p in out.demux(audio=0) if p.size)


def test_a_start_before_everything_changes_nothing(film_factory: Factory, tmp_path: Path) -> None:
    film = Film(frames=12, width=64, height=48, start=Fraction(1, 2), audio=(AudioTrack(start=Fraction(-1, 2)),))
    source = film_factory(film, ".mp4")
    convert_quickly(source, tmp_path / "a.mp4", start=Fraction(0))
    first, sound = read_times(tmp_path / "a.mp4")[0], packets(tmp_path / "a.mp4")[1]
    assert first == Fraction(1, 2)
    assert [p.md5 for p in sound] == [p.md5 for p in packets(source)[1]]
    assert sound[0].time == packets(source)[1][0].time


@pytest.mark.parametrize(("start", "duration"), [(Fraction(50), None), (Fraction(41, 1000), Fraction(1, 2000))])
def test_a_part_without_frames_is_refused(
    film_factory: Factory, tmp_path: Path, start: Fraction, duration: Fraction | None
) -> None:
    with pytest.raises(SettingError, match="no frame lies between"):
        convert_quickly(
            film_factory(FILM, ".mkv"), tmp_path / "out.mkv", start=start + Fraction(1, 2000), duration=duration
        )
    assert list(tmp_path.iterdir()) == []


def test_a_duration_alone_counts_from_the_first_frame(film_factory: Factory, tmp_path: Path) -> None:
    film = Film(frames=24, start=Fraction(3, 2), codec="ffv1")
    out = tmp_path / "out.mkv"
    convert_quickly(film_factory(film, ".mkv"), out, duration=Fraction(1, 4))
    times = read_times(out)
    assert len(times) == 11
    assert all(abs(time - Fraction(k, 48)) <= HALF_MILLISECOND for k, time in enumerate(times))
