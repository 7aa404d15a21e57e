"""The drawn films are what they claim to be; everything else is judged by them."""

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
from films import AudioTrack, Chapter, Film, Hdr, SubtitleTrack, draw, picture, planes

F = Fraction
SMALL = Film(frames=6, width=96, height=64)
FFV1 = replace(SMALL, codec="ffv1")
IRREGULAR = tuple(F(k * k + 3 * k, 100) for k in range(6))


# --- the picture as a function of time --------------------------------------------------------------------------------


def test_texture_moves_by_its_speed_between_frames_too():
    film = replace(SMALL, scene="texture", speed=(4.0, 2.0))
    now, half = picture(film, F(0)), picture(film, F(1, 48))
    np.testing.assert_allclose(half[1:, 2:], now[:-1, :-2], atol=1e-12)  # half an interval: 2 right, 1 down
    assert np.abs(half - now).mean() > 0.01


def test_motion_follows_time_not_frame_number():
    film = replace(SMALL, scene="texture", times=IRREGULAR)
    plain = replace(SMALL, scene="texture", frames=1)
    for time in (F(1, 30), IRREGULAR[3]):
        assert np.array_equal(picture(film, time), picture(plain, time))


def test_start_does_not_change_the_motion():
    late = replace(SMALL, start=F(5, 7))
    assert np.array_equal(picture(late, F(5, 7) + F(1, 24)), picture(SMALL, F(1, 24)))


def test_shapes_hide_and_uncover():
    film = Film(scene="shapes")
    first, last = picture(film, F(0)), picture(film, F(23, 24))
    assert first.std() > 0.1
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.abs(first - last).mean() > 0.05
    smooth = np.abs(np.diff(first, axis=1)).max()
    assert smooth < 0.6, "edges are soft, so that sub-pixel motion is well defined"


def test_a_cut_changes_the_shot_at_its_frame_and_not_before():
    plain = replace(SMALL, speed=(1.0, 0.5))
    film = replace(plain, cuts=(3,))
    assert np.array_equal(picture(film, F(5, 48)), picture(plain, F(5, 48)))
    step = np.abs(picture(film, F(3, 24)) - picture(film, F(2, 24))).mean()
    usual = np.abs(picture(film, F(2, 24)) - picture(film, F(1, 24))).mean()
    assert step > 3 * usual


def test_caption_is_still_over_motion():
    film = Film(caption=True)
    frames = np.stack([picture(film, time) for time in film.frame_times])
    still = frames.std(axis=0).max(axis=-1) < 1e-9
    assert 0.01 < still.mean() < 0.2
    assert (frames[0][still] > 0.99).any()


def test_half_of_the_picture_stands():
    film = replace(SMALL, scene="half")
    first, last = picture(film, F(0)), picture(film, F(5, 24))
    assert np.array_equal(first[:, :48], last[:, :48])
    assert np.abs(first[:, 48:] - last[:, 48:]).mean() > 0.02


@pytest.mark.parametrize("scene", ["still", "bars"])
def test_still_scenes_stand(scene):
    film = replace(SMALL, scene=scene)
    assert np.array_equal(picture(film, F(0)), picture(film, F(5, 24)))


def test_edge_lies_where_it_should():
    film = replace(SMALL, scene="edge", speed=(1.5, 0.0))
    red = (picture(film, F(1, 24))[0, :, 0] - 0.1) / 0.7
    assert red.sum() == pytest.approx(96 / 4 + 1.5)
    assert ((red > 1e-9) & (red < 1 - 1e-9)).sum() == 1


def test_unknown_scene_is_refused():
    with pytest.raises(ValueError, match="no scene 'comedy'"):
        picture(replace(SMALL, scene="comedy"), F(0))


# --- colour -----------------------------------------------------------------------------------------------------------

# 75 % bars as the standards print them: ITU-R BT.801 for BT.601, SMPTE RP 219 for BT.709 (Y Cb Cr, limited range).
BARS_601 = [
    (180, 128, 128),
    (162, 44, 142),
    (131, 156, 44),
    (112, 72, 58),
    (84, 184, 198),
    (65, 100, 212),
    (35, 212, 114),
]
BARS_709 = [
    (180, 128, 128),
    (168, 44, 136),
    (145, 147, 44),
    (133, 63, 52),
    (63, 193, 204),
    (51, 109, 212),
    (28, 212, 120),
]


