"""`make_plan` case by case, on films that are only described: container, encoder, size, times and refusals."""

from __future__ import annotations

from array import array
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from described_film import FILM, GRAY, RGB, YUV420, YUV420_10, YUV444
from midframe.conversion.plan import Plan, make_plan
from midframe.conversion.settings import Settings
from midframe.conversion.times import Segment
from midframe.errors import InputError, MidframeError, OutputError, SettingError
from midframe.video.colour import Colour
from midframe.video.frame import Layout
from midframe.video.probe import Film


def plan(tmp_path: Path, name: str, film: Film = FILM, **settings: Any) -> Plan:
    return make_plan(film, "in.mp4", str(tmp_path / name), Settings(**settings))


@pytest.mark.parametrize(
    ("film", "name", "settings", "container", "encoder", "pixel_format"),
    [
        pytest.param({}, "out.mp4", {}, "mp4", "libx264", "yuv420p", id="mp4"),
        pytest.param({}, "out.MOV", {}, "mov", "libx264", "yuv420p", id="mov, upper case"),
        pytest.param({}, "out.mkv", {}, "matroska", "libx264", "yuv420p", id="mkv"),
        pytest.param({}, "out.webm", {}, "webm", "libvpx-vp9", "yuv420p", id="webm"),
        pytest.param({}, "out.gif", {}, "gif", "gif", "gbrp", id="gif"),
        pytest.param({}, "out.webp", {}, "webp", "webp", "gbrp", id="webp"),
        pytest.param({}, "out.y4m", {}, "yuv4mpegpipe", "yuv4mpegpipe", "yuv420p", id="y4m"),
        pytest.param({"layout": RGB}, "out.mp4", {}, "mp4", "libx264rgb", "bgr0", id="RGB in mp4"),
        pytest.param({"layout": GRAY}, "out.mkv", {}, "matroska", "libx264", "gray", id="gray in mkv"),
        pytest.param({"layout": YUV420_10}, "out.mp4", {}, "mp4", "libx265", "yuv420p10le", id="10 bits in mp4"),
        pytest.param({"layout": YUV420_10}, "out.webm", {}, "webm", "libsvtav1", "yuv420p10le", id="10 bits in webm"),
        pytest.param({}, "out.mkv", {"encoder": "ffv1"}, "matroska", "ffv1", "yuv420p", id="encoder"),
        pytest.param({}, "out.mp4", {"codec": "h265"}, "mp4", "libx265", "yuv420p", id="codec"),
        pytest.param(
            {"layout": RGB}, "out.mp4", {"pixel_format": "yuv444p"}, "mp4", "libx264", "yuv444p", id="pixel format"
        ),
    ],
)
def test_container_encoder_and_pixel_format(
    tmp_path: Path,
    film: dict[str, Any],
    name: str,
    settings: dict[str, Any],
    container: str,
    encoder: str,
    pixel_format: str,
) -> None:
    family = film.get("layout", YUV420).family
    colour = FILM.colour if family == "yuv" else Colour(family, full_range=True)
    planned = plan(tmp_path, name, replace(FILM, colour=colour, **film), **settings)
    assert planned.container.name == container
    assert planned.format.encoder.name == encoder
    assert planned.format.encoder.pixel_format == pixel_format
    assert (planned.source, planned.target) == ("in.mp4", str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("film", "settings", "times"),
    [
        pytest.param({}, {}, ["0", "2", "4", "6", "8", "10", "12"], id="factor 2"),
        pytest.param({}, {"factor": 4}, [str(k) for k in range(13)], id="factor 4"),
        pytest.param({}, {"fps": Fraction(50)}, [str(2 * k) for k in range(8)], id="twice the rate"),
        pytest.param({}, {"fps": Fraction(10)}, ["0", "10"], id="a lower rate"),
        pytest.param({}, {"slow_motion": True}, [str(4 * k) for k in range(7)], id="slow motion"),
        pytest.param(
            {},
            {"slow_motion": True, "factor": 3, "fps": Fraction(25)},
            [str(4 * k) for k in range(12)],
            id="slow motion at a rate",
        ),
        pytest.param({}, {"start": Fraction(3, 100)}, ["0", "2", "4", "6", "8"], id="start"),
        pytest.param({}, {"duration": Fraction(5, 100)}, ["0", "2", "4"], id="duration"),
        pytest.param(
            {}, {"start": Fraction(4, 100), "duration": Fraction(8, 100)}, ["0", "2", "4"], id="start and duration"
        ),
        pytest.param({}, {"deinterlace": "field"}, [str(k) for k in range(15)], id="two fields a frame"),
        pytest.param(
            {"ticks": array("q", [0, 4, 20, 24])}, {}, ["0", "2", "4", "12", "20", "22", "24"], id="variable rate"
        ),
        pytest.param({"ticks": array("q", [150])}, {}, ["150"], id="one frame"),
        pytest.param({"ticks": array("q", [50, 54])}, {}, ["50", "52", "54"], id="late start"),
        pytest.param({"ticks": array("q", [-8, -4, 0])}, {}, ["0", "2", "4", "6", "8"], id="negative start"),
    ],
)
def test_output_times(tmp_path: Path, film: dict[str, Any], settings: dict[str, Any], times: list[str]) -> None:
    """The times of the output frames, here in hundredths of a second."""
    planned = plan(tmp_path, "out.mp4", replace(FILM, **film), **settings)
    assert planned.ticks is not None
    assert [tick * planned.time_base * 100 for tick in planned.ticks] == [Fraction(time) for time in times]
    assert planned.frame_count == len(times)


