"""`scan`: frame times, stream statistics and signs of damage, read from the packets alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
import pytest
from PIL import Image

from films import AudioTrack, Film, SubtitleTrack, dropped, falling_times, packets, read_times, truncated
from midframe.errors import Cancelled
from midframe.video.damage import DamageLog
from midframe.video.ffmpeg import film_stream, open_container
from midframe.video.scan import Scan, StreamInfo, scan, shows_frame

RATE = Fraction(25)
FILM = Film(rate=RATE)
LOSSLESS = replace(FILM, codec="ffv1", gop=1)
"""Each frame is a key frame, and no frame is reordered."""


def scan_file(path: Path, **arguments: Any) -> Scan:
    """Scan a film of `RATE` as `probe` does."""
    with open_container(str(path)) as container, DamageLog({container.format.name}) as log:
        defaults = {"rate": RATE, "first_pts": None, "messages": log.messages, "cancelled": lambda: False}
        return scan(container, film_stream(container, str(path)).index, **{**defaults, **arguments})


def times_of(found: Scan) -> list[Fraction]:
    return [tick * found.time_base for tick in found.ticks]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".webm"])
def test_ticks_are_the_display_times_of_the_decoded_frames(suffix: str, film_factory: Callable[..., Path]) -> None:
    path = film_factory(FILM, suffix)
    found = scan_file(path)
    assert found.has_timestamps
    assert times_of(found) == read_times(path)
    assert (found.duplicate_frames, found.undecodable_start, found.ends_early) == (0, 0, False)
    assert found.problems == ()


def test_ticks_of_a_raw_stream_follow_from_the_rate(film_factory: Callable[..., Path]) -> None:
    found = scan_file(film_factory(FILM, ".h264"), rate=Fraction(10))
    assert not found.has_timestamps
    assert times_of(found) == [Fraction(k, 10) for k in range(24)]
    assert found.last_duration is None


class WithoutDisplayTimes:
    """A container whose packets have decoding times alone, as FFmpeg gives them for some AVI files."""

    def __init__(self, container: av.container.InputContainer) -> None:
        self.container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)

    def demux(self) -> Iterator[av.Packet[Any]]:
        for packet in self.container.demux():
            packet.pts = None
            yield packet


def test_without_display_times_the_ticks_are_the_decoding_times(film_factory: Callable[..., Path]) -> None:
    with open_container(str(film_factory(FILM, ".mp4"))) as container:
        stripped: Any = WithoutDisplayTimes(container)
        found = scan(stripped, 0, rate=RATE, first_pts=None, messages=Counter(), cancelled=lambda: False)
    assert not found.has_timestamps
    assert [b - a for a, b in pairwise(times_of(found))] == [1 / RATE] * 23


def test_last_duration_is_that_of_the_last_packet(film_factory: Callable[..., Path]) -> None:
    film = replace(LOSSLESS, last_duration=Fraction(1, 2))
    assert scan_file(film_factory(film, ".mkv")).last_duration == Fraction(1, 2)


def test_statistics_of_every_stream(film_factory: Callable[..., Path]) -> None:
    film = replace(FILM, audio=(AudioTrack(language="deu", title="Ton"),), subtitles=(SubtitleTrack(),), cover=True)
    path = film_factory(film, ".mp4")
    found = scan_file(path)
    assert [(s.index, s.kind, s.is_cover_art) for s in found.streams] == [
        (0, "video", False),
        (1, "audio", False),
        (2, "subtitle", False),
        (3, "video", True),
    ]
    for stream, facts in zip(found.streams, packets(path), strict=True):
        assert (stream.packets, stream.bytes) == (len(facts), sum(fact.size for fact in facts))
    picture, sound, subtitles, _ = found.streams
    assert (picture.codec, picture.first_time, picture.end_time) == ("h264", 0, Fraction(24, 25))
    assert (sound.codec, sound.language, sound.title) == ("aac", "deu", "Ton")
    assert sound.describe() == 'audio 1 aac deu "Ton"'
    assert subtitles.codec == "mov_text"


def test_description_of_a_stream_leaves_out_what_is_unknown() -> None:
    assert StreamInfo(2, "data", "bin_data").describe() == "data 2 bin_data"


def test_frames_whose_time_does_not_increase_are_left_out(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    path = falling_times(film_factory(LOSSLESS, ".mkv"), tmp_path / "falling.mkv", equal={5}, falling={12})
    found = scan_file(path)
    assert found.duplicate_frames == 2
    assert times_of(found) == [Fraction(k, 25) for k in range(24) if k not in (5, 12)]


@pytest.mark.parametrize(
    ("first_pts", "left_out"),
    [
        pytest.param(None, 0, id="nothing-decoded"),
        pytest.param(480, 11, id="decoded-from-the-key-frame"),
        pytest.param(200, 4, id="decoded-before-the-key-frame"),
        pytest.param(800, 11, id="key-frame-is-damaged"),
    ],
)
def test_frames_before_the_first_decodable_one_are_left_out(
    first_pts: int | None, left_out: int, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    """Here frame 1, at 40 ms, comes first, and the first key frame is frame 12, at 480 ms."""
    path = dropped(film_factory(replace(FILM, b_frames=0, gop=12), ".mkv"), {0}, tmp_path / "late.mkv")
    found = scan_file(path, first_pts=first_pts)
    assert found.undecodable_start == left_out
    assert times_of(found) == [Fraction(k, 25) for k in range(1 + left_out, 24)]


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        pytest.param({10}, "a frame seems to be missing after 0.360 s, where the time jumps", id="one"),
        pytest.param({10, 11, 12}, "3 frames seem to be missing after 0.360 s, where the time jumps", id="three"),
    ],
)
def test_lost_packets_of_matroska_show_as_a_jump_of_the_times(
    missing: set[int], problem: str, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    found = scan_file(dropped(film_factory(LOSSLESS, ".mkv"), missing, tmp_path / "lost.mkv"))
    assert problem in found.problems
    assert not found.ends_early


def test_a_variable_rate_is_no_sign_of_damage(film_factory: Callable[..., Path]) -> None:
    times = tuple(Fraction(k * k + 20 * k, 1000) for k in range(24))
    assert scan_file(film_factory(replace(LOSSLESS, times=times), ".mkv")).problems == ()


def test_a_jump_in_mp4_is_intended(film_factory: Callable[..., Path]) -> None:
    times = tuple(Fraction(k + 3 * (k > 10), 25) for k in range(24))
    assert scan_file(film_factory(replace(FILM, times=times, b_frames=0), ".mp4")).problems == ()


@pytest.mark.parametrize(
    ("film", "suffix", "problem"),
    [
        pytest.param(FILM, ".mkv", "the file ends before the end of the film", id="mkv"),
        pytest.param(FILM, ".avi", "the file is shorter than its header says", id="avi"),
        pytest.param(FILM, ".y4m", "the file ends within a frame", id="y4m"),
        pytest.param(
            replace(FILM, container_options={"movflags": "+faststart"}), ".mp4", "the index lists 24 packets", id="mp4"
        ),
    ],
)
def test_a_missing_end_is_reported(
    film: Film, suffix: str, problem: str, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    whole = film_factory(film, suffix)
    assert not scan_file(whole).ends_early
    found = scan_file(truncated(whole, 0.7, tmp_path / f"cut{suffix}"))
    assert found.ends_early
    assert any(text.startswith(problem) for text in found.problems), found.problems
    assert 0 < len(found.ticks) < 24


@pytest.mark.parametrize(
    ("stated", "problem", "ends_early"),
    [
        pytest.param(b"00:00:00.960000000", None, False, id="as-long"),
        pytest.param(
            b"00:00:01.000000000", "its packets end 0.040 s earlier than its header says", False, id="one-frame"
        ),
        pytest.param(b"00:00:02.960000000", "its last 2.000 s are missing", True, id="seconds"),
    ],
)
def test_duration_tag_of_matroska_is_compared_with_the_packets(
    stated: bytes, problem: str | None, ends_early: bool, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    contents = film_factory(LOSSLESS, ".mkv").read_bytes()
    assert contents.count(b"00:00:00.960000000") == 1
    path = tmp_path / "film.mkv"
    path.write_bytes(contents.replace(b"00:00:00.960000000", stated))
    found = scan_file(path)
    assert found.problems == (() if problem is None else (problem,))
    assert found.ends_early == ends_early


def test_a_cut_gif_ends_early(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((32, 48), 20 * k, np.uint8)) for k in range(8)]
    whole = tmp_path / "whole.gif"
    pictures[0].save(whole, save_all=True, append_images=pictures[1:], duration=40)
    assert times_of(scan_file(whole)) == [Fraction(k, 25) for k in range(8)]
    found = scan_file(truncated(whole, 0.7, tmp_path / "cut.gif"))
    assert found.ends_early
    assert found.problems[0] == "the GIF ends before its last picture does"


def test_messages_of_the_demuxer_are_problems(film_factory: Callable[..., Path]) -> None:
    messages = Counter({"mov: broken": 1, "mov: odd": 3})
    assert scan_file(film_factory(FILM), messages=messages).problems == ("mov: broken", "mov: odd (3 times)")


def test_corrupt_packets_are_counted(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = replace(FILM, container_options={"movflags": "+faststart"})
    found = scan_file(truncated(film_factory(film, ".mp4"), 0.7, tmp_path / "cut.mp4"))
    assert "packets marked as damaged: 1" in found.problems


def test_scanning_stops_when_cancelled(film_factory: Callable[..., Path]) -> None:
    answers = iter([False, False, True])
    with pytest.raises(Cancelled, match="stopped"):
        scan_file(film_factory(FILM), cancelled=lambda: next(answers))


@pytest.mark.parametrize(
    ("codec", "payload", "shown"),
    [
        pytest.param("vp8", b"\x10", True, id="vp8-shown"),
        pytest.param("vp8", b"\x00", False, id="vp8-hidden"),
        pytest.param("vp9", b"\x82\x49", True, id="vp9-key-frame-shown"),
        pytest.param("vp9", b"\x84\x00", False, id="vp9-inter-frame-hidden"),
        pytest.param("vp9", b"\x88\x00", True, id="vp9-shows-existing-frame"),
        pytest.param("vp9", b"\x84\x00\x01\xc1", True, id="vp9-superframe"),
        pytest.param("vp9", b"", True, id="vp9-empty"),
        pytest.param("h264", b"\x00", True, id="h264"),
    ],
)
def test_show_frame_bits(codec: str, payload: bytes, shown: bool) -> None:
    assert shows_frame(codec, payload) is shown
