"""The remuxer: which packets it writes, when, at which times, and how it counts them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from films import AudioTrack, Film, SubtitleTrack, cover_jpeg, packets
from films.reading import PacketFact
from midframe.video.containers import Container, container_named
from midframe.video.probe import probe
from midframe.video.remuxer import RemuxedStream, Remuxer
from midframe.video.streams import AudioMode, plan_streams
from midframe.video.timeline import Timeline

Factory = Callable[..., Path]
SECOND = Fraction(1)
UNCHANGED = Timeline(Fraction(0), Fraction(0))
MATROSKA, MP4 = container_named("matroska"), container_named("mp4")
LINES = ((SECOND / 4, SECOND / 2, "first"), (SECOND, 3 * SECOND / 2, "second"))
FILM = Film(
    frames=48,
    width=64,
    height=48,
    audio=(AudioTrack(codec="flac", language="deu", title="Sound", disposition=int(Disposition.comment)),),
    subtitles=(SubtitleTrack(LINES),),
)
AUDIO, SUBTITLES = 1, 2


def remuxer_for(source: Path, container: Container, timeline: Timeline, audio: AudioMode = "keep") -> Remuxer:
    film = probe(source)
    return Remuxer(film, plan_streams(film, container, audio), container, timeline)


def remux(
    source: Path, target: Path, timeline: Timeline = UNCHANGED, *, audio: AudioMode = "keep"
) -> dict[int, RemuxedStream]:
    """Write all streams of a film but its picture into a file; returns what the remuxer counted."""
    container = {".mkv": MATROSKA, ".mp4": MP4}[target.suffix]
    remuxer = remuxer_for(source, container, timeline, audio)
    with av.open(str(target), "w", format=container.name) as output:
        remuxer.add_streams(output)
        output.start_encoding()
        remuxer.finish(output)
    remuxer.close()
    return remuxer.remuxed


def shifted(found: list[PacketFact], shift: Fraction) -> list[tuple[str, Fraction | None]]:
    return [(packet.md5, None if packet.time is None else packet.time + shift) for packet in found]


def subtitle_lines(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """The start, end and text of each line of the only subtitle stream."""
    with av.open(str(path)) as film:
        payloads = [
            (p.pts * p.time_base, p.duration * p.time_base, bytes(p)) for p in film.demux(subtitles=0) if p.size
        ]
    is_mp4 = path.suffix == ".mp4"
    lines = [(start, length, payload[2:] if is_mp4 else payload) for start, length, payload in payloads]
    return [(start, start + length, text.decode()) for start, length, text in lines if text]


def test_packets_are_copied_byte_for_byte_at_their_times(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(FILM, ".mkv")
    counted = remux(source, tmp_path / "out.mkv")
    before, after = packets(source), packets(tmp_path / "out.mkv")
    assert after == before[1:]
    for index, stream in zip((AUDIO, SUBTITLES), after, strict=True):
        assert counted[index].packets == len(stream)
        assert counted[index].bytes == sum(packet.size for packet in stream)
        assert (counted[index].first, counted[index].last) == (stream[0].time, stream[-1].time)
    with av.open(str(source)) as film:
        payloads = [bytes(packet) for packet in film.demux(subtitles=0) if packet.size]
    assert counted[SUBTITLES].checksum == zlib.crc32(b"".join(payloads))


def test_streams_keep_their_metadata_and_dispositions(film_factory: Factory, tmp_path: Path) -> None:
    remux(film_factory(FILM, ".mkv"), tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as film:
        audio = film.streams.audio[0]
        assert (audio.language, audio.metadata["title"]) == ("deu", "Sound")
        assert audio.disposition & Disposition.comment


def test_all_streams_are_shifted_by_the_start_of_the_film(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(FILM, ".mkv")
    remux(source, tmp_path / "out.mkv", Timeline(Fraction(0), output_start=SECOND / 8))
    for before, after in zip(packets(source)[1:], packets(tmp_path / "out.mkv"), strict=True):
        assert shifted(after, Fraction(0)) == shifted(before, SECOND / 8)


def test_packets_are_written_up_to_a_time(film_factory: Factory) -> None:
    source = film_factory(FILM, ".mkv")
    remuxer = remuxer_for(source, MATROSKA, UNCHANGED)
    times = [packet.time for packet in packets(source)[AUDIO]]
    with av.open(io.BytesIO(), "w", format="matroska") as output:
        remuxer.add_streams(output)
        output.start_encoding()
        for until in (SECOND / 2, SECOND / 2, SECOND):
            remuxer.advance(output, until)
            assert remuxer.remuxed[AUDIO].packets == sum(time is not None and time <= until for time in times)
        assert remuxer.remuxed[SUBTITLES].packets == 2
        remuxer.finish(output)
    assert remuxer.remuxed[AUDIO].packets == len(times)
    remuxer.close()


def test_only_packets_wholly_inside_a_trimmed_film_are_copied(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(FILM, ".mkv")
    start, end = Fraction(3, 10), Fraction(6, 5)
    timeline = Timeline(source_start=start, output_start=Fraction(0), start_trimmed=True, end=end)
    remux(source, tmp_path / "out.mkv", timeline)
    audio = packets(tmp_path / "out.mkv")[0]
    inside = [
        packet
        for packet in packets(source)[AUDIO]
        if packet.time is not None and start <= packet.time and packet.time + (packet.duration or 0) <= end
    ]
    assert inside
    assert shifted(audio, start) == shifted(inside, Fraction(0))


def test_subtitles_are_clipped_to_a_trimmed_film(film_factory: Factory, tmp_path: Path) -> None:
    timeline = Timeline(source_start=Fraction(3, 10), output_start=Fraction(0), start_trimmed=True, end=Fraction(6, 5))
    remux(film_factory(FILM, ".mkv"), tmp_path / "out.mkv", timeline)
    wanted = [(0, Fraction(1, 5), "first"), (Fraction(7, 10), Fraction(9, 10), "second")]
    assert subtitle_lines(tmp_path / "out.mkv") == wanted


def test_lines_clipped_to_one_start_get_different_times(film_factory: Factory, tmp_path: Path) -> None:
    lines = tuple((SECOND / 4 + k * SECOND / 100, 3 * SECOND / 2, str(k)) for k in range(3))
    source = film_factory(Film(frames=48, width=64, height=48, subtitles=(SubtitleTrack(lines),)), ".mkv")
    remux(source, tmp_path / "out.mkv", Timeline(source_start=SECOND / 2, output_start=Fraction(0), start_trimmed=True))
    found = subtitle_lines(tmp_path / "out.mkv")
    assert [(start, text) for start, _, text in found] == [(Fraction(k, 1000), str(k)) for k in range(3)]


def test_slow_motion_stretches_times_and_durations(film_factory: Factory, tmp_path: Path) -> None:
    timeline = Timeline(Fraction(0), Fraction(0), slowdown=3)
    counted = remux(film_factory(FILM, ".mkv"), tmp_path / "out.mkv", timeline, audio="drop")
    assert set(counted) == {SUBTITLES}
    wanted = [(3 * start, 3 * end, text) for start, end, text in LINES]
    assert subtitle_lines(tmp_path / "out.mkv") == wanted


def test_slow_motion_stretches_audio(film_factory: Factory, tmp_path: Path) -> None:
    timeline = Timeline(Fraction(0), Fraction(0), slowdown=3)
    counted = remux(film_factory(FILM, ".mkv"), tmp_path / "out.mkv", timeline, audio="stretch")
    with av.open(str(tmp_path / "out.mkv")) as film:
        samples = sum(frame.samples for frame in film.decode(audio=0))
    assert abs(Fraction(samples, 48000) - 6) < Fraction(1, 10)
    assert counted[AUDIO].packets == len(packets(tmp_path / "out.mkv")[0])


@pytest.mark.parametrize(("suffix", "target"), [(".mkv", "out.mp4"), (".mp4", "out.mkv")])
def test_text_subtitles_are_converted(film_factory: Factory, tmp_path: Path, suffix: str, target: str) -> None:
    lines = ((SECOND / 4, SECOND / 2, "Grüße"), (SECOND / 2, SECOND, "next to it"), (2 * SECOND, 3 * SECOND, "later"))
    source = film_factory(Film(frames=6, width=64, height=48, subtitles=(SubtitleTrack(lines),)), suffix)
    remux(source, tmp_path / target)
    assert subtitle_lines(tmp_path / target) == list(lines)


def test_empty_lines_of_mp4_are_not_copied(film_factory: Factory, tmp_path: Path) -> None:
    """The muxer fills the time between two lines with empty ones; copied, they would be there twice."""
    source = film_factory(FILM, ".mp4")
    counted = remux(source, tmp_path / "out.mp4")
    assert counted[SUBTITLES].packets == len(LINES)
    assert packets(tmp_path / "out.mp4")[1] == packets(source)[SUBTITLES]


def test_attachments_and_cover_art_become_attachments(film_factory: Factory, tmp_path: Path) -> None:
    film = replace(FILM, cover=True, attachments=(("type.ttf", "font/ttf", b"contents"),))
    counted = remux(film_factory(film, ".mkv"), tmp_path / "out.mkv")
    assert set(counted) == {AUDIO, SUBTITLES}
    with av.open(str(tmp_path / "out.mkv")) as out:
        attached = {s.name: s.mimetype for s in out.streams if s.type == "attachment"}
        (cover,) = out.streams.video
        assert bytes(next(packet for packet in out.demux(cover) if packet.size)) == cover_jpeg()
    assert attached == {"type.ttf": "font/ttf"}
    assert cover.metadata["mimetype"] == "image/jpeg"


def test_cover_art_is_copied_without_a_time_into_mp4(film_factory: Factory, tmp_path: Path) -> None:
    film = Film(frames=24, width=64, height=48, cover=True, audio=(AudioTrack(codec="aac"),))
    remux(film_factory(film, ".mp4"), tmp_path / "out.mp4", Timeline(Fraction(0), output_start=SECOND))
    with av.open(str(tmp_path / "out.mp4")) as out:
        (cover,) = out.streams.video
        assert cover.disposition & Disposition.attached_pic
        assert bytes(next(packet for packet in out.demux(cover) if packet.size)) == cover_jpeg()


def test_last_audio_packet_has_a_duration(film_factory: Factory, tmp_path: Path) -> None:
    """Without one the edit list of an mp4 would cut it off."""
    film = Film(frames=24, width=64, height=48, audio=(AudioTrack(codec="aac"),))
    remux(film_factory(film, ".ts"), tmp_path / "out.mp4")
    assert all(packet.duration for packet in packets(tmp_path / "out.mp4")[0])


def test_time_bases_are_those_of_the_source(film_factory: Factory) -> None:
    film = Film(frames=24, width=64, height=48, audio=(AudioTrack(codec="aac", rate=44100), AudioTrack(codec="aac")))
    remuxer = remuxer_for(film_factory(film, ".mp4"), MP4, UNCHANGED)
    assert remuxer.time_bases() == [Fraction(1, 44100), Fraction(1, 48000)]
    remuxer.close()


def test_film_with_nothing_but_its_picture_is_not_opened(film_factory: Factory) -> None:
    source = film_factory(Film(frames=6, width=64, height=48), ".mp4")
    remuxer = remuxer_for(source, MP4, UNCHANGED)
    with av.open(io.BytesIO(), "w", format="matroska") as output:
        remuxer.add_streams(output)
        remuxer.finish(output)
        assert len(output.streams) == 0
    assert remuxer.time_bases() == []
    assert remuxer.remuxed == {}
    remuxer.close()
