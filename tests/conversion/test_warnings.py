"""The warnings of a conversion, case by case, on films and reports that are only described."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from described_film import FILM, RGB, YUV420_10
from midframe.conversion.plan import make_plan
from midframe.conversion.settings import Settings
from midframe.conversion.warnings import collect_warnings, damage_warnings, source_warnings
from midframe.video.colour import Colour
from midframe.video.probe import Film, HdrMetadata
from midframe.video.reader import ReadReport


@pytest.mark.parametrize(
    ("film", "report", "warnings"),
    [
        pytest.param({}, {}, [], id="no damage"),
        pytest.param(
            {}, {"lost": 3}, ["3 frames could not be decoded; neighbouring frames are shown instead"], id="lost"
        ),
        pytest.param(
            {},
            {"damaged": 2, "first_damaged": Fraction(3, 2)},
            ["2 frames are damaged, the first at 1.500 s"],
            id="corrupt frames",
        ),
        pytest.param(
            {"undecodable_start": 4},
            {},
            ["4 frames before the first key frame cannot be decoded and are left out"],
            id="no key frame at the start",
        ),
        pytest.param(
            {}, {"dropped": 2}, ["2 frames that came at an unexpected time were dropped"], id="unexpected times"
        ),
        pytest.param({"duplicate_frames": 2}, {"dropped": 2}, [], id="dropped frames that probing has counted"),
        pytest.param(
            {"duplicate_frames": 2},
            {"dropped": 3},
            ["1 frames that came at an unexpected time were dropped"],
            id="more dropped frames than probing has counted",
        ),
        pytest.param(
            {}, {"ended_early": "the size changes"}, ["the film ends early: the size changes"], id="early end"
        ),
        pytest.param({"problems": ("packets are missing",)}, {}, ["packets are missing"], id="a sign in the packets"),
        pytest.param({"problems": tuple("abcde")}, {}, ["a", "b", "c", "d", "e"], id="five signs are all listed"),
        pytest.param(
            {"problems": tuple("abcdefg")}, {}, ["a", "b", "c", "d", "3 more signs of damage"], id="seven signs are not"
        ),
        pytest.param(
            {},
            {"messages": Counter({"h264: error": 2, "aac: error": 1})},
            ["while reading, h264: error (2 times)", "while reading, aac: error"],
            id="messages of decoders",
        ),
        pytest.param(
            {},
            {"messages": Counter({f"h264: {k}": 9 - k for k in range(8)})},
            [*(f"while reading, h264: {k} ({9 - k} times)" for k in range(4)), "4 more messages while reading"],
            id="many messages",
        ),
        pytest.param(
            {},
            {"lost_side_data": {"HDR10+", "closed captions"}},
            ["HDR10+, closed captions cannot be kept"],
            id="side data",
        ),
    ],
)
def test_damage_warnings(film: dict[str, Any], report: dict[str, Any], warnings: list[str]) -> None:
    assert damage_warnings(replace(FILM, **film), ReadReport(**report)) == warnings


@pytest.mark.parametrize(
    ("film", "settings", "warning"),
    [
        pytest.param({"duplicate_frames": 2}, {}, "2 frames have the time of another", id="equal times"),
        pytest.param({"has_timestamps": False}, {}, "has no times; its frames are taken as 25 a second", id="no times"),
        pytest.param({"interlaced": True}, {}, "--deinterlace makes it progressive", id="interlaced"),
        pytest.param({"interlaced": True}, {"deinterlace": "frame"}, None, id="deinterlaced"),
        pytest.param(
            {"colour": Colour("bt601", full_range=False, guessed=("the matrix", "the range"))},
            {},
            "does not say its colours: the matrix; the range",
            id="guessed colours",
        ),
        pytest.param(
            {"colour": Colour("rgb", full_range=True, guessed=("the range",))}, {}, None, id="guessed colours of RGB"
        ),
        pytest.param({"lost_side_data": ("Dolby Vision",)}, {}, "Dolby Vision cannot be kept", id="lost side data"),
    ],
)
def test_source_warnings(film: dict[str, Any], settings: dict[str, Any], warning: str | None) -> None:
    found = source_warnings(replace(FILM, **film), Settings(**settings))
    assert len(found) == (warning is not None)
    assert warning is None or warning in found[0]


def warnings_of_plan(tmp_path: Path, name: str, film: Film, **settings: Any) -> tuple[str, ...]:
    given = Settings(**settings)
    return collect_warnings(make_plan(film, "in.mp4", str(tmp_path / name), given), given, [], ReadReport())


@pytest.mark.parametrize(
    ("film", "name", "settings", "warning"),
    [
        pytest.param({"width": 63}, "out.mp4", {}, "63x48 padded to 64x48", id="padded"),
        pytest.param({}, "out.mp4", {"pixel_format": "yuv444p"}, "pictures are converted from", id="other layout"),
        pytest.param(
            {"layout": RGB, "colour": Colour("rgb", full_range=True)},
            "out.mp4",
            {},
            "the film is RGB and stays so",
            id="RGB in mp4",
        ),
        pytest.param(
            {"sample_aspect_ratio": Fraction(16, 11)},
            "out.mkv",
            {"encoder": "ffv1"},
            "the pixel aspect 16:11 cannot be written",
            id="pixel aspect",
        ),
        pytest.param({"display_matrix": (0,) * 9}, "out.y4m", {}, "rotation cannot be written", id="rotation"),
        pytest.param(
            {"layout": YUV420_10, "hdr": HdrMetadata(mastering_display=(1,) * 20)},
            "out.mkv",
            {"encoder": "ffv1"},
            "ffv1 does not write the film's HDR metadata",
            id="HDR metadata",
        ),
        pytest.param({}, "out.gif", {"fps": Fraction(25)}, "at most 256 colours", id="GIF"),
        pytest.param(
            {"ticks": array("q", [0, 4, 20, 24])}, "out.y4m", {}, "y4m has one frame rate", id="variable rate in y4m"
        ),
        pytest.param(
            {"ticks": array("q", [0, 4, 20, 24])},
            "%03d.png",
            {},
            "pictures have one frame rate",
            id="variable rate in pictures",
        ),
        pytest.param(
            {"ticks": array("q", [-4, 0, 4])}, "out.mp4", {}, "start +0.040 s later than in the film", id="moved start"
        ),
        pytest.param({"metadata": {"timecode": "01:00:00:00"}}, "out.mkv", {}, "time code is kept", id="time code"),
    ],
)
def test_warnings_of_a_plan(
    tmp_path: Path, film: dict[str, Any], name: str, settings: dict[str, Any], warning: str
) -> None:
    found = warnings_of_plan(tmp_path, name, replace(FILM, **film), **settings)
    assert any(warning in text for text in found), found
    assert warnings_of_plan(tmp_path, "plain.mkv", FILM) == ()


def test_all_warnings_are_collected_once(tmp_path: Path) -> None:
    film = replace(FILM, lost_side_data=("closed captions",), interlaced=True)
    settings = Settings()
    plan = make_plan(film, "in.mp4", str(tmp_path / "out.mp4"), settings)
    report = ReadReport(lost_side_data={"closed captions"}, lost=1)
    found = collect_warnings(plan, settings, ["made in tiles", "made in tiles"], report)
    assert found.count("closed captions cannot be kept") == 1
    assert found.count("made in tiles") == 1
    assert sum("interlaced" in text or "could not be decoded" in text for text in found) == 2
    assert len(found) == 4
