"""Audio, subtitles, attachments, chapters, cover art and metadata: copied packet by packet, at their times."""

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
SUBTITLES = (
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
    subtitles=(*SUBTITLES, SubtitleTrack(codec="ass", title="styled")),
    attachments=(("type.ttf", "font/ttf", bytes(range(256)) * 9),),
)
MP4 = Film(**COMMON, timecode="01:02:03:04", audio=SOUNDS, subtitles=SUBTITLES, second_video=True)  # type: ignore[arg-type]


def describe_streams(path: Path) -> dict[int, tuple[str, str | None, str | None, int]]:
    """Return type, language, title and disposition of each stream by its index, without data streams."""
    with av.open(str(path)) as film:
        return {
            s.index: (s.type, s.language, s.metadata.get("title") or s.metadata.get("name"), int(s.disposition))
            for s in film.streams
            if s.type != "data"
        }


def read_chapters(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """Return start, end and title of each chapter."""
    with av.open(str(path)) as film:
        return [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in film.chapters()
        ]


def copied_streams(source: Path, target: Path) -> dict[int, tuple[Fraction, Fraction]]:
    """Find the streams of the source whose packets the target holds unchanged.

    Returns, by index, the least and the greatest shift of their packets in seconds.
    """
    shifts = {}
    after = packets(target)
    for index, stream in enumerate(packets(source)):
        same = [p for p in after if [x.md5 for x in p] == [x.md5 for x in stream]]
        if stream and same:
            differences = [b.time - a.time for a, b in zip(stream, same[0], strict=True) if a.time is not None]
            shifts[index] = (min(differences, default=Fraction(0)), max(differences, default=Fraction(0)))
    return shifts


@pytest.mark.parametrize(("film", "suffix"), [(MKV, ".mkv"), (MP4, ".mp4")], ids=["mkv", "mp4"])
def test_the_same_container_keeps_everything(film_factory: Factory, tmp_path: Path, film: Film, suffix: str) -> None:
    source, target = film_factory(film, suffix), tmp_path / f"out{suffix}"
    convert_quickly(source, target)
    assert describe_streams(target) == describe_streams(source)
    others = {index for index, (kind, *_) in describe_streams(source).items() if index and kind != "attachment"}
    shifts = copied_streams(source, target)
    assert set(shifts) >= others
    assert {shifts[index] for index in others} == {(0, 0)}
    assert read_chapters(target) == read_chapters(source)
    with av.open(str(source)) as a, av.open(str(target)) as b:
        kept = {k.lower(): v for k, v in b.metadata.items()}
        for key in ("title", "artist", "comment"):
            assert kept[key] == COMMON["metadata"][key]  # type: ignore[index]
        if suffix == ".mp4":
            assert b.streams.video[0].metadata["timecode"] == "01:02:03:04"
        for x, y in zip(a.streams, b.streams, strict=False):
            if x.type == "attachment":
                assert (x.name, x.mimetype, x.data) == (y.name, y.mimetype, y.data)
    cover = next(i for i, (kind, *_, marks) in describe_streams(target).items() if marks & Disposition.attached_pic)
    with av.open(str(target)) as film_out:
        assert next(bytes(p) for p in film_out.demux(film_out.streams[cover]) if p.size) == cover_jpeg()


def test_custom_metadata_keys_are_kept_in_mp4(film_factory: Factory, tmp_path: Path) -> None:
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
def test_opus_and_webvtt_of_webm(film_factory: Factory, tmp_path: Path, suffix: str) -> None:
    film = Film(frames=24, width=64, height=48, audio=(AudioTrack(),), subtitles=(SubtitleTrack(),))
    source, target = film_factory(film, ".webm"), tmp_path / f"out{suffix}"
    summary = convert_quickly(source, target, preset="8" if suffix == ".webm" else "ultrafast")
    assert copied_streams(source, target)[1] == (0, 0)
    assert any("webvtt" in w and "left out" in w for w in summary.warnings) == (suffix == ".mp4")


def test_audio_priming_shifts_all_streams_alike_in_matroska(film_factory: Factory, tmp_path: Path) -> None:
    source, target = film_factory(MP4, ".mp4"), tmp_path / "out.mkv"
    summary = convert_quickly(source, target)
    shift = read_times(target)[0] - read_times(source)[0]
    assert 0 < shift < Fraction(3, 100)
    assert any(f"start +{float(shift):.3f} s later" in warning for warning in summary.warnings)
    shifts = copied_streams(source, target)
    assert len(shifts) >= 4
    for low, high in shifts.values():
        if (low, high) != (0, 0):  # cover art has no time
            assert shift - HALF_MILLISECOND <= low <= high <= shift + HALF_MILLISECOND
    assert read_chapters(target) == [(a + shift, b + shift, title) for a, b, title in read_chapters(source)]
    assert all(p.time >= 0 for stream in packets(target)[1:5] for p in stream)


def test_subtitles_are_converted_between_mp4_and_mkv(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(MKV, ".mkv")
    convert_quickly(source, tmp_path / "a.mp4")
    summary = convert_quickly(tmp_path / "a.mp4", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as film:
        texts = [bytes(p).decode() for s in film.streams.subtitles for p in [q for q in film.demux(s) if q.size]]
        assert [s.codec_context.name for s in film.streams.subtitles] == ["srt", "srt"]
    assert sorted(texts) == sorted(["Grüße aus der Mitte", "forced"]) or texts == ["Grüße aus der Mitte"]
    assert sum("holds subtitles as subrip" in warning for warning in summary.warnings) == 2


def test_warnings_name_what_a_container_cannot_hold(film_factory: Factory, tmp_path: Path) -> None:
    source = film_factory(MKV, ".mkv")
    webm = convert_quickly(source, tmp_path / "out.webm", preset="8")
    for codec in ("aac", "ac3", "mp3", "pcm_s16le", "flac", "alac", "ass", "subrip", "mjpeg", "type.ttf"):
        assert any(codec in w and "left out" in w for w in webm.warnings), codec
    dropped = [s for s in webm.json()["streams"] if s["action"] == "drop"]
    assert len(dropped) == 11
    assert all(s["reason"] for s in dropped)
    assert set(copied_streams(source, tmp_path / "out.webm")) == {4}
    mov = convert_quickly(source, tmp_path / "out.mov")
    assert any("audio 3 mp3 fra" in w and "comment" in w for w in mov.warnings)
    assert any("cover" in w for w in mov.warnings)
    assert describe_streams(tmp_path / "out.mov")[1][1] == "ger"  # QuickTime's name of deu


def test_cover_art_beside_custom_metadata_in_mp4_gives_a_warning(film_factory: Factory, tmp_path: Path) -> None:
    film = Film(frames=4, width=64, height=48, cover=True, metadata={"place": "here"})
    summary = convert_quickly(film_factory(film, ".mkv"), tmp_path / "out.mp4")
    assert any("no place for the metadata PLACE" in warning for warning in summary.warnings)
    assert any(marks & Disposition.attached_pic for *_, marks in describe_streams(tmp_path / "out.mp4").values())


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "alac", "flac"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_lossless_audio_from_matroska(film_factory: Factory, tmp_path: Path, codec: str, suffix: str) -> None:
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


def test_audio_of_a_transport_stream_stays_synchronous(film_factory: Factory, tmp_path: Path) -> None:
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
    shifts = copied_streams(source, target)
    shift = read_times(target)[0] - read_times(source)[0]
    assert copied
    for index in copied:
        assert index in shifts, f"stream {index} has other packets"
        assert max(abs(move - shift) for move in shifts[index]) <= (
            0 if suffix in (".mp4", ".mov") else HALF_MILLISECOND
        )
