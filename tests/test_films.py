"""`films`: pictures, colours and times of the drawn films are as described; all other tests rely on that."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

import films
from films import AudioTrack, Film, Hdr, draw, picture, planes

F = Fraction
SMALL = Film(frames=6, width=96, height=64)
FFV1 = replace(SMALL, codec="ffv1")
IRREGULAR = tuple(F(k * k + 3 * k, 100) for k in range(6))


def test_the_texture_moves_by_its_speed_also_between_frames():
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


def test_shapes_are_smooth_and_move():
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
    at_cut = np.abs(picture(film, F(3, 24)) - picture(film, F(2, 24))).mean()
    within_shot = np.abs(picture(film, F(2, 24)) - picture(film, F(1, 24))).mean()
    assert at_cut > 3 * within_shot


def test_the_caption_does_not_move():
    film = Film(caption=True)
    frames = np.stack([picture(film, time) for time in film.frame_times])
    constant = frames.std(axis=0).max(axis=-1) < 1e-9
    assert 0.01 < constant.mean() < 0.2
    assert (frames[0][constant] > 0.99).any()


def test_half_of_the_picture_is_static():
    film = replace(SMALL, scene="half")
    first, last = picture(film, F(0)), picture(film, F(5, 24))
    assert np.array_equal(first[:, :48], last[:, :48])
    assert np.abs(first[:, 48:] - last[:, 48:]).mean() > 0.02


@pytest.mark.parametrize("scene", ["static", "bars"])
def test_static_scenes_do_not_change(scene):
    film = replace(SMALL, scene=scene)
    assert np.array_equal(picture(film, F(0)), picture(film, F(5, 24)))


def test_the_edge_is_at_its_place():
    film = replace(SMALL, scene="edge", speed=(1.5, 0.0))
    red = (picture(film, F(1, 24))[0, :, 0] - 0.1) / 0.7
    assert red.sum() == pytest.approx(96 / 4 + 1.5)
    assert ((red > 1e-9) & (red < 1 - 1e-9)).sum() == 1


def test_unknown_scene_is_refused():
    with pytest.raises(ValueError, match="no scene 'comedy'"):
        picture(replace(SMALL, scene="comedy"), F(0))


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


@pytest.mark.parametrize(("matrix", "expected"), [("bt601", BARS_601), ("bt709", BARS_709)])
def test_bars_have_the_codes_of_the_standards(matrix, expected):
    y, cb, cr = planes(Film(width=140, height=16, scene="bars", matrix=matrix, pixel_format="yuv444p"), F(0))
    assert [(y[8, x], cb[8, x], cr[8, x]) for x in range(10, 140, 20)] == expected


def test_the_matrix_of_untagged_films_depends_on_their_height():
    for height, matrix in ((96, "bt601"), (720, "bt709")):
        film = Film(width=32, height=height, scene="bars")
        assert all(map(np.array_equal, planes(film, F(0)), planes(replace(film, matrix=matrix), F(0))))


FORMATS = ["yuv444p", "yuv444p10le", "yuvj444p", "yuv444p12le", "gbrp", "gbrp10le", "rgb24", "bgra", "nv24"]


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_planes_represent_the_picture(pixel_format, matrix):
    film = replace(SMALL, pixel_format=pixel_format, matrix=matrix)
    rgb = picture(film, F(0))
    bits = film.format.components[0].bits
    assert np.abs(films.rgb_of(film, planes(film, F(0))) - rgb).max() < 2.1 / 2**bits


@pytest.mark.parametrize("siting", ["left", "topleft", "centre"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "nv12", "p010le"])
def test_chroma_is_sited_as_described(pixel_format, siting):
    """On a linear ramp, subsampling at the right siting is the identity; half a pixel beside it is not."""
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
def test_ffv1_preserves_the_planes(tmp_path, pixel_format, width, height):
    film = Film(width=width, height=height, frames=2, codec="ffv1", pixel_format=pixel_format)
    decoded = films.read_frames(draw(film, tmp_path / "film.mkv"))
    assert [frame.pixel_format for frame in decoded] == [pixel_format] * 2
    for frame, time in zip(decoded, film.frame_times, strict=True):
        for stored, expected in zip(frame.planes, planes(film, time), strict=True):
            assert stored.dtype == expected.dtype
            assert np.array_equal(stored, expected)


@pytest.mark.parametrize(("pixel_format", "codec", "suffix"), [("nv12", "rawvideo", ".nut"), ("pal8", "png", ".mov")])
def test_other_layouts_are_preserved(tmp_path, pixel_format, codec, suffix):
    film = replace(SMALL, pixel_format=pixel_format, codec=codec)
    decoded = films.read_frames(draw(film, tmp_path / f"film{suffix}"))
    assert decoded[0].pixel_format == pixel_format
    assert all(map(np.array_equal, decoded[5].planes, planes(film, film.frame_times[5])))


def test_interlaced_fields_have_different_times(tmp_path):
    film = replace(SMALL, interlaced=True, scene="texture", pixel_format="gray")
    now, later = (replace(film, interlaced=False, start=start) for start in (F(0), F(-1, 48)))
    (interlaced,) = planes(film, F(0))
    assert np.array_equal(interlaced[0::2], planes(now, F(0))[0][0::2])
    assert np.array_equal(interlaced[1::2], planes(later, F(0))[0][1::2])
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


@pytest.mark.parametrize(("film", "suffix", "expected"), TAGS)
def test_colour_tags(tmp_path, film, suffix, expected):
    with av.open(str(draw(replace(film, frames=3, width=64, height=64), tmp_path / f"film{suffix}"))) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), int(frame.color_range)) == expected


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_hdr_metadata(tmp_path, codec):
    film = replace(SMALL, pixel_format="yuv420p10le", codec=codec, matrix="bt2020", transfer="pq", hdr=Hdr())
    side_data = films.side_data(draw(film, tmp_path / "film.mp4"))
    terms = np.frombuffer(side_data["MASTERING_DISPLAY_METADATA"][:80], np.int32).reshape(10, 2)
    found = terms[:, 0] / terms[:, 1]
    expected = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 1000]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert list(np.frombuffer(side_data["CONTENT_LIGHT_LEVEL"][:8], np.uint32)) == [1000, 400]


TIMES = [
    replace(SMALL, rate=F(24000, 1001)),
    replace(SMALL, rate=F(30000, 1001), start=F(1001, 2000)),
    replace(SMALL, times=IRREGULAR, last_duration=F(1, 2)),
    replace(SMALL, frames=1),
]


@pytest.mark.parametrize("film", TIMES)
def test_times_are_exact_in_mp4_and_rounded_in_matroska(tmp_path, film):
    assert tuple(films.read_times(draw(film, tmp_path / "film.mp4"))) == film.frame_times
    rounded = films.read_times(draw(film, tmp_path / "film.mkv"))
    assert len(rounded) == len(film.frame_times)
    assert max(abs(a - b) for a, b in zip(rounded, film.frame_times, strict=True)) <= F(1, 2000)


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