@pytest.mark.parametrize(("matrix", "wanted"), [("bt601", BARS_601), ("bt709", BARS_709)])
def test_bars_have_the_codes_of_the_standards(matrix, wanted):
    y, cb, cr = planes(Film(width=140, height=16, scene="bars", matrix=matrix, pixel_format="yuv444p"), F(0))
    assert [(y[8, x], cb[8, x], cr[8, x]) for x in range(10, 140, 20)] == wanted


def test_untagged_films_follow_the_rule_of_their_height():
    for height, matrix in ((96, "bt601"), (720, "bt709")):
        film = Film(width=32, height=height, scene="bars")
        assert all(map(np.array_equal, planes(film, F(0)), planes(replace(film, matrix=matrix), F(0))))


FORMATS = ["yuv444p", "yuv444p10le", "yuvj444p", "yuv444p12le", "gbrp", "gbrp10le", "rgb24", "bgra", "nv24"]


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_planes_hold_the_picture(pixel_format, matrix):
    film = replace(SMALL, pixel_format=pixel_format, matrix=matrix)
    rgb = picture(film, F(0))
    bits = film.format.components[0].bits
    assert np.abs(films.rgb_of(film, planes(film, F(0))) - rgb).max() < 2.1 / 2**bits


@pytest.mark.parametrize("siting", ["left", "topleft", "centre"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "nv12", "p010le"])
def test_chroma_lies_where_the_siting_says(pixel_format, siting):
    """On a ramp, linear both ways, sub-sampling at the right place is the identity; a shift of half a pixel is not."""
    film = Film(width=64, height=48, pixel_format=pixel_format, siting=siting)
    y, x = np.mgrid[:48, :64]
    rgb = np.stack([0.2 + 0.006 * x, 0.5 + 0 * x, 0.2 + 0.008 * y], axis=-1)
    stored = films.planes_of(film, rgb)
    inner = np.s_[4:-4, 4:-4]
    error = np.abs(films.rgb_of(film, stored) - rgb)[inner].mean()
    wrong = replace(film, siting="centre" if siting != "centre" else "topleft")
    assert error < 0.003
    assert np.abs(films.rgb_of(wrong, stored) - rgb)[inner].mean() > error


@pytest.mark.parametrize(("width", "height"), [(161, 91), (96, 64)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p12le", "gray", "gray10le", "gbrp10le", "yuva420p"])
def test_ffv1_gives_back_the_planes(tmp_path, pixel_format, width, height):
    film = Film(width=width, height=height, frames=2, codec="ffv1", pixel_format=pixel_format)
    decoded = films.read_frames(draw(film, tmp_path / "film.mkv"))
    assert [frame.pixel_format for frame in decoded] == [pixel_format] * 2
    for frame, time in zip(decoded, film.frame_times, strict=True):
        for stored, wanted in zip(frame.planes, planes(film, time), strict=True):
            assert stored.dtype == wanted.dtype
            assert np.array_equal(stored, wanted)


@pytest.mark.parametrize(("pixel_format", "codec", "suffix"), [("nv12", "rawvideo", ".nut"), ("pal8", "png", ".mov")])
def test_other_layouts_come_back(tmp_path, pixel_format, codec, suffix):
    film = replace(SMALL, pixel_format=pixel_format, codec=codec)
    decoded = films.read_frames(draw(film, tmp_path / f"film{suffix}"))
    assert decoded[0].pixel_format == pixel_format
    assert all(map(np.array_equal, decoded[5].planes, planes(film, film.frame_times[5])))


def test_interlaced_fields_are_of_two_times(tmp_path):
    film = replace(SMALL, interlaced=True, scene="texture", pixel_format="gray")
    now, later = (replace(film, interlaced=False, start=start) for start in (F(0), F(-1, 48)))
    (woven,) = planes(film, F(0))
    assert np.array_equal(woven[0::2], planes(now, F(0))[0][0::2])
    assert np.array_equal(woven[1::2], planes(later, F(0))[0][1::2])
    with av.open(str(draw(replace(film, pixel_format="yuv420p"), tmp_path / "film.mp4"))) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))


