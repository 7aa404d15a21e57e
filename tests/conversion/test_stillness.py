"""Regions that do not move between two source frames do not change in the frames between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from films import Film
from made_frames import Noise, Planes, largest_difference, render, use_network
from midframe.conversion import convert
from midframe.shader import DEFAULT_PRESET
from midframe.video.colour import Colour
from midframe.video.frame import Layout
from midframe.video.probe import probe
from midframe.video.reader import ReadReport, read_frames
from static_regions import (
    NETWORKS,
    REAL_FILMS,
    TIMES,
    crop_middle,
    replace_right_third,
    saturated_frames,
    static_region,
)

FORMATS = ["yuv420p", "yuv420p10le", "yuv422p", "yuv422p10le", "yuv444p", "yuv420p12le", "gray", "gbrp"]


def check_static_region(
    layout: Layout, colour: Colour, first: Planes, second: Planes, network: str = "average"
) -> None:
    """Check that the static region changes by 1 code value at most, and by less than 0.05 on average."""
    region = static_region(first)
    for frame in render(layout, colour, first, second, times=TIMES, network=network):
        assert largest_difference(frame.planes, first, region) <= 1
        deviations = [
            np.abs(a.astype(float) - b)[region(k)].mean()
            for k, (a, b) in enumerate(zip(frame.planes, first, strict=True))
        ]
        assert max(deviations) < 0.05


def check_shader(layout: Layout, colour: Colour, first: Planes, second: Planes) -> None:
    """Check that the shader keeps the static region although the network, set by `use_network`, disturbs it."""
    check_static_region(layout, colour, first, second)
    region = static_region(first)
    shaderless = render(layout, colour, first, second, times=TIMES, shader="off")
    assert all(largest_difference(frame.planes, first, region) > 1 for frame in shaderless)


@pytest.mark.parametrize("name", FORMATS)
def test_static_region_of_saturated_colours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_network(monkeypatch, Noise())
    check_shader(*saturated_frames(name))


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le"])
def test_static_region_up_to_the_radius_of_the_shader(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact contract, without a margin for subsampled chroma."""
    use_network(monkeypatch, Noise())
    layout, colour, first, second = saturated_frames(name)
    edge = first[1].shape[1] * 2 // 3 << layout.shift_x  # pixels from here on differ
    for frame in render(layout, colour, first, second):
        for k, (plane, source) in enumerate(zip(frame.planes, first, strict=True)):
            limit = (edge - DEFAULT_PRESET.radius) >> (layout.shift_x if k else 0)
            assert np.abs(plane.astype(int) - source)[:, :limit].max() <= 1


@pytest.mark.parametrize("network", ["guided", "paper"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le"])
def test_static_region_with_disturbed_networks(network: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    use_network(monkeypatch, NETWORKS[network]())
    check_shader(*saturated_frames(name))


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le"])
def test_static_region_with_the_trained_default(name: str) -> None:
    check_static_region(*saturated_frames(name), network="default")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shader", ["default", "paper", "off"])
def test_equal_frames_stay_equal_with_any_shader(name: str, shader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that returns the weighted mean of two equal frames changes nothing, bit for bit."""

    class Mean(Noise):
        def forward(self, first: torch.Tensor, second: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return (1 - time[0]) * first + time[0] * second

    use_network(monkeypatch, Mean())
    layout, colour, first, _ = saturated_frames(name)
    for frame in render(layout, colour, first, tuple(p.copy() for p in first), times=TIMES, shader=shader):
        assert largest_difference(frame.planes, first) == 0


@pytest.mark.parametrize(
    "film", [Film(scene="static", frames=5), Film(scene="bars", frames=5, pixel_format="yuv422p10le")]
)
def test_equal_frames_are_not_given_to_the_network(
    film: Film, film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Noise()
    use_network(monkeypatch, network)
    path = film_factory(Film(**{**vars(film), "codec": "ffv1"}), ".mkv")
    summary = convert(path, tmp_path / "out.mkv", factor=3, encoder="ffv1")
    found = probe(tmp_path / "out.mkv")
    frames = list(read_frames(found, ReadReport()))
    assert len(frames) == 13
    assert network.calls == 0
    assert summary.counts.repeated == 8
    assert all(frame.same_picture(frames[0]) for frame in frames)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", REAL_FILMS)
def test_static_region_of_real_frames(
    name: str, network: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_network(monkeypatch, NETWORKS[network]())
    film = probe(shared_data / "films" / name)
    assert film.pixel_format == REAL_FILMS[name]
    frames = [frame for frame, _ in zip(read_frames(film, ReadReport()), range(21), strict=False)]
    first, later = (crop_middle(frames[k].planes, film.layout) for k in (0, 20))
    check_shader(film.layout, film.colour, first, replace_right_third(first, later))
