"""The choice of the encoder, the description of the picture that it writes, and the refusal of invalid options."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from converted import changed_source_frames, convert_quickly
from films import Film, Hdr, captioned, dynamic_hdr, side_data
from midframe.errors import MidframeError, OutputError, SettingError
from midframe.video.colour import Colour, ColourTags, colour_of_stream
from midframe.video.containers import container_named
from midframe.video.encoders import Encoder, EncoderRequest, choose_encoder, encoded_size, suitable_encoders
from midframe.video.frame import Layout
from midframe.video.probe import HdrMetadata

Factory = Callable[..., Path]
HDR = Film(
    frames=3,
    width=64,
    height=48,
    pixel_format="yuv420p10le",
    codec="libx265",
    matrix="bt2020",
    transfer="pq",
    hdr=Hdr(),
    rotation=90,
)
PLAIN = Film(frames=3, width=64, height=48, matrix="bt709", rotation=180, sample_aspect_ratio=Fraction(16, 11))
FULL = Film(frames=3, width=64, height=48, matrix="bt601", full_range=True)
DEEP = Film(frames=3, width=64, height=48, pixel_format="yuv422p10le", matrix="bt709")
FILMS = {"plain": PLAIN, "full range": FULL, "10 bit": DEEP, "HDR": HDR}


def film_name(value: Any) -> str | None:
    """Return the test id of a film; None for other parameters."""
    return next((name for name, film in FILMS.items() if film is value), None)


def described(path: Path) -> dict[str, Any]:
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        context = stream.codec_context
        frame = next(film.decode(stream))
        return {
            "bits": frame.format.components[0].bits,
            "size": (frame.width, frame.height),
            "rotation": frame.rotation % 360,
            "colour": (context.color_primaries, context.color_trc, context.colorspace, context.color_range),
            "aspect": stream.sample_aspect_ratio or 1,
        }


def luminances(path: Path) -> tuple[list[float], tuple[int, ...]]:
    """The mastering display's ten numbers, and both light levels."""
    kinds = side_data(path)
    values = struct.unpack_from("20i", kinds["MASTERING_DISPLAY_METADATA"])
    numbers = [values[k] / values[k + 1] for k in range(0, 20, 2)]
    return numbers, struct.unpack_from("2I", kinds["CONTENT_LIGHT_LEVEL"])


