"""`convert`, `Settings` and the options of `midframe convert` have the same names, types and defaults."""

from __future__ import annotations

import dataclasses
import inspect
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import typer

import midframe
import midframe.conversion.api
from midframe.cli.app import app
from midframe.conversion import Settings

CONTROLS = {"progress", "cancel", "dry_run"}
"""Keywords of `convert` that say how it runs, not what comes out."""

FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
KEYWORDS = {
    name: parameter
    for name, parameter in inspect.signature(midframe.convert).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
}


def test_every_setting_is_a_keyword() -> None:
    assert set(KEYWORDS) == set(FIELDS) | CONTROLS


@pytest.mark.parametrize("name", FIELDS)
def test_keywords_have_the_types_and_defaults_of_the_settings(name: str) -> None:
    assert KEYWORDS[name].annotation == FIELDS[name].type
    assert KEYWORDS[name].default == FIELDS[name].default


@pytest.mark.parametrize("name", KEYWORDS)
def test_keywords_are_documented_in_order(name: str) -> None:
    documentation = inspect.getdoc(midframe.convert)
    assert documentation is not None
    lines = [line.strip().partition(":")[0] for line in documentation.splitlines()]
    documented = [line for line in lines if line in KEYWORDS]
    assert documented == list(KEYWORDS)
    assert name in documented


OTHER_VALUES: dict[str, Any] = {
    "factor": 3,
    "fps": Fraction(60),
    "slow_motion": True,
    "audio": "stretch",
    "start": Fraction(1),
    "duration": Fraction(2),
    "codec": "h265",
    "encoder": "ffv1",
    "crf": 20.0,
    "preset": "fast",
    "pixel_format": "yuv420p",
    "odd": "error",
    "drop_alpha": True,
    "deinterlace": "field",
    "cuts": False,
    "keep_going": True,
    "overwrite": True,
    "network": "average",
    "shader": "off",
    "shader_maps": Path("maps"),
    "device": "cpu",
    "input_rate": Fraction(10),
}
"""For each setting a value that is not its default."""


@pytest.mark.parametrize("name", FIELDS)
def test_keywords_reach_the_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[Settings] = []
    monkeypatch.setattr(midframe.conversion.api, "run_conversion", lambda *given, **_: received.append(given[2]))
    required = {"slow_motion": True} if name == "audio" else {}
    midframe.convert("in.mp4", "out.mp4", **{name: OTHER_VALUES[name], **required})
    assert received == [Settings(**{name: OTHER_VALUES[name], **required})]
    assert received != [Settings(**required)]


def test_every_setting_is_an_option_of_the_command() -> None:
    group = typer.main.get_command(app)
    options = {option.name for option in group.commands["convert"].params}  # type: ignore[attr-defined]
    assert set(FIELDS) <= options
