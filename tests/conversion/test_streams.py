"""Everything in a film that is not its picture arrives: packets byte for byte, at their times, with their marks."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from converted import HALF_MILLISECOND, convert_quickly
from films import AudioTrack, Chapter, Film, SubtitleTrack, cover_jpeg, packets, read_times

Factory = Callable[..., Path]
COMMON = {
    "frames": 24,
    "width": 64,
    "height": 48,
    "rate": Fraction(24000, 1001),
    "chapters": (Chapter(Fraction(0), Fraction(1, 2), "Eins – ä"), Chapter(Fraction(1, 2), Fraction(1), "Zwei")),
    "cover": True,
    "metadata": {"title": "Film ü", "artist": "someone", "comment": "a word"},
    "video_metadata": {"language": "deu", "title": "picture"},
}
TEXTS = (
    SubtitleTrack(language="deu", title="all"),
    SubtitleTrack(((Fraction(1, 4), Fraction(1, 2), "forced"),), language="eng", disposition=int(Disposition.forced)),
)
SOUNDS = (
    AudioTrack(language="deu", title="Stereo"),
    AudioTrack(codec="ac3", channels=6, language="eng"),
    AudioTrack(codec="libmp3lame", language="fra", disposition=int(Disposition.comment)),
    AudioTrack(codec="libopus"),
)
MKV = Film(
    **COMMON,  # type: ignore[arg-type]
    audio=(*SOUNDS, AudioTrack(codec="pcm_s16le"), AudioTrack(codec="flac"), AudioTrack(codec="alac")),
    subtitles=(*TEXTS, SubtitleTrack(codec="ass", title="styled")),
    attachments=(("type.ttf", "font/ttf", bytes(range(256)) * 9),),
)
MP4 = Film(**COMMON, timecode="01:02:03:04", audio=SOUNDS, subtitles=TEXTS, second_video=True)  # type: ignore[arg-type]


def facts(path: Path) -> dict[int, tuple[str, str | None, str | None, int]]:
    """Of each stream but data: kind, language, title, and how it is marked."""
    with av.open(str(path)) as film:
        return {
            s.index: (s.type, s.language, s.metadata.get("title") or s.metadata.get("name"), int(s.disposition))
            for s in film.streams
            if s.type != "data"
        }


def chapters(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    with av.open(str(path)) as film:
        return [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in film.chapters()
        ]


def carried(source: Path, target: Path) -> dict[int, tuple[Fraction, Fraction]]:
    """Of each stream with the same packets in both: by how much its packets moved, at the least and at the most."""
    found = {}
    after = packets(target)
    for index, stream in enumerate(packets(source)):
        same = [p for p in after if [x.md5 for x in p] == [x.md5 for x in stream]]
        if stream and same:
            moves = [b.time - a.time for a, b in zip(stream, same[0], strict=True) if a.time is not None]
            found[index] = (min(moves, default=Fraction(0)), max(moves, default=Fraction(0)))
    return found


@pytest.mark.parametrize(("film", "suffix"), [(MKV, ".mkv"), (MP4, ".mp4")], ids=["mkv", "mp4"])
def test_the_same_container_keeps_everything(film_factory: Factory, tmp_path: Path, film: Film, suffix: str) -> None:
    source, target = film_factory(film, suffix), tmp_path / f"out{suffix}"
    convert_quickly(source, target)
    assert facts(target) == facts(source)
    others = {index for index, (kind, *_) in facts(source).items() if index and kind != "attachment"}
    moves = carried(source, target)
    assert set(moves) >= others
    assert {moves[index] for index in others} == {(0, 0)}
    assert chapters(target) == chapters(source)
    with av.open(str(source)) as a, av.open(str(target)) as b:
        kept = {k.lower(): v for k, v in b.metadata.items()}
        for key in ("title", "artist", "comment"):
            assert kept[key] == COMMON["metadata"][key]  # type: ignore[index]
        if suffix == ".mp4":
            assert b.streams.video[0].metadata["timecode"] == "01:02:03:04"
        for x, y in zip(a.streams, b.streams, strict=False):
            if x.type == "attachment":
                assert (x.name, x.mimetype, x.data) == (y.name, y.mimetype, y.data)
    cover = next(i for i, (kind, *_, marks) in facts(target).items() if marks & Disposition.attached_pic)
    with av.open(str(target)) as film_out:
        assert next(bytes(p) for p in film_out.demux(film_out.streams[cover]) if p.size) == cover_jpeg()


def test_free_metadata_keys_survive_in_mp4(film_factory: Factory, tmp_path: Path) -> None:
    film = Film(
        frames=4,
        width=64,
        height=48,
        metadata={"com.example.place": "here", "title": "T"},
        container_options={"movflags": "use_metadata_tags"},
    )
    convert_quickly(film_factory(film, ".mp4"), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.metadata["com.example.place"] == "here"
        assert out.metadata["title"] == "T"


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_opus_and_text_of_webm(film_factory: Factory, tmp_path: Path, suffix: str) -> None:
    film = Film(frames=24, width=64, height=48, audio=(AudioTrack(),), subtitles=(SubtitleTrack(),))
    source, target = film_factory(film, ".webm"), tmp_path / f"out{suffix}"
    summary = convert_quickly(source, target, preset="8" if suffix == ".webm" else "ultrafast")
    assert carried(source, target)[1] == (0, 0)
    assert any("webvtt" in w and "left out" in w for w in summary.warnings) == (suffix == ".mp4")


def test_priming_moves_everything_alike_in_matroska(film_factory: Factory, tmp_path: Path) -> None:
    source, target = film_factory(MP4, ".mp4"), tmp_path / "out.mkv"
    summary = convert_quickly(source, target)
    shift = read_times(target)[0] - read_times(source)[0]
    assert 0 < shift < Fraction(3, 100)
    assert any(f"start +{float(shift):.3f} s later" in warning for warning in summary.warnings)
    moves = carried(source, target)
    assert len(moves) >= 4
    for low, high in moves.values():
        if (low, high) != (0, 0):  # cover art has no time
            assert shift - HALF_MILLISECOND <= low <= high <= shift + HALF_MILLISECOND
    assert chapters(target) == [(a + shift, b + shift, title) for a, b, title in chapters(source)]
    assert all(p.time >= 0 for stream in packets(target)[1:5] for p in stream)


def test_text_is_converted_between_mp4_and_mkv_and_back(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(MKV, ".mkv")
    convert_quickly(source, tmp_path / "a.mp4")
    summary = convert_quickly(tmp_path / "a.mp4", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as film:
        texts = [bytes(p).decode() for s in film.streams.subtitles for p in [q for q in film.demux(s) if q.size]]
        assert [s.codec_context.name for s in film.streams.subtitles] == ["srt", "srt"]
    assert sorted(texts) == sorted(["Grüße aus der Mitte", "forced"]) or texts == ["Grüße aus der Mitte"]
    assert sum("holds subtitles as subrip" in warning for warning in summary.warnings) == 2


def test_what_a_container_cannot_hold_is_named(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(MKV, ".mkv")
    webm = convert_quickly(source, tmp_path / "out.webm", preset="8")
    for codec in ("aac", "ac3", "mp3", "pcm_s16le", "flac", "alac", "ass", "subrip", "mjpeg", "type.ttf"):
        assert any(codec in w and "left out" in w for w in webm.warnings), codec
    dropped = [s for s in webm.json()["streams"] if s["action"] == "drop"]
    assert len(dropped) == 11
    assert all(s["reason"] for s in dropped)
    assert set(carried(source, tmp_path / "out.webm")) == {4}
    mov = convert_quickly(source, tmp_path / "out.mov")
    assert any("audio 3 mp3 fra" in w and "comment" in w for w in mov.warnings)
    assert any("cover" in w for w in mov.warnings)
    assert facts(tmp_path / "out.mov")[1][1] == "ger"  # QuickTime's name of deu


def test_cover_art_beside_free_metadata_in_mp4_is_said(film_factory: Factory, tmp_path: Path) -> None:
    film = Film(frames=4, width=64, height=48, cover=True, metadata={"place": "here"})
    summary = convert_quickly(film_factory(film, ".mkv"), tmp_path / "out.mp4")
    assert any("no place for the metadata PLACE" in warning for warning in summary.warnings)
    assert any(marks & Disposition.attached_pic for *_, marks in facts(tmp_path / "out.mp4").values())


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "alac", "flac"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_lossless_sound_from_matroska(film_factory: Factory, tmp_path: Path, codec: str, suffix: str) -> None:
    film = Film(frames=12, width=64, height=48, audio=(AudioTrack(codec=codec),))
    source, target = film_factory(film, ".mkv"), tmp_path / f"out{suffix}"
    summary = convert_quickly(source, target)
    if (codec, suffix) == ("flac", ".mov"):
        assert any("mov cannot hold flac" in warning for warning in summary.warnings)
        return
    samples = []
    for path in (source, target):
        with av.open(str(path)) as container:
            samples.append(b"".join(f.to_ndarray().tobytes() for f in container.decode(audio=0)))
    assert samples[0] == samples[1]


def test_sound_of_a_transport_stream_stays_in_step(film_factory: Factory, tmp_path: Path) -> None:
    film = Film(frames=24, width=64, height=48, audio=(AudioTrack(),))
    source = film_factory(film, ".ts")
    for suffix in (".mp4", ".mkv"):
        target = tmp_path / f"out{suffix}"
        convert_quickly(source, target)
        before, after = packets(source), packets(target)
        shift = read_times(target)[0] - read_times(source)[0]
        assert len(before[1]) == len(after[1])
        for a, b in ((before[1][0], after[1][0]), (before[1][-1], after[1][-1])):
            assert abs(b.time - a.time - shift) <= 2 * HALF_MILLISECOND
        with av.open(str(target)) as container:
            assert sum(f.samples for f in container.decode(audio=0)) >= 48000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("nasa-two-programs-subs.mp4", ".mp4"),
        ("nasa-two-programs-subs.mp4", ".mkv"),
        ("nasa-subs.mkv", ".mkv"),
        ("coast-aerial.mp4", ".mp4"),
        ("dog-play.mp4", ".mov"),
        ("elephants-dream-webvtt.webm", ".webm"),
        ("plane-landing-short-audio.mp4", ".mp4"),
        ("phone-hlg-10bit-rotated.mp4", ".mp4"),
    ],
)
def test_real_films_keep_their_packets(shared_data: Path, tmp_path: Path, name: str, suffix: str) -> None:
    source, target = shared_data / "films" / name, tmp_path / f"out{suffix}"
    options = {"preset": "8"} if suffix == ".webm" else {"encoder": "libx264", "preset": "ultrafast"}
    summary = convert_quickly(source, target, **options)
    copied = [s["index"] for s in summary.json()["streams"] if s["action"] == "copy"]
    moves = carried(source, target)
    shift = read_times(target)[0] - read_times(source)[0]
    assert copied
    for index in copied:
        assert index in moves, f"stream {index} has other packets"
        assert max(abs(move - shift) for move in moves[index]) <= (
            0 if suffix in (".mp4", ".mov") else HALF_MILLISECOND
        )
