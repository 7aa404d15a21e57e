"""The renderer of conversions: interpolated frames, layouts, names and warnings."""

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
from made_frames import Noise, Shift, largest_difference, render, use_network
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


def random_planes(layout: Layout, seed: int, width: int = 64, height: int = 48) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, layout.peak + 1, size).astype(layout.dtype) for size in layout.sizes(width, height))


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_a_moving_edge_in_a_film_is_exact(
    name: str, matrix: str, film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saturated red and blue move 4 pixels per frame; a network that knows the motion gives the true film."""
    film = Film(96, 48, frames=8, scene="edge", speed=(4.0, 0.0), codec="ffv1", pixel_format=name, matrix=matrix)
    use_network(monkeypatch, Shift(4))
    convert(film_factory(film, ".mkv"), tmp_path / "out.mkv", encoder="ffv1", shader="off")
    found = read_frames(tmp_path / "out.mkv")
    assert len(found) == 15
    for k, frame in enumerate(found):
        assert frame.pixel_format == name
        assert largest_difference(frame.planes, planes(film, Fraction(k, 48))) <= (1 if k % 2 else 0)


@pytest.mark.parametrize("shader", ["default", "paper", "off"])
@pytest.mark.parametrize("layout", [LAYOUT, Layout("yuv", 10, 1, 0), Layout("rgb", 8), Layout("gray", 12)])
def test_averaging_planes_equals_averaging_in_rgb(layout: Layout, shader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`average` skips the conversion to RGB; a network that does the same in RGB gives the same frames."""

    class AverageInRgb(InterpolationNetwork):
        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            frame: Tensor = Average()(first, second, time)
            return frame

    colour = Colour(layout.family if layout.family != "yuv" else "bt601", layout.family == "rgb")
    first, second = random_planes(layout, 1), random_planes(layout, 2)
    times = [Fraction(1, 4), Fraction(1, 2), Fraction(2, 3)]
    by_planes = render(layout, colour, first, second, times=times, shader=shader, network="average")
    use_network(monkeypatch, AverageInRgb())
    in_rgb = render(layout, colour, first, second, times=times, shader=shader)
    for a, b, time in zip(by_planes, in_rgb, times, strict=True):
        assert (a.time, a.duration) == (time, Fraction(1, 10))
        assert largest_difference(a.planes, b.planes) <= 1
        for plane, x, y in zip(a.planes, first, second, strict=True):
            assert np.abs(plane - (x * (1 - float(time)) + y * float(time))).max() <= 0.51


def test_source_frames_are_not_changed() -> None:
    """Positions 0 and 1 are the source frames themselves, whatever lies between."""
    first, second = random_planes(LAYOUT, 1), random_planes(LAYOUT, 2)
    copies = [plane.copy() for plane in (*first, *second)]
    a, _, b = render(LAYOUT, COLOUR, first, second, times=[Fraction(0), Fraction(1, 2), Fraction(1)], network="average")
    assert a.planes is first
    assert b.planes is second
    assert all(np.array_equal(x, y) for x, y in zip(copies, (*first, *second), strict=True))


@pytest.mark.parametrize("held", ["cut", "gap", "lost"])
def test_pairs_with_a_hold_reason_are_not_interpolated(held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Noise()
    use_network(monkeypatch, network)
    first, second = random_planes(LAYOUT, 1), random_planes(LAYOUT, 2)
    times = [Fraction(k, 4) for k in range(1, 4)]
    frames = render(LAYOUT, COLOUR, first, second, times=times, hold_reason=held)  # type: ignore[arg-type]
    assert [frame.planes for frame in frames] == [first, first, second]
    assert network.calls == 0


def test_the_input_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The input is RGB of the nominal range."""
    inputs: list[Tensor] = []

    class Recorder(InterpolationNetwork):
        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            inputs.extend((first, second))
            return first

    use_network(monkeypatch, Recorder())
    white = tuple(np.full(s, v, np.uint8) for s, v in zip(LAYOUT.sizes(64, 48), (235, 128, 128), strict=True))
    black = tuple(np.full(s, v, np.uint8) for s, v in zip(LAYOUT.sizes(64, 48), (16, 128, 128), strict=True))
    render(LAYOUT, COLOUR, black, white)
    assert [tuple(t.shape) for t in inputs] == [(1, 3, 48, 64)] * 2
    assert torch.allclose(inputs[0], torch.zeros(1), atol=1e-6)
    assert torch.allclose(inputs[1], torch.ones(1), atol=1e-6)


def test_a_prediction_that_is_not_finite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(InterpolationNetwork):
        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            return first * float("nan")

    use_network(monkeypatch, Broken())
    with pytest.raises(WeightsError, match="not numbers") as caught:
        render(LAYOUT, COLOUR, random_planes(LAYOUT, 1), random_planes(LAYOUT, 2))
    assert "\n" not in str(caught.value)


def test_many_frames_between_two_are_rendered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large factor does not keep all predictions of the network in memory."""
    alive = 0
    most = 0

    class Counted(Noise):
        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            nonlocal alive, most
            frame = super().forward(first, second, time)
            alive += 1
            most = max(most, alive)
            weakref.finalize(frame, freed)
            return frame

    def freed() -> None:
        nonlocal alive
        alive -= 1

    use_network(monkeypatch, Counted())
    times = [Fraction(k, 32) for k in range(1, 32)]
    assert len(render(LAYOUT, COLOUR, random_planes(LAYOUT, 1), random_planes(LAYOUT, 2), times=times)) == 31
    assert most <= 3


def test_names_and_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer(Settings(network="average", device="cpu"), LAYOUT, COLOUR, (LAYOUT, COLOUR))
    assert {**renderer.names, "backend": ""} == {"network": "average", "shader": "off", "backend": "", "device": "cpu"}
    two = Timeline(Fraction(0), Fraction(0), factor=2)
    assert renderer.warnings(two) == [
        "the made frames are averages of their neighbours: average moves nothing; default is trained"
    ]
    renderer = Renderer(Settings(network="guided", device="cpu"), LAYOUT, COLOUR, (LAYOUT, COLOUR))
    assert renderer.warnings(two) == [
        "the made frames are averages of their neighbours: guided is untrained; default is trained"
    ]
    renderer = Renderer(Settings(device="cpu"), LAYOUT, COLOUR, (LAYOUT, COLOUR))
    assert renderer.warnings(two) == []
    assert (renderer.names["network"], renderer.names["shader"]) == ("guided", "amplified")

    class MiddleOnly(Noise):
        any_time = False

    use_network(monkeypatch, MiddleOnly())
    renderer = Renderer(Settings(device="cpu"), LAYOUT, COLOUR, (LAYOUT, COLOUR))
    assert renderer.names["shader"] != "off"
    warnings = {
        factor: " ".join(renderer.warnings(Timeline(Fraction(0), Fraction(0), factor=factor)))
        for factor in (2, 3, 4, 8)
    }
    assert {factor for factor, text in warnings.items() if "nearest eighth" in text} == {3}
    rate = Timeline(Fraction(0), Fraction(0), rate=Fraction(60))
    assert "nearest eighth" in " ".join(renderer.warnings(rate))


def test_a_network_for_the_middle_alone_in_a_film(
    film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At factor 4 the recursion gives the linear blend of the source frames at every quarter."""

    class MiddleOnly(InterpolationNetwork):
        any_time = False

        def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
            return (first + second) / 2

    use_network(monkeypatch, MiddleOnly())
    film = Film(frames=4, scene="texture", codec="ffv1")
    summary = convert(film_factory(film, ".mkv"), tmp_path / "out.mkv", factor=4, encoder="ffv1", shader="off")
    source, found = read_frames(film_factory(film, ".mkv")), read_frames(tmp_path / "out.mkv")
    assert not [warning for warning in summary.warnings if "eighth" in warning]
    for k, frame in enumerate(found[:-1]):
        a, b = (source[k // 4 + j].planes[0].astype(float) for j in (0, 1))
        assert np.abs(frame.planes[0] - (a + (b - a) * (k % 4) / 4)).max() <= 0.51


def test_another_output_layout(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """RGB from YUV by the film's own matrix, the same for source frames and interpolated frames."""
    film = Film(frames=3, scene="bars", matrix="bt601", codec="ffv1", pixel_format="yuv444p")
    convert_quickly(film_factory(film, ".mkv"), tmp_path / "out.mkv", pixel_format="gbrp")
    true = picture(film, 0)
    for frame in read_frames(tmp_path / "out.mkv"):
        found = rgb_of(Film(pixel_format=frame.pixel_format), frame.planes)
        assert np.abs(found - true).max() <= 2.5 / 255


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        pytest.param({"network": "nosuch"}, SettingError, "no network or weights file 'nosuch'", id="network"),
        pytest.param({"network": "average", "shader": "nosuch"}, SettingError, "no shader preset", id="shader"),
        pytest.param({"device": "nosuch"}, DeviceError, "the device 'nosuch' cannot be used", id="device"),
        pytest.param({"device": "cuda:99"}, DeviceError, "the device 'cuda:99' cannot be used", id="device number"),
    ],
)
def test_unknown_names_are_refused(settings: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Renderer(Settings(**settings), LAYOUT, COLOUR, (LAYOUT, COLOUR))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_device_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_the_number_of_threads_is_not_changed() -> None:
    before = torch.get_num_threads()
    render(
        LAYOUT, colour_of_stream(LAYOUT, height=48, codec="h264"), random_planes(LAYOUT, 1), random_planes(LAYOUT, 2)
    )
    assert torch.get_num_threads() == before
    assert networks.load("average").is_untrained_average
