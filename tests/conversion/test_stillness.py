"""What stands still in both frames stands still between them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from films import Film, planes_of
from made_frames import Noise, Planes, disturbed_network, largest_difference, render, use_network
from midframe.conversion import convert
from midframe.networks.base import InterpolationNetwork
from midframe.shader import DEFAULT_PRESET
from midframe.video.colour import Colour
from midframe.video.frame import Layout, planar_layout
from midframe.video.probe import probe
from midframe.video.reader import ReadReport, read_frames

WIDTH, HEIGHT = 128, 96
REACH = DEFAULT_PRESET.radius + 4
"""How far from motion pixels may change: the shader's blur, and what interpolated chroma reaches beyond a pixel."""

FORMATS = ["yuv420p", "yuv420p10le", "yuv422p", "yuv422p10le", "yuv444p", "yuv420p12le", "gray", "gbrp"]
REAL = {
    "river-boat-still.mp4": "yuv420p",
    "cockatoo-yuv444-20fps.mp4": "yuv444p",
    "phone-hlg-10bit-rotated.mp4": "yuv420p10le",
    "phone-hdr10-av1-portrait.mp4": "yuv420p10le",
    "coast-aerial.mp4": "yuvj420p",
}
TIMES = [Fraction(1, 4), Fraction(1, 2), Fraction(2, 3)]

NETWORKS: dict[str, Callable[[], InterpolationNetwork]] = {
    "noise": Noise,
    "guided": lambda: disturbed_network("guided", 0.05),
    "paper": lambda: disturbed_network("paper", 0.003),
}


def saturated(name: str) -> tuple[Layout, Colour, Planes, Planes]:
    """Frames of blocks of pure colours, equal but for their right third."""
    film = Film(WIDTH, HEIGHT, pixel_format=name, matrix="bt709")
    layout = planar_layout(name)
    assert layout is not None
    colour = Colour({"yuv": "bt709"}.get(layout.family, layout.family), layout.family == "rgb")
    rng = np.random.default_rng(11)
    blocks = [rng.integers(0, 2, (HEIGHT // 8, WIDTH // 8, 3)).astype(float) for _ in "ab"]
    first, moved = (planes_of(film, np.kron(b, np.ones((8, 8, 1)))) for b in blocks)
    if film.format.is_rgb:
        first, moved = ((p[2], p[0], p[1]) for p in (first, moved))
    return layout, colour, first, replaced(first, moved)


def replaced(still: Planes, moved: Planes) -> Planes:
    """The first frame with the right third of the second."""
    out = []
    for a, b in zip(still, moved, strict=True):
        plane = a.copy()
        plane[:, a.shape[1] * 2 // 3 :] = b[:, a.shape[1] * 2 // 3 :]
        out.append(plane)
    return tuple(out)


def still_part(planes: Planes) -> Callable[[int], Any]:
    """The part of each plane that lies further than the reach from what moves."""

    def where(k: int) -> Any:
        width = planes[k].shape[1]
        return np.s_[:, : width * 2 // 3 - -(-REACH * width // planes[0].shape[1])]

    return where


def crop(planes: Planes, layout: Layout) -> Planes:
    """A part from the middle of a frame."""
    top, left = planes[0].shape[0] // 3 & ~3, planes[0].shape[1] // 3 & ~3
    out = []
    for k, plane in enumerate(planes):
        x, y = (layout.shift_x, layout.shift_y) if k else (0, 0)
        out.append(plane[top >> y : top + HEIGHT >> y, left >> x : left + WIDTH >> x].copy())
    return tuple(out)


def stays(layout: Layout, colour: Colour, first: Planes, second: Planes, network: str = "average") -> None:
    """Still parts stay within a code value and on the whole far nearer."""
    where = still_part(first)
    for frame in render(layout, colour, first, second, times=TIMES, network=network):
        assert largest_difference(frame.planes, first, where) <= 1
        deviations = [
            np.abs(a.astype(float) - b)[where(k)].mean()
            for k, (a, b) in enumerate(zip(frame.planes, first, strict=True))
        ]
        assert max(deviations) < 0.05


def check(layout: Layout, colour: Colour, first: Planes, second: Planes) -> None:
    """Still parts stay though the network (put in by `use_network`) disturbs them: it is the shader that keeps them."""
    stays(layout, colour, first, second)
    where = still_part(first)
    shaderless = render(layout, colour, first, second, times=TIMES, shader="off")
    assert all(largest_difference(frame.planes, first, where) > 1 for frame in shaderless)


@pytest.mark.parametrize("name", FORMATS)
def test_still_part_of_saturated_colours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_network(monkeypatch, Noise())
    check(*saturated(name))


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le"])
def test_still_part_right_up_to_the_radius(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract to the letter, without a margin for sub-sampled chroma."""
    use_network(monkeypatch, Noise())
    layout, colour, first, second = saturated(name)
    edge = first[1].shape[1] * 2 // 3 << layout.shift_x  # what moves begins here, in pixels
    for frame in render(layout, colour, first, second):
        for k, (mine, true) in enumerate(zip(frame.planes, first, strict=True)):
            still = (edge - DEFAULT_PRESET.radius) >> (layout.shift_x if k else 0)
            assert np.abs(mine.astype(int) - true)[:, :still].max() <= 1


@pytest.mark.parametrize("network", ["guided", "paper"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le"])
def test_still_part_with_our_networks(network: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    use_network(monkeypatch, NETWORKS[network]())
    check(*saturated(name))


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le"])
def test_still_part_with_the_trained_default(name: str) -> None:
    stays(*saturated(name), network="default")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shader", ["default", "paper", "off"])
def test_equal_frames_in_the_middle_of_a_film(name: str, shader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a network that makes noise is asked: what it leaves alone is left alone, bit for bit."""

    class Mean(Noise):
        def forward(self, first: torch.Tensor, second: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return (1 - time[0]) * first + time[0] * second

    use_network(monkeypatch, Mean())
    layout, colour, first, _ = saturated(name)
    for frame in render(layout, colour, first, tuple(p.copy() for p in first), times=TIMES, shader=shader):
        assert largest_difference(frame.planes, first) == 0


@pytest.mark.parametrize(
    "film", [Film(scene="static", frames=5), Film(scene="bars", frames=5, pixel_format="yuv422p10le")]
)
def test_equal_frames_pass_by_the_network(
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
@pytest.mark.parametrize("name", REAL)
def test_still_part_of_real_frames(name: str, network: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_network(monkeypatch, NETWORKS[network]())
    film = probe(shared_data / "films" / name)
    assert film.pixel_format == REAL[name]
    frames = [frame for frame, _ in zip(read_frames(film, ReadReport()), range(21), strict=False)]
    first, later = (crop(frames[k].planes, film.layout) for k in (0, 20))
    check(film.layout, film.colour, first, replaced(first, later))