@pytest.mark.parametrize("container", ["mpegts", "mpeg"])
def test_a_free_running_clock_is_moved_to_zero(tmp_path: Path, container: str) -> None:
    film = replace(FILM, container=container)
    early = plan(tmp_path, "out.mp4", replace(film, ticks=array("q", [900, 904])))
    late = plan(tmp_path, "out.mp4", replace(film, ticks=array("q", [90_000, 90_004])))
    assert early.ticks is not None
    assert late.ticks is not None
    assert early.ticks[0] * early.time_base == 9
    assert late.ticks[0] == 0


@pytest.mark.parametrize("name", ["out.gif", "out.webp", "out.y4m", "folder/%03d.png"])
def test_outputs_of_pictures_alone_start_at_zero(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    planned = plan(tmp_path, name, replace(FILM, ticks=array("q", [50, 54, 58])))
    assert planned.ticks is not None
    assert planned.ticks[0] == 0


def test_a_pipe_has_no_times_beforehand(tmp_path: Path) -> None:
    planned = plan(tmp_path, "out.mkv", replace(FILM, ticks=None))
    assert (planned.ticks, planned.frame_count, planned.segments) == (None, None, (Segment(0, 0),))
    assert planned.gap_limit == Fraction(1, 2)
    assert planned.format.rate == 50


@pytest.mark.parametrize(
    ("settings", "segment"),
    [
        pytest.param({}, Segment(0, 4), id="whole film"),
        pytest.param({"start": Fraction(4, 100)}, Segment(1, 4), id="start on a frame"),
        pytest.param({"start": Fraction(5, 100)}, Segment(2, 4), id="start between frames"),
        pytest.param({"duration": Fraction(8, 100)}, Segment(0, 2), id="an end on a frame leaves it out"),
    ],
)
def test_segments(tmp_path: Path, settings: dict[str, Any], segment: Segment) -> None:
    assert plan(tmp_path, "out.mp4", **settings).segments == (segment,)


@pytest.mark.parametrize(
    ("film", "settings", "duration"),
    [
        pytest.param({}, {}, "4", id="whole film"),
        pytest.param({"last_duration": Fraction(1, 2)}, {}, "50", id="long last frame"),
        pytest.param({"ticks": array("q", [0, 4, 30])}, {"duration": Fraction(1, 10)}, "26", id="trimmed"),
        pytest.param({}, {"deinterlace": "field"}, "2", id="a field"),
    ],
)
def test_duration_of_the_last_frame(
    tmp_path: Path, film: dict[str, Any], settings: dict[str, Any], duration: str
) -> None:
    planned = plan(tmp_path, "out.mp4", replace(FILM, **film), **settings)
    assert planned.last_duration * 100 == Fraction(duration)


@pytest.mark.parametrize(
    ("width", "height", "layout", "encoder", "size"),
    [
        pytest.param(63, 47, YUV420, "libx264", (64, 48), id="both odd"),
        pytest.param(63, 47, Layout("yuv", 8, 1, 0), "libx264", (64, 47), id="4:2:2"),
        pytest.param(63, 47, YUV444, "libx264", (63, 47), id="4:4:4"),
        pytest.param(63, 47, YUV420, "ffv1", (63, 47), id="an encoder for all sizes"),
    ],
)
def test_odd_sizes_are_padded(
    tmp_path: Path, width: int, height: int, layout: Layout, encoder: str, size: tuple[int, int]
) -> None:
    film = replace(FILM, width=width, height=height, layout=layout)
    planned = plan(tmp_path, "out.mkv", film, encoder=encoder)
    assert (planned.format.width, planned.format.height) == size


@pytest.mark.parametrize(
    ("film", "name", "settings", "error", "message"),
    [
        pytest.param({}, "out.xyz", {}, SettingError, r"name it with one of \.mp4", id="unknown suffix"),
        pytest.param({}, "nowhere/out.mp4", {}, OutputError, "does not exist", id="missing folder"),
        pytest.param({}, "out.mp4", {"start": Fraction(9)}, SettingError, "no frame lies between", id="no frame"),
        pytest.param({"ticks": None}, "out.mp4", {"start": Fraction(0)}, SettingError, "cannot be trimmed", id="pipe"),
        pytest.param({}, "out.mp4", {"pixel_format": "nv12"}, SettingError, "not a pixel format to", id="not planar"),
        pytest.param({}, "out.mp4", {"pixel_format": "yuvj420p"}, SettingError, "not a pixel format to", id="yuvj"),
        pytest.param({}, "out.mp4", {"encoder": "none"}, SettingError, "no video encoder 'none'", id="no such encoder"),
        pytest.param({}, "out.mp4", {"codec": "h266"}, SettingError, "no codec 'h266'", id="no such codec"),
        pytest.param({}, "out.mp4", {"crf": 99.0}, SettingError, "--crf from 0", id="quality out of range"),
        pytest.param(
            {"layout": GRAY}, "out.mp4", {"codec": "prores"}, SettingError, "does not take", id="wrong layout"
        ),
        pytest.param({"width": 63}, "out.mp4", {"odd": "error"}, OutputError, "odd size 63x48", id="odd size"),
        pytest.param(
            {"has_alpha": True, "pixel_format": "yuva420p"}, "out.mp4", {}, InputError, "has transparency", id="alpha"
        ),
        pytest.param({}, "out.gif", {"fps": Fraction(60)}, SettingError, "too short for gif", id="fast GIF"),
        pytest.param({}, "out.webp", {"factor": 64}, SettingError, "too short for webp", id="fast WebP"),
        pytest.param({}, "out.mkv", {"factor": 64}, SettingError, "too short for mkv", id="fast mkv"),
    ],
)
def test_refusals(
    tmp_path: Path,
    film: dict[str, Any],
    name: str,
    settings: dict[str, Any],
    error: type[MidframeError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        plan(tmp_path, name, replace(FILM, **film), **settings)
    assert "\n" not in str(caught.value)


def test_dropped_alpha_is_no_refusal(tmp_path: Path) -> None:
    film = replace(FILM, has_alpha=True, pixel_format="yuva420p")
    assert plan(tmp_path, "out.mp4", film, drop_alpha=True).format.encoder.pixel_format == "yuv420p"


def test_an_output_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midframe.conversion.target.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(OutputError, match=r"about \d+ MB are needed .* only 0 MB are free"):
        plan(tmp_path, "out.mkv", encoder="ffv1")


def test_colour_of_another_layout_family(tmp_path: Path) -> None:
    """RGB becomes BT.709 with limited range; primaries and transfer keep the film's tags."""
    tags = replace(FILM.colour.tags, primaries=9, transfer=16)
    film = replace(FILM, layout=RGB, colour=Colour("rgb", full_range=True, tags=tags))
    colour = plan(tmp_path, "out.mp4", film, pixel_format="yuv420p").format.colour
    assert (colour.matrix, colour.full_range) == ("bt709", False)
    assert (colour.tags.matrix, colour.tags.range, colour.tags.primaries, colour.tags.transfer) == (1, 1, 9, 16)
