"""Opening films, and the decode loop at errors, at the end of a film and when it is cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest

from films import AudioTrack, Film, audio_only, empty, read_times, text, undecodable
from midframe.errors import Cancelled, InputError
from midframe.video.damage import DamageLog
from midframe.video.ffmpeg import decode_first_frame, decode_frames, film_stream, matroska_duration, open_container

LOSSLESS = Film(frames=12, codec="ffv1", gop=1)


def fail(source: str, message: str) -> None:
    pytest.fail(f"unexpected error of the {source}: {message}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda folder: folder / "none.mp4", "none.mp4 does not exist", id="missing"),
        pytest.param(lambda folder: folder, "is a directory, not a film", id="directory"),
        pytest.param(lambda folder: empty(folder / "a.mp4"), r"a\.mp4 is not a film .*: it is empty", id="empty"),
        pytest.param(lambda folder: text(folder / "a.mp4"), r"a\.mp4 is not a film that can be read", id="text-as-mp4"),
        pytest.param(lambda folder: text(folder / "a.txt"), r"a\.txt is text, not a film", id="text"),
    ],
)
def test_files_that_are_no_films_are_refused(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_container(str(make(tmp_path)))
    assert "\n" not in str(caught.value)


def test_the_film_is_the_default_stream_that_is_no_cover_art(film_factory: Callable[..., Path]) -> None:
    path = str(film_factory(Film(cover=True, second_video=True, audio=(AudioTrack(),))))
    with open_container(path) as container:
        stream = film_stream(container, path)
        assert (stream.width, stream.height) == (160, 96)


@pytest.mark.parametrize(("cover", "message"), [(False, r"found: audio\)"), (True, "the picture in it is cover art")])
def test_a_file_without_a_film_stream_is_refused(cover: bool, message: str, tmp_path: Path) -> None:
    path = str(audio_only(tmp_path / "sound.mp4", with_cover=cover))
    with open_container(path) as container, pytest.raises(InputError, match=message):
        film_stream(container, path)


@pytest.mark.parametrize("threads", ["SLICE", "AUTO"])
def test_all_frames_are_decoded_including_those_the_decoder_holds_back(
    threads: str, film_factory: Callable[..., Path]
) -> None:
    path = film_factory(Film(b_frames=2))
    with open_container(str(path)) as container:
        frames = decode_frames(container, container.streams.video[0], fail, threads=threads)  # type: ignore[arg-type]
        assert [Fraction(f.pts or 0) * Fraction(f.time_base or 1) for f in frames] == read_times(path)


def test_decoding_continues_after_a_packet_that_cannot_be_decoded(
    film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    path = undecodable(film_factory(LOSSLESS, ".mkv"), {4, 5}, tmp_path / "broken.mkv")
    errors: list[tuple[str, str]] = []
    messages: Counter[str] = Counter()
    with open_container(str(path)) as container:
        stream = container.streams.video[0]
        frames = decode_frames(container, stream, lambda *error: errors.append(error), messages=messages)
        assert len(list(frames)) == 10
    assert errors == [("decoder", "Invalid data found when processing input")] * 2
    assert messages
    assert all(message.startswith("ffv1: ") for message in messages)


def test_decoding_stops_when_cancelled(film_factory: Callable[..., Path]) -> None:
    answers = iter([False] * 5 + [True])
    with open_container(str(film_factory(LOSSLESS, ".mkv"))) as container:
        frames = decode_frames(container, container.streams.video[0], fail, cancelled=lambda: next(answers))
        with pytest.raises(Cancelled, match="stopped"):
            list(frames)
    assert not DamageLog._open


def test_closing_early_flushes_the_decoder_and_closes_its_log(film_factory: Callable[..., Path]) -> None:
    path = film_factory(LOSSLESS, ".mkv")
    with open_container(str(path)) as container:
        stream = container.streams.video[0]
        with closing(decode_frames(container, stream, fail)) as frames:
            next(frames)
            assert DamageLog._open
        assert not DamageLog._open
        container.seek(0, stream=stream)
        assert len(list(decode_frames(container, stream, fail))) == 12


def test_first_frame_that_can_be_decoded(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    path = str(undecodable(film_factory(LOSSLESS, ".mkv"), {0, 1}, tmp_path / "late.mkv"))
    with open_container(path) as container:
        frame = decode_first_frame(container, container.streams.video[0], path)
    assert frame.pts == round(Fraction(2, 24) * 1000)


def test_no_frame_can_be_decoded(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    path = str(undecodable(film_factory(LOSSLESS, ".mkv"), range(12), tmp_path / "broken.mkv"))
    message = r"broken\.mkv: no picture of its ffv1 stream can be decoded: Invalid data"
    with open_container(path) as container, pytest.raises(InputError, match=message):
        decode_first_frame(container, container.streams.video[0], path)


def test_duration_tag_of_matroska(film_factory: Callable[..., Path]) -> None:
    durations = []
    for suffix in (".mkv", ".mp4"):
        with open_container(str(film_factory(Film(rate=Fraction(25)), suffix))) as container:
            durations.append(matroska_duration(container.streams.video[0]))
    assert durations == [Fraction(24, 25), None]
