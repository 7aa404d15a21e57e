"""`probe` describes a film before it is decoded: streams, colour, times and damage."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from films import AudioTrack, Chapter, Film, Hdr, SubtitleTrack, captioned, dropped, dynamic_hdr, read_times, truncated
from films.broken import remuxed
from midframe.errors import Cancelled, InputError
from midframe.video.probe import probe
from midframe.video.reader import ReadReport, read_frames


def test_streams_size_and_colour_of_a_film(film_factory: Callable[..., Path]) -> None:
    film = probe(
        film_factory(
            Film(
                audio=(AudioTrack(language="deu"),),
                subtitles=(SubtitleTrack(),),
                chapters=(Chapter(Fraction(0), Fraction(1, 2), "One"),),
                cover=True,
                rotation=90,
                sample_aspect_ratio=Fraction(16, 11),
                matrix="bt709",
            )
        )
    )
    assert (film.width, film.height, film.pixel_format, film.codec) == (160, 96, "yuv420p", "h264")
    assert film.sample_aspect_ratio == Fraction(16, 11)
    assert film.rotation == 90
    assert film.colour.matrix == "bt709"
    assert len(film.chapters) == 1
    kinds = [(stream.kind, stream.is_cover_art) for stream in film.streams]
    assert ("audio", False) in kinds
    assert ("video", True) in kinds
    assert next(stream for stream in film.streams if stream.kind == "audio").language == "deu"
    assert not film.problems
    assert not film.ends_early


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts", ".avi", ".webm", ".mpg"])
def test_ticks_are_the_times_of_the_decoded_frames(suffix: str, film_factory: Callable[..., Path]) -> None:
    path = film_factory(Film(rate=Fraction(25)), suffix)
    film = probe(path)
    assert film.ticks is not None
    assert len(film.ticks) == 24
    assert film.last_duration == Fraction(1, 25)
    assert not film.problems
    if film.has_timestamps:
        assert [tick * film.time_base for tick in film.ticks] == read_times(path)
    else:
        assert [tick * film.time_base for tick in film.ticks] == [Fraction(k, 25) for k in range(24)]


def test_a_raw_stream_has_no_timestamps(film_factory: Callable[..., Path]) -> None:
    film = probe(film_factory(Film(rate=Fraction(30)), ".h264"))
    assert not film.has_timestamps
    assert film.ticks is not None
    assert [tick * film.time_base for tick in film.ticks] == [k / film.rate for k in range(24)]


def test_frames_hidden_by_an_edit_list_are_left_out(film_factory: Callable[..., Path]) -> None:
    path = film_factory(Film(start=Fraction(-1, 6)))
    film = probe(path)
    assert film.ticks is not None
    assert [tick * film.time_base for tick in film.ticks] == read_times(path)
    assert len(film.ticks) == 20
    assert not film.problems


def test_frames_of_vp8_that_are_not_shown_are_left_out(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """Such a frame serves others as a reference only. It is not counted as lost either."""

    def hide(number: int, packet: av.Packet) -> av.Packet:
        if number != 5:
            return packet
        payload = bytes(packet)
        hidden = av.Packet(bytes([payload[0] & ~0x10]) + payload[1:])  # the bit show_frame of RFC 6386, 9.1
        hidden.time_base, hidden.pts, hidden.dts = packet.time_base, packet.pts, packet.dts
        return hidden

    path = remuxed(film_factory(Film(codec="libvpx"), ".webm"), tmp_path / "hidden.webm", hide)
    film = probe(path)
    assert film.ticks is not None
    assert len(film.ticks) == 23
    assert [tick * film.time_base for tick in film.ticks] == read_times(path)
    report = ReadReport()
    assert len(list(read_frames(film, report))) == 23
    assert report == ReadReport(frames=23)


def test_frames_before_the_first_key_frame_are_left_out(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """So the number of planned frames is the number that can be decoded."""
    path = dropped(film_factory(Film(frames=24, gop=8, codec="mpeg2video"), ".ts"), {0}, tmp_path / "late.ts")
    film = probe(path)
    times = read_times(path)
    assert film.ticks is not None
    assert film.undecodable_start > 0
    assert [tick * film.time_base for tick in film.ticks] == times


def test_side_data_that_a_new_encoding_loses(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    captions = captioned(film_factory(), tmp_path / "cc.mp4")
    assert "closed captions" in probe(captions).lost_side_data
    deep = Film(pixel_format="yuv420p10le", codec="libx265", transfer="pq", matrix="bt2020", hdr=Hdr())
    assert "HDR10+ metadata" in probe(dynamic_hdr(film_factory(deep), tmp_path / "d.mp4")).lost_side_data
    film = probe(film_factory(deep))
    assert film.hdr.content_light_level == (1000, 400)
    assert film.hdr.mastering_display is not None
    assert film.lost_side_data == ()


def test_a_missing_end_is_recognised(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    for suffix in (".mkv", ".avi", ".y4m"):
        whole = film_factory(Film(audio=(AudioTrack(),) if suffix != ".y4m" else ()), suffix)
        assert not probe(whole).ends_early
        cut = probe(truncated(whole, 0.7, tmp_path / f"cut{suffix}"))
        assert cut.ends_early, suffix
        assert cut.problems


def test_probing_stops_when_cancelled(film_factory: Callable[..., Path]) -> None:
    with pytest.raises(Cancelled, match="stopped"):
        probe(film_factory(), lambda: True)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    for name, contents in (("a.mp4", b"\x00" * 5000), ("b.mkv", bytes(range(256)) * 20), ("c.wav", b"RIFF")):
        path = tmp_path / name
        path.write_bytes(contents)
        with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
            probe(path)
        assert "\n" not in str(caught.value)
