"""Frames made on the convert road: the right picture, in the layout that is written, named and counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from converted import convert_quickly
from films import Film, picture, planes, read_frames, rgb_of
from made_frames import Noise, Shift, largest, make, use
from midframe import networks
from midframe.conversion import convert
from midframe.conversion.render import Renderer
from midframe.conversion.settings import Settings
from midframe.device import choose_device
from midframe.errors import DeviceError, SettingError, WeightsError
from midframe.networks.average import Average
from midframe.networks.base import InterpolationNetwork
from midframe.video.colour import Colour, colour_of_stream
from midframe.video.frame import Layout
from midframe.video.timeline import Timeline

LAYOUT = Layout("yuv", 8, 1, 1)
COLOUR = Colour("bt709", False)


def frames_of(layout: Layout, seed: int, width: int = 64, height: int = 48) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, layout.peak + 1, size).astype(layout.dtype) for size in layout.sizes(width, height))


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_a_moving_edge_in_a_film(
    name: str, matrix: str, film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saturated red and blue, moving 4 pixels a frame: a network that knows the motion gives the true film."""
    film = Film(96, 48, frames=8, scene="edge", speed=(4.0, 0.0), codec="ffv1", pixel_format=name, matrix=matrix)
    use(monkeypatch, Shift(4))
    convert(film_factory(film, ".mkv"), tmp_path / "out.mkv", encoder="ffv1", shader="off")
    found = read_frames(tmp_path / "out.mkv")
    assert len(found) == 15
    for k, frame in enumerate(found):
        assert frame.pixel_format == name
        assert largest(frame.planes, planes(film, Fraction(k, 48))) <= (1 if k % 2 else 0)