@pytest.mark.parametrize(
    ("film", "suffix", "options"),
    [
        (PLAIN, ".mp4", {}),
        (PLAIN, ".mov", {}),
        (PLAIN, ".mkv", {"codec": "h264", "preset": "ultrafast"}),
        (PLAIN, ".mp4", {"codec": "h265", "preset": "ultrafast"}),
        (PLAIN, ".mp4", {"codec": "av1", "preset": "12"}),
        (PLAIN, ".mkv", {}),
        (PLAIN, ".webm", {"preset": "8"}),
        (FULL, ".mp4", {}),
        (FULL, ".mkv", {}),
        (DEEP, ".mp4", {}),
        (DEEP, ".mkv", {}),
        (DEEP, ".mov", {"codec": "prores"}),
        (HDR, ".mp4", {}),
        (HDR, ".mkv", {"codec": "h265", "preset": "ultrafast"}),
        (HDR, ".mkv", {"encoder": "libx264", "preset": "ultrafast"}),
        (HDR, ".webm", {"preset": "12"}),
        (HDR, ".mkv", {}),
    ],
    ids=film_name,
)
def test_description_of_the_picture_is_written_or_a_warning_given(
    film_factory: Factory, tmp_path: Path, film: Film, suffix: str, options: dict[str, str]
) -> None:
    source, target = film_factory(film, ".mp4"), tmp_path / f"out{suffix}"
    summary = convert_quickly(source, target, **options)
    before, after = described(source), described(target)
    warnings = " ".join(summary.warnings)
    if before["aspect"] != after["aspect"]:
        assert "pixel aspect 16:11 cannot be written" in warnings
    else:
        assert "pixel aspect" not in warnings
    assert {**after, "aspect": 0} == {**before, "aspect": 0}
    if film.hdr is None:
        return
    if summary.plan.format.encoder.name == "ffv1":
        assert "ffv1 does not write the film's HDR metadata" in warnings
        assert "CONTENT_LIGHT_LEVEL" not in side_data(target)
        return
    assert "HDR metadata" not in warnings
    (numbers, light), (found, found_light) = luminances(source), luminances(target)
    assert found_light == light
    assert found == pytest.approx(numbers, abs=2e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        (".mp4", {"preset": "silly"}, "no --preset 'silly'; it has ultrafast"),
        (".mp4", {"crf": 99.0}, "--crf from 0 .best. to 51, not 99"),
        (".mp4", {"crf": -1.0}, "--crf from 0"),
        (".mp4", {"codec": "av1", "preset": "slow"}, "libsvtav1 has no --preset 'slow'"),
        (".webm", {"crf": 64.0}, "to 63"),
        (".mkv", {"encoder": "ffv1", "crf": 3.0}, "ffv1 has no --crf"),
        (".mkv", {"encoder": "ffv1", "preset": "slow"}, "ffv1 has no --preset"),
        (".webm", {"encoder": "ffv1"}, r"webm cannot hold the output of ffv1.*libvpx-vp9.*\.mkv"),
        (".webm", {"codec": "h264"}, "webm cannot hold the output of libx264"),
        (".mp4", {"codec": "prores", "pixel_format": "yuv422p10le"}, "mp4 cannot hold the output of prores_ks"),
        (".mov", {"codec": "prores"}, r"pixel format \(YUV 4:2:0, 8 bit\); those that do: libx264"),
        (".mp4", {"codec": "av1", "pixel_format": "yuv444p"}, "those that do: libx264, libx265"),
        (".mp4", {"pixel_format": "nv99"}, "not a pixel format"),
        (".mp4", {"encoder": "nope"}, "no video encoder 'nope'"),
        (".mp4", {"encoder": "aac"}, "no video encoder 'aac'"),
        (".mp4", {"codec": "h266"}, "no codec 'h266'"),
        (".mp4", {"encoder": "mpeg2video", "fps": Fraction(17)}, "mpeg2video refused its settings.*does not support"),
        (".mp4", {"codec": "h264", "encoder": "libx264"}, "not both"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_written(
    film_factory: Factory, tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, options: Any, message: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        convert_quickly(film_factory(Film(frames=3, width=64, height=48), ".mp4"), tmp_path / f"out{suffix}", **options)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1"])
def test_odd_sizes_are_padded_with_a_warning_or_refused(film_factory: Factory, tmp_path: Path, encoder: str) -> None:
    source = film_factory(Film(frames=3, width=161, height=91, codec="ffv1"), ".mkv")
    preset = "12" if encoder == "libsvtav1" else "ultrafast"
    summary = convert_quickly(source, tmp_path / "out.mp4", encoder=encoder, preset=preset)
    assert described(tmp_path / "out.mp4")["size"] == (162, 92)
    assert any("161x91 padded to 162x92" in warning for warning in summary.warnings)
    with pytest.raises(MidframeError, match="161x91") as caught:
        convert_quickly(source, tmp_path / "no.mp4", encoder=encoder, preset=preset, odd="error")
    assert isinstance(caught.value, (OutputError, SettingError))
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_odd_sizes_are_not_padded_if_the_encoder_holds_them(film_factory: Factory, tmp_path: Path, suffix: str) -> None:
    source = film_factory(Film(frames=3, width=161, height=91, codec="ffv1"), ".mkv")
    convert_quickly(source, tmp_path / f"out{suffix}", **({"preset": "8"} if suffix == ".webm" else {}))
    assert described(tmp_path / f"out{suffix}")["size"] == (161, 91)
    if suffix == ".mkv":
        assert changed_source_frames(source, tmp_path / "out.mkv", [(0, 0), (1, 2), (2, 4)]) == []


def test_encoder_named_by_its_codec_gets_the_default_quality(film_factory: Factory, tmp_path: Path) -> None:
    summary = convert_quickly(
        film_factory(Film(frames=3, width=64, height=48), ".mp4"), tmp_path / "out.mp4", encoder="h264"
    )
    assert summary.plan.format.encoder.name == "libx264"
    assert summary.plan.format.encoder.options["crf"] == "18"


@pytest.mark.parametrize(
    ("container", "layout", "name"),
    [
        ("mp4", Layout("yuv", 8, 1, 1), "libx264"),
        ("mp4", Layout("yuv", 10, 1, 1), "libx265"),
        ("mp4", Layout("rgb", 8), "libx264rgb"),
        ("matroska", Layout("gray", 8), "libx264"),
        ("mp4", Layout("yuv", 12, 0, 0), "libx265"),
        ("webm", Layout("yuv", 8, 1, 1), "libvpx-vp9"),
        ("webm", Layout("yuv", 10, 1, 1), "libsvtav1"),
    ],
)
def test_default_encoder_of_container_and_layout(container: str, layout: Layout, name: str) -> None:
    colour = colour_of_stream(layout, height=720, codec="h264")
    chosen = choose_encoder(container_named(container), layout, colour, HdrMetadata())
    assert chosen.name == name
    assert max(c.bits for c in av.VideoFormat(chosen.pixel_format).components) == layout.depth


@pytest.mark.parametrize(
    ("add_metadata", "codec", "warning"),
    [
        pytest.param(captioned, "libx264", "closed captions", id="captions"),
        pytest.param(dynamic_hdr, "libx265", r"HDR10\+", id="dynamic HDR"),
    ],
)
def test_metadata_lost_by_encoding_give_warnings(
    film_factory: Factory, tmp_path: Path, add_metadata: Callable[..., Path], codec: str, warning: str
) -> None:
    film = Film(frames=6, width=64, height=48, codec=codec)
    source = add_metadata(film_factory(film, ".mp4"), tmp_path / "with.mp4")
    summary = convert_quickly(source, tmp_path / "out.mp4")
    assert any(re.search(warning, text) for text in summary.warnings)


@pytest.mark.parametrize(
    ("encoder", "pixel_format", "size", "encoded"),
    [
        pytest.param("libx264", "yuv420p", (161, 91), (162, 92), id="420"),
        pytest.param("libx264", "yuv422p", (161, 91), (162, 91), id="422"),
        pytest.param("libx264", "yuv444p", (161, 91), (161, 91), id="444"),
        pytest.param("libx264", "yuv420p", (160, 90), (160, 90), id="even"),
        pytest.param("ffv1", "yuv420p", (161, 91), (161, 91), id="encoder without the limit"),
    ],
)
def test_encoded_size(encoder: str, pixel_format: str, size: tuple[int, int], encoded: tuple[int, int]) -> None:
    assert encoded_size(Encoder(encoder, pixel_format, {}), *size, odd="pad") == encoded


def test_odd_size_is_an_error_on_request() -> None:
    with pytest.raises(OutputError, match="libx264 cannot hold the odd size 161x90"):
        encoded_size(Encoder("libx264", "yuv420p", {}), 161, 90, odd="error")


@pytest.mark.parametrize(
    ("container", "layout", "names"),
    [
        ("mp4", Layout("yuv", 8, 1, 1), ["libx264", "libx265", "libsvtav1", "libvpx-vp9"]),
        ("mov", Layout("yuv", 10, 1, 0), ["libx264", "libx265", "prores_ks"]),
        ("webm", Layout("rgb", 8), ["libvpx-vp9"]),
        ("matroska", Layout("gray", 16), ["ffv1"]),
    ],
    ids=["mp4", "mov", "webm", "matroska"],
)
def test_suitable_encoders(container: str, layout: Layout, names: list[str]) -> None:
    assert suitable_encoders(container_named(container), layout) == names


BT2020_DISPLAY = tuple(
    number
    for value, denominator in [
        *((35400, 50000), (14600, 50000), (8500, 50000), (39850, 50000), (6550, 50000), (2300, 50000)),
        *((15635, 50000), (16450, 50000), (50, 10000), (10000000, 10000)),
    ]
    for number in (value, denominator)
)
"""A mastering display as FFmpeg describes it: BT.2020 primaries, D65, 0.005 to 1000 cd/m²."""


@pytest.mark.parametrize(
    ("encoder", "option", "parameters"),
    [
        (
            "libx265",
            "x265-params",
            "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):"
            "max-cll=1000,400:hdr10=1:repeat-headers=1:log-level=error",
        ),
        (
            "libx264",
            "x264-params",
            "mastering-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):cll=1000,400",
        ),
        (
            "libsvtav1",
            "svtav1-params",
            "mastering-display=G(0.17000,0.79700)B(0.13100,0.04600)R(0.70800,0.29200)WP(0.31270,0.32900)"
            "L(1000.0000,0.0050):content-light=1000,400",
        ),
        ("ffv1", "x264-params", None),
    ],
    ids=["libx265", "libx264", "libsvtav1", "ffv1"],
)
def test_hdr_parameters_of_each_encoder(encoder: str, option: str, parameters: str | None) -> None:
    layout = Layout("yuv", 10, 1, 1)
    colour = Colour("bt2020", full_range=False, tags=ColourTags(9, 1, 9, 16))
    hdr = HdrMetadata(BT2020_DISPLAY, (1000, 400))
    chosen = choose_encoder(container_named("matroska"), layout, colour, hdr, EncoderRequest(encoder=encoder))
    assert chosen.options.get(option) == parameters