TAGS = [
    (Film(matrix="bt601"), ".mp4", (6, 6, 6, 1)),
    (Film(matrix="bt709"), ".mkv", (1, 1, 1, 1)),
    (Film(matrix="bt709", full_range=True), ".mp4", (1, 1, 1, 2)),
    (Film(pixel_format="yuv420p10le", codec="libx265", matrix="bt2020", transfer="pq"), ".mp4", (9, 9, 16, 1)),
    (Film(pixel_format="yuv420p10le", matrix="bt2020", transfer="hlg"), ".mkv", (9, 9, 18, 1)),
    (Film(pixel_format="yuv422p10le", codec="prores_ks", matrix="bt709"), ".mov", (1, 1, 1, 1)),
    (Film(), ".mp4", (2, 2, 2, 0)),
]


@pytest.mark.parametrize(("film", "suffix", "wanted"), TAGS)
def test_colour_tags(tmp_path, film, suffix, wanted):
    with av.open(str(draw(replace(film, frames=3, width=64, height=64), tmp_path / f"film{suffix}"))) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), int(frame.color_range)) == wanted


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_hdr_metadata(tmp_path, codec):
    film = replace(SMALL, pixel_format="yuv420p10le", codec=codec, matrix="bt2020", transfer="pq", hdr=Hdr())
    held = films.side_data(draw(film, tmp_path / "film.mp4"))
    terms = np.frombuffer(held["MASTERING_DISPLAY_METADATA"][:80], np.int32).reshape(10, 2)
    found = terms[:, 0] / terms[:, 1]
    wanted = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 1000]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert list(np.frombuffer(held["CONTENT_LIGHT_LEVEL"][:8], np.uint32)) == [1000, 400]


# --- times ------------------------------------------------------------------------------------------------------------

TIMES = [
    replace(SMALL, rate=F(24000, 1001)),
    replace(SMALL, rate=F(30000, 1001), start=F(1001, 2000)),
    replace(SMALL, times=IRREGULAR, last_duration=F(1, 2)),
    replace(SMALL, frames=1),
]


@pytest.mark.parametrize("film", TIMES)
def test_times_are_exact_in_mp4_and_rounded_in_matroska(tmp_path, film):
    assert tuple(films.read_times(draw(film, tmp_path / "film.mp4"))) == film.frame_times
    rough = films.read_times(draw(film, tmp_path / "film.mkv"))
    assert len(rough) == len(film.frame_times)
    assert max(abs(a - b) for a, b in zip(rough, film.frame_times, strict=True)) <= F(1, 2000)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_last_duration_is_kept(tmp_path, suffix):
    film = replace(SMALL, times=IRREGULAR, last_duration=F(1, 2))
    assert films.read_frames(draw(film, tmp_path / f"film{suffix}"))[-1].duration == F(1, 2)


def test_negative_start_is_an_edit_list_that_hides_frames(tmp_path):
    path = draw(replace(SMALL, start=F(-2, 24)), tmp_path / "film.mp4")
    assert films.read_times(path) == [F(k, 24) for k in range(4)]
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) >= 4


@pytest.mark.parametrize("suffix", [".webm", ".avi", ".ts", ".mpg", ".mov", ".y4m", ".gif"])
def test_each_container_holds_the_film(tmp_path, suffix):
    audio = () if suffix in (".y4m", ".gif") else (AudioTrack(),)
    film = replace(SMALL, rate=F(25), audio=audio, pixel_format="pal8" if suffix == ".gif" else "yuv420p")
    path = draw(film, tmp_path / f"film{suffix}")
    times = films.read_times(path)
    assert [time - times[0] for time in times] == pytest.approx([k / 25 for k in range(6)], abs=1e-3)
    assert len(films.packets(path)) == 1 + len(audio)


def test_times_that_no_container_holds_are_refused():
    with pytest.raises(ValueError, match="time base"):
        _ = Film(times=(F(0), F(1, 100003), F(1, 100019))).time_base


# --- streams ----------------------------------------------------------------------------------------------------------

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
def test_a_rich_film(tmp_path, suffix):
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


def test_sound_may_start_late(tmp_path):
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
    assert in_order != sorted(in_order), "B frames are stored after the frame they look ahead to"