@pytest.mark.parametrize("shader", ["default", "paper", "off"])
@pytest.mark.parametrize("layout", [LAYOUT, Layout("yuv", 10, 1, 0), Layout("rgb", 8), Layout("gray", 12)])
def test_the_short_way_of_averaging_is_the_long_one(
    layout: Layout, shader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`average` needs no RGB; the same network through RGB and back gives the same frames."""

    class LongWay(InterpolationNetwork):
        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            answer: Tensor = Average()(first, second, time)
            return answer

    colour = Colour(layout.family if layout.family != "yuv" else "bt601", layout.family == "rgb")
    first, second = frames_of(layout, 1), frames_of(layout, 2)
    times = [Fraction(1, 4), Fraction(1, 2), Fraction(2, 3)]
    short = make(layout, colour, first, second, times=times, shader=shader, network="average")
    use(monkeypatch, LongWay())
    long = make(layout, colour, first, second, times=times, shader=shader)
    for a, b, time in zip(short, long, times, strict=True):
        assert (a.time, a.duration) == (time, Fraction(1, 10))
        assert largest(a.planes, b.planes) <= 1
        for plane, x, y in zip(a.planes, first, second, strict=True):
            assert np.abs(plane - (x * (1 - float(time)) + y * float(time))).max() <= 0.51


def test_source_frames_are_not_touched() -> None:
    """Positions 0 and 1 are the source frames themselves, whatever lies between."""
    first, second = frames_of(LAYOUT, 1), frames_of(LAYOUT, 2)
    kept = [plane.copy() for plane in (*first, *second)]
    a, _, b = make(LAYOUT, COLOUR, first, second, times=[Fraction(0), Fraction(1, 2), Fraction(1)], network="average")
    assert a.planes is first
    assert b.planes is second
    assert all(np.array_equal(x, y) for x, y in zip(kept, (*first, *second), strict=True))


@pytest.mark.parametrize("held", ["cut", "gap", "lost"])
def test_held_pairs_ask_no_network(held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Noise()
    use(monkeypatch, network)
    first, second = frames_of(LAYOUT, 1), frames_of(LAYOUT, 2)
    times = [Fraction(k, 4) for k in range(1, 4)]
    made = make(LAYOUT, COLOUR, first, second, times=times, hold_reason=held)  # type: ignore[arg-type]
    assert [frame.planes for frame in made] == [first, first, second]
    assert network.calls == 0


def test_the_picture_that_the_network_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """RGB of the nominal range, each frame converted once though it belongs to two pairs."""
    seen: list[Tensor] = []

    class Watch(InterpolationNetwork):
        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            seen.extend((first, second))
            return first

    use(monkeypatch, Watch())
    white = tuple(np.full(s, v, np.uint8) for s, v in zip(LAYOUT.sizes(64, 48), (235, 128, 128), strict=True))
    black = tuple(np.full(s, v, np.uint8) for s, v in zip(LAYOUT.sizes(64, 48), (16, 128, 128), strict=True))
    make(LAYOUT, COLOUR, black, white)
    assert [tuple(t.shape) for t in seen] == [(1, 3, 48, 64)] * 2
    assert torch.allclose(seen[0], torch.zeros(1), atol=1e-6)
    assert torch.allclose(seen[1], torch.ones(1), atol=1e-6)


def test_an_answer_that_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(InterpolationNetwork):
        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            return first * float("nan")

    use(monkeypatch, Broken())
    with pytest.raises(WeightsError, match="not numbers") as caught:
        make(LAYOUT, COLOUR, frames_of(LAYOUT, 1), frames_of(LAYOUT, 2))
    assert "\n" not in str(caught.value)


def test_many_frames_between_two_are_made_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large factor does not hold all answers of the network at once."""
    alive = 0
    most = 0

    class Counted(Noise):
        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            nonlocal alive, most
            answer = super().forward(first, second, time)
            alive += 1
            most = max(most, alive)
            weakref.finalize(answer, gone)
            return answer

    def gone() -> None:
        nonlocal alive
        alive -= 1

    use(monkeypatch, Counted())
    times = [Fraction(k, 32) for k in range(1, 32)]
    assert len(make(LAYOUT, COLOUR, frames_of(LAYOUT, 1), frames_of(LAYOUT, 2), times=times)) == 31
    assert most <= 3


def test_names_and_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Renderer(Settings(network="average", device="cpu"), LAYOUT, COLOUR, (LAYOUT, COLOUR))
    assert {**maker.names, "backend": ""} == {"network": "average", "shader": "off", "backend": "", "device": "cpu"}
    two = Timeline(Fraction(0), Fraction(0), factor=2)
    assert maker.warnings(two) == [
        "the made frames are averages of their neighbours: average moves nothing; default is trained"
    ]
    maker = Renderer(Settings(network="guided", device="cpu"), LAYOUT, COLOUR, (LAYOUT, COLOUR))
    assert maker.warnings(two) == [
        "the made frames are averages of their neighbours: guided is untrained; default is trained"
    ]
    maker = Renderer(Settings(device="cpu"), LAYOUT, COLOUR, (LAYOUT, COLOUR))
    assert maker.warnings(two) == []
    assert (maker.names["network"], maker.names["shader"]) == ("guided", "amplified")

    class Middle(Noise):
        any_time = False

    use(monkeypatch, Middle())
    maker = Renderer(Settings(device="cpu"), LAYOUT, COLOUR, (LAYOUT, COLOUR))
    assert maker.names["shader"] != "off"
    said = {
        factor: " ".join(maker.warnings(Timeline(Fraction(0), Fraction(0), factor=factor))) for factor in (2, 3, 4, 8)
    }
    assert {factor for factor, text in said.items() if "nearest eighth" in text} == {3}
    rate = Timeline(Fraction(0), Fraction(0), rate=Fraction(60))
    assert "nearest eighth" in " ".join(maker.warnings(rate))


def test_a_network_of_middles_in_a_film(
    film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Factor 4 of a film whose brightness rises evenly rises evenly, too, from a network that makes only the middle."""

    class Middle(InterpolationNetwork):
        any_time = False

        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            return (first + second) / 2

    use(monkeypatch, Middle())
    film = Film(frames=4, scene="texture", codec="ffv1")
    summary = convert(film_factory(film, ".mkv"), tmp_path / "out.mkv", factor=4, encoder="ffv1", shader="off")
    source, found = read_frames(film_factory(film, ".mkv")), read_frames(tmp_path / "out.mkv")
    assert not [said for said in summary.warnings if "eighth" in said]
    for k, frame in enumerate(found[:-1]):
        a, b = (source[k // 4 + j].planes[0].astype(float) for j in (0, 1))
        assert np.abs(frame.planes[0] - (a + (b - a) * (k % 4) / 4)).max() <= 0.51


def test_other_layouts_on_request(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """RGB from YUV: by the film's own matrix, the same for source frames and made ones."""
    film = Film(frames=3, scene="bars", matrix="bt601", codec="ffv1", pixel_format="yuv444p")
    convert_quickly(film_factory(film, ".mkv"), tmp_path / "out.mkv", pixel_format="gbrp")
    true = picture(film, 0)
    for frame in read_frames(tmp_path / "out.mkv"):
        found = rgb_of(Film(pixel_format=frame.pixel_format), frame.planes)
        assert np.abs(found - true).max() <= 2.5 / 255


def test_wrong_names() -> None:
    for wishes, error in (
        ({"network": "nosuch"}, SettingError),
        ({"network": "average", "shader": "nosuch"}, SettingError),
        ({"device": "nosuch"}, DeviceError),
        ({"device": "cuda:99"}, DeviceError),
    ):
        with pytest.raises(error) as caught:
            Renderer(Settings(**wishes), LAYOUT, COLOUR, (LAYOUT, COLOUR))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert choose_device("cpu") == torch.device("cpu")


def test_threads_of_torch_are_left_alone() -> None:
    before = torch.get_num_threads()
    make(LAYOUT, colour_of_stream(LAYOUT, height=48, codec="h264"), frames_of(LAYOUT, 1), frames_of(LAYOUT, 2))
    assert torch.get_num_threads() == before
    assert networks.load("average").is_untrained_average
