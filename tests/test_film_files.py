"""`films`: the streams of drawn films, image sequences, and films that are broken on purpose."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

import films
from films import AudioTrack, Chapter, Film, SubtitleTrack, draw, picture

F = Fraction
SMALL = Film(frames=6, width=96, height=64)
FFV1 = replace(SMALL, codec="ffv1")
IRREGULAR = tuple(F(k * k + 3 * k, 100) for k in range(6))


RICH = replace(
    SMALL,
    frames=24,
    audio=(AudioTrack(language="fre", title="Musique"), AudioTrack(codec="ac3", kind="clicks", language="ger")),
    subtitles=(SubtitleTrack(language="eng"),),
    chapters=(Chapter(F(0), F(1, 2), "Eins ä"), Chapter(F(1, 2), F(1), "Zwei")),
    cover=True,
    metadata={"title": "A drawn film"},
    rotation=90,
    sample_aspect_ratio=F(16, 11),
    timecode="01:00:00:00",
)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_all_kinds_of_streams_and_metadata(tmp_path, suffix):
    font = b"not really a font" * 9
    film = RICH if suffix == ".mp4" else replace(RICH, attachments=(("sans.ttf", "font/ttf", font),))
    path = draw(film, tmp_path / f"film{suffix}")
    facts = films.packets(path)
    with av.open(str(path)) as container:
        kinds = [stream.type for stream in container.streams]
        assert [kinds.count(kind) for kind in ("video", "audio", "subtitle")] == [2, 2, 1]
        assert container.metadata["title"] == "A drawn film"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["Eins ä", "Zwei"]
        first, second = container.streams.audio
        assert (first.codec_context.name, second.codec_context.name) == ("aac", "ac3")
        assert (first.metadata["language"], second.metadata["language"]) == ("fre", "ger")
        cover = next(s for s in container.streams.video if s.disposition & Disposition.attached_pic)
        jpeg = hashlib.md5(films.cover_jpeg(), usedforsecurity=False).hexdigest()
        assert [packet.md5 for packet in facts[cover.index]] == [jpeg]
        words = next(s for s in container.streams if s.type == "subtitle")
        assert (F(1, 10), F(2, 5)) in [(p.time, p.duration) for p in facts[words.index]]
        assert container.streams.video[0].sample_aspect_ratio == F(16, 11)
        assert next(container.decode(video=0)).rotation == 90
        starts = [facts[stream.index][0].time for stream in (first, second)]
        assert all(-0.06 < start <= 0 for start in starts), "priming before zero, as encoders do"
        for stream in (first, second):
            assert facts[stream.index][-1].time == pytest.approx(1.0, abs=0.06)
        if suffix == ".mkv":
            fonts = [s for s in container.streams.attachments if s.name == "sans.ttf"]
            assert [bytes(s.data) for s in fonts] == [font]
            assert container.metadata["TIMECODE"] == "01:00:00:00"
        else:
            assert container.streams.video[0].metadata["timecode"] == "01:00:00:00"
            assert "data" in kinds


def test_audio_may_start_late(tmp_path):
    film = replace(SMALL, audio=(AudioTrack(codec="pcm_s16le", start=F(1, 10)),))
    facts = films.packets(draw(film, tmp_path / "film.mkv"))
    assert facts[1][0].time == F(1, 10)


def test_packets_are_interleaved(tmp_path):
    path = draw(replace(SMALL, frames=96, audio=(AudioTrack(),)), tmp_path / "film.mkv")
    with av.open(str(path)) as container:
        order = [packet.stream.type for packet in container.demux() if packet.size]
    longest = max(len(list(run)) for _, run in itertools.groupby(order))
    assert longest < 40


def test_second_video_and_ass_subtitles(tmp_path):
    film = replace(SMALL, second_video=True, subtitles=(SubtitleTrack(codec="ass"),))
    path = draw(film, tmp_path / "film.mkv")
    with av.open(str(path)) as container:
        first, second = container.streams.video
        assert first.disposition & Disposition.default
        assert not second.disposition & Disposition.default
        assert container.streams.subtitles[0].codec_context.name in ("ass", "ssa")
    assert [len(stream) for stream in films.packets(path)] == [6, 3, 1]
    assert len(films.read_times(path)) == 6


def test_gop_and_b_frames(tmp_path):
    decoded = films.read_frames(draw(replace(SMALL, frames=12, gop=4), tmp_path / "film.mp4"))
    assert [k for k, frame in enumerate(decoded) if frame.key_frame] == [0, 4, 8]
    path = draw(replace(SMALL, frames=12, b_frames=2), tmp_path / "film2.mp4")
    in_order = [packet.time for packet in films.packets(path)[0]]
    assert in_order != sorted(in_order), "B-frames are stored after the frame they refer to"


def test_the_same_film_is_drawn_as_the_same_packets(tmp_path):
    film = replace(SMALL, audio=(AudioTrack(),))
    assert films.packets(draw(film, tmp_path / "a.mp4")) == films.packets(draw(film, tmp_path / "b.mp4"))


def test_image_sequences(tmp_path):
    folder = films.draw_pictures(replace(SMALL, frames=11), tmp_path / "eight")
    assert len(list(folder.iterdir())) == 11
    rgb = np.asarray(Image.open(folder / "frame10.png")) / 255
    assert np.abs(rgb - picture(SMALL, F(10, 24))).max() <= 0.5 / 255 + 1e-9
    deep = films.draw_pictures(replace(SMALL, frames=1, pixel_format="gbrp12le"), tmp_path / "sixteen")
    with av.open(str(deep / "frame0.png")) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "rgb48be"
    stored = frame.to_ndarray(format="rgb48le").astype(float) / 65535
    assert np.abs(stored - picture(SMALL, F(0))).max() <= 0.5 / 65535 + 1e-9


@pytest.fixture(scope="module")
def intact_films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("intact")
    film = replace(SMALL, frames=24, audio=(AudioTrack(),), container_options={"movflags": "+faststart"})
    plain = replace(film, container_options={})
    return {"mp4": draw(film, folder / "film.mp4"), "mkv": draw(plain, folder / "film.mkv")}


def test_truncated_mp4_opens_and_fails_in_the_middle(intact_films, tmp_path):
    path = films.truncated(intact_films["mp4"], 0.6, tmp_path / "film.mp4")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 24
        assert sum(packet.size > 0 for packet in container.demux(video=0)) < 24
    with pytest.raises(av.error.InvalidDataError, match="Invalid data"):
        films.read_times(path)


def test_truncated_mkv_ends_early_without_an_error(intact_films, tmp_path):
    path = films.truncated(intact_films["mkv"], 0.6, tmp_path / "film.mkv")
    assert 0 < len(films.read_times(path)) < 24


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_flipped_bits_change_packets(intact_films, tmp_path, suffix):
    path = films.bit_flips(intact_films[suffix], 30, seed=3, to=tmp_path / f"film.{suffix}", first=0.3)
    before, after = (np.frombuffer(p.read_bytes(), np.uint8) for p in (intact_films[suffix], path))
    assert np.unpackbits(before ^ after).sum() == 30
    assert not (before ^ after)[: int(len(before) * 0.3)].any()
    again = films.bit_flips(intact_films[suffix], 30, seed=3, to=tmp_path / f"again.{suffix}", first=0.3)
    assert path.read_bytes() == again.read_bytes()


def test_films_that_do_not_open(intact_films, tmp_path):
    bad = [films.moov_missing(intact_films["mp4"], tmp_path / "moov.mp4"), films.empty(tmp_path / "empty.mp4")]
    assert b"moov" not in bad[0].read_bytes()
    for path in [*bad, films.text(tmp_path / "text.mp4")]:
        with pytest.raises(av.error.InvalidDataError, match="Invalid data"):
            av.open(str(path))


def test_a_text_file_named_txt_opens_as_a_film(tmp_path):
    with av.open(str(films.text(tmp_path / "letter.txt"))) as container:
        assert container.format.name == "tty"


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("with_cover", [False, True])
def test_audio_only(tmp_path, suffix, with_cover):
    path = films.audio_only(tmp_path / f"song.{suffix}", with_cover)
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1
        assert len(container.streams.video) == with_cover
    with pytest.raises(ValueError, match="no film"):
        films.read_times(path)


@pytest.mark.parametrize("suffix", ["ts", "h264"])
def test_a_film_whose_size_changes_half_way(tmp_path, suffix):
    path = films.size_change(SMALL, tmp_path / f"film.{suffix}", 64, 48)
    sizes = [(frame.width, frame.height) for frame in films.read_frames(path)]
    assert sizes == [(96, 64)] * 6 + [(64, 48)] * 6
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_corrupted_packets(intact_films, tmp_path, suffix):
    path = films.undecodable(intact_films[suffix], (13, 14), tmp_path / f"film.{suffix}")
    before, after = (films.packets(p) for p in (intact_films[suffix], path))
    changed = [k for k, (a, b) in enumerate(zip(before[0], after[0], strict=True)) if a.md5 != b.md5]
    assert changed == [13, 14]
    assert [p.md5 for p in before[1]] == [p.md5 for p in after[1]]
    with pytest.raises(av.error.InvalidDataError, match="Invalid data"):
        films.read_times(path)


def test_missing_packets(intact_films, tmp_path):
    path = films.dropped(intact_films["mkv"], (13, 14), tmp_path / "film.mkv")
    assert len(films.packets(path)[0]) == 22


def test_equal_and_falling_times(tmp_path):
    path = films.falling_times(draw(FFV1, tmp_path / "intact.mkv"), tmp_path / "film.mkv", equal=(2,), falling=(5,))
    times = films.read_times(path)
    assert times[2] == times[1]
    assert times[5] < times[4]
    assert len(times) == 6


def test_closed_captions_and_dynamic_hdr(tmp_path):
    plain = draw(SMALL, tmp_path / "plain.mp4")
    assert "A53_CC" not in films.side_data(plain)
    assert "A53_CC" in films.side_data(films.captioned(plain, tmp_path / "captions.mp4"))
    film = replace(SMALL, codec="libx265", pixel_format="yuv420p10le", matrix="bt2020", transfer="pq")
    side_data = films.side_data(films.dynamic_hdr(draw(film, tmp_path / "hdr.mp4"), tmp_path / "plus.mp4"))
    assert "DYNAMIC_HDR_PLUS" in side_data