def test_the_same_film_is_drawn_as_the_same_packets(tmp_path):
    film = replace(SMALL, audio=(AudioTrack(),))
    assert films.packets(draw(film, tmp_path / "a.mp4")) == films.packets(draw(film, tmp_path / "b.mp4"))


def test_pictures_in_a_folder(tmp_path):
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


# --- broken films -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sound")
    film = replace(SMALL, frames=24, audio=(AudioTrack(),), container_options={"movflags": "+faststart"})
    plain = replace(film, container_options={})
    return {"mp4": draw(film, folder / "film.mp4"), "mkv": draw(plain, folder / "film.mkv")}


def test_truncated_mp4_opens_and_fails_in_the_middle(sound, tmp_path):
    path = films.truncated(sound["mp4"], 0.6, tmp_path / "film.mp4")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 24
        assert sum(packet.size > 0 for packet in container.demux(video=0)) < 24
    with pytest.raises(av.error.InvalidDataError):
        films.read_times(path)


def test_truncated_mkv_ends_early_without_an_error(sound, tmp_path):
    path = films.truncated(sound["mkv"], 0.6, tmp_path / "film.mkv")
    assert 0 < len(films.read_times(path)) < 24


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_flipped_bits_change_packets(sound, tmp_path, suffix):
    path = films.bit_flips(sound[suffix], 30, seed=3, to=tmp_path / f"film.{suffix}", first=0.3)
    before, after = (np.frombuffer(p.read_bytes(), np.uint8) for p in (sound[suffix], path))
    assert np.unpackbits(before ^ after).sum() == 30
    assert not (before ^ after)[: int(len(before) * 0.3)].any()
    again = films.bit_flips(sound[suffix], 30, seed=3, to=tmp_path / f"again.{suffix}", first=0.3)
    assert path.read_bytes() == again.read_bytes()


def test_films_that_do_not_open(sound, tmp_path):
    bad = [films.moov_missing(sound["mp4"], tmp_path / "moov.mp4"), films.empty(tmp_path / "empty.mp4")]
    assert b"moov" not in bad[0].read_bytes()
    for path in [*bad, films.text(tmp_path / "text.mp4")]:
        with pytest.raises(av.error.InvalidDataError):
            av.open(str(path))


def test_text_opens_as_a_film_when_its_name_says_text(tmp_path):
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
def test_size_changes_half_way(tmp_path, suffix):
    path = films.size_change(SMALL, tmp_path / f"film.{suffix}", 64, 48)
    sizes = [(frame.width, frame.height) for frame in films.read_frames(path)]
    assert sizes == [(96, 64)] * 6 + [(64, 48)] * 6
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_undecodable_middle(sound, tmp_path, suffix):
    path = films.undecodable(sound[suffix], (13, 14), tmp_path / f"film.{suffix}")
    before, after = (films.packets(p) for p in (sound[suffix], path))
    changed = [k for k, (a, b) in enumerate(zip(before[0], after[0], strict=True)) if a.md5 != b.md5]
    assert changed == [13, 14]
    assert [p.md5 for p in before[1]] == [p.md5 for p in after[1]]
    with pytest.raises(av.error.InvalidDataError):
        films.read_times(path)


def test_dropped_frames(sound, tmp_path):
    path = films.dropped(sound["mkv"], (13, 14), tmp_path / "film.mkv")
    assert len(films.packets(path)[0]) == 22


def test_equal_and_falling_times(tmp_path):
    path = films.falling_times(draw(FFV1, tmp_path / "sound.mkv"), tmp_path / "film.mkv", equal=(2,), falling=(5,))
    times = films.read_times(path)
    assert times[2] == times[1]
    assert times[5] < times[4]
    assert len(times) == 6


def test_closed_captions_and_dynamic_hdr(tmp_path):
    plain = draw(SMALL, tmp_path / "plain.mp4")
    assert "A53_CC" not in films.side_data(plain)
    assert "A53_CC" in films.side_data(films.captioned(plain, tmp_path / "captions.mp4"))
    film = replace(SMALL, codec="libx265", pixel_format="yuv420p10le", matrix="bt2020", transfer="pq")
    held = films.side_data(films.dynamic_hdr(draw(film, tmp_path / "hdr.mp4"), tmp_path / "plus.mp4"))
    assert "DYNAMIC_HDR_PLUS" in held
