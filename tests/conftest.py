"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from films import Film, draw
from midframe.video.frame import Layout

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return the test id of a parameter for which pytest would only count; None leaves it to pytest."""
    if isinstance(val, Layout):
        return val.name
    if isinstance(val, Fraction):
        return str(val).replace("/", ":")
    if isinstance(val, dict):
        return " ".join(f"{key}={value}" for key, value in val.items()) or "defaults"
    return None


@pytest.fixture(scope="session")
def film_factory(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`film_factory(film, ".mp4")`: the path of that film, drawn once a session. Read it, do not change it."""
    drawn: dict[str, Path] = {}

    def factory(film: Film | None = None, suffix: str = ".mp4") -> Path:
        film = film or Film()
        key = f"{film!r}{suffix}"
        if key not in drawn:
            drawn[key] = draw(film, tmp_path_factory.mktemp("film") / f"film{suffix}")
        return drawn[key]

    return factory


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real films and triplets, which not every machine has."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real films in {SHARED_DATA}")
    return SHARED_DATA
