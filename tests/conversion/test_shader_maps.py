"""The shader's maps of each pair, on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from converted import convert_quickly
from films import Film


def test_maps_of_every_pair_are_written(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(frames=4, width=64, height=48, scene="half")
    convert_quickly(film_factory(film, ".mp4"), tmp_path / "out.mkv", shader_maps=tmp_path / "maps", shader="paper")
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert len(names) == 3 * 4
    assert {name.rsplit("-", 1)[1] for name in names} == {"difference.png", "processed.png", "blend.png", "share.png"}
    share = np.asarray(Image.open(tmp_path / "maps" / next(name for name in names if name.endswith("-share.png"))))
    assert share.shape == (48, 64)
    assert share.min() == 0
    assert share.max() > 0
