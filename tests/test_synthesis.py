"""The recipe of an interpolated frame: prediction, finite check, clip, shader, and what pairs share."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import midframe
from midframe import networks
from midframe.errors import SettingError, WeightsError
from midframe.networks import models
from midframe.networks.base import (
    NO_HINTS,
    FrameWindow,
    Hints,
    InterpolationNetwork,
    MapName,
    Prediction,
    PreparedPair,
    weighted_mean,
)
from midframe.networks.guided import Guided
from midframe.networks.weights import save_weights
from midframe.shader import PAPER, apply_shader, blend_map
from midframe.synthesis import Synthesiser

HALF = Fraction(1, 2)


class Constant(InterpolationNetwork):
    """Predicts one value everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        return torch.full_like(first, self.value)


def frames_with_small_changes(batch: int = 1) -> tuple[Tensor, Tensor]:
    """Two frames in 0..1 that differ by 0 to 12 levels of 255, so that the shader mixes prediction and mean."""
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(batch, 3, 48, 64, generator=generator) * 0.9
    return first, first + torch.linspace(0, 12 / 255, 64)


def synthesise(network: InterpolationNetwork, first: Tensor, second: Tensor, shader: str = "off") -> Tensor:
    return Synthesiser(network, shader).prepare(FrameWindow(first, second)).at(HALF).frame


@pytest.mark.parametrize("shader", ["off", "paper", "amplified"])
@pytest.mark.parametrize(("value", "clipped"), [(1.6, 1.0), (-0.7, 0.0)])
def test_the_prediction_is_clipped_before_the_shader(value: float, clipped: float, shader: str) -> None:
    frames = frames_with_small_changes()
    outside, limit = (synthesise(Constant(v), *frames, shader) for v in (value, clipped))
    assert torch.equal(outside, limit)
    assert (limit != clipped).any() == (shader != "off"), "the shader must mix somewhere"


def test_clipping_after_the_shader_would_show_through() -> None:
    """Where the shader mixes, a prediction of 1.6 that is clipped too late is off by many levels."""
    first, second = frames_with_small_changes()
    late = apply_shader(torch.full_like(first, 1.6), first, second, 0.5, blend_map(first, second, PAPER), PAPER)
    early = synthesise(Constant(1.6), first, second, "paper")
    assert (late.clamp(0, 1) - early).abs().max() * 255 > 50


def test_colours_outside_the_gamut_of_the_source_frames_stay() -> None:
    """A YUV film holds whites above 1; the limits of each pair of a batch are its own."""
    first, second = frames_with_small_changes(batch=2)
    first[0, 0, 0, 0], second[0, 0, 0, 1] = 1.09, -0.07
    high, low = (synthesise(Constant(value), first, second) for value in (1.6, -0.7))
    assert high.amax((1, 2, 3)).tolist() == pytest.approx([1.09, 1.0])
    assert low.amin((1, 2, 3)).tolist() == pytest.approx([-0.07, 0.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_an_error(value: float) -> None:
    with pytest.raises(WeightsError, match="the network constant gave values that are not numbers"):
        synthesise(Constant(value), *frames_with_small_changes())


def test_the_shader_is_applied_with_the_time_of_the_frame() -> None:
    first, second = frames_with_small_changes()
    frame = Synthesiser(Constant(0.5), "paper").prepare(FrameWindow(first, second)).at(Fraction(1, 4)).frame
    blend = blend_map(first, second, PAPER)
    assert torch.equal(frame, apply_shader(torch.full_like(first, 0.5), first, second, 0.25, blend, PAPER))


def test_presets_by_name() -> None:
    assert Synthesiser(Constant(0.5), "paper").shader is PAPER
    assert Synthesiser(Constant(0.5), "off").shader is None
    assert Synthesiser(networks.load("average"), "paper").shader is None, "a mean needs no shader"
    with pytest.raises(SettingError, match="no shader preset 'sharp'"):
        Synthesiser(Constant(0.5), "sharp")


class Remembering(InterpolationNetwork):
    """Leaves over the second frame, and records what every pair was prepared from."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[tuple[FrameWindow, Hints, object]] = []

    def prepare(self, window: FrameWindow, hints: Hints = NO_HINTS, carried: object | None = None) -> PreparedPair:
        self.prepared.append((window, hints, carried))
        return RememberingPair(window)


class RememberingPair(PreparedPair):
    def __init__(self, window: FrameWindow) -> None:
        self.window, self.carried = window, window.second

    def at(self, time: Tensor, maps: Collection[MapName] = ()) -> Prediction:
        frame = weighted_mean(self.window.first, self.window.second, time)
        return Prediction(frame, confidence=frame[:, :1] if "confidence" in maps else None)


def test_a_pair_is_prepared_once_and_leaves_something_to_the_next() -> None:
    network, frames = Remembering(), [torch.rand(1, 3, 16, 16) for _ in range(4)]
    synthesiser, hints = Synthesiser(network, "off"), Hints(static_mask=torch.ones(1, 1, 16, 16))
    for first, second in ((0, 1), (1, 2), (0, 3)):
        pair = synthesiser.prepare(FrameWindow(frames[first], frames[second]), hints)
        for time in (Fraction(1, 3), Fraction(2, 3)):
            expected = torch.lerp(frames[first], frames[second], float(time))
            torch.testing.assert_close(pair.at(time).frame, expected)
    assert [window.second for window, _, _ in network.prepared] == [frames[1], frames[2], frames[3]]
    assert all(given is hints for _, given, _ in network.prepared)
    carried = [carried for *_, carried in network.prepared]
    assert carried[0] is None
    assert carried[1] is frames[1]
    assert carried[2] is None, "the second frame of the pair before is another one"


def test_maps_come_by_request() -> None:
    pair = Synthesiser(Remembering(), "off").prepare(FrameWindow(torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)))
    assert pair.at(HALF).confidence is None
    prediction = pair.at(HALF, maps=("confidence", "flow"))
    assert prediction.confidence is not None
    assert prediction.flow is None, "this network does not estimate it"


def test_guided_gives_flow_and_visibility_at_full_size() -> None:
    """A uniform motion of 4 pixels between the frames, in a picture whose size needs padding."""
    torch.manual_seed(0)
    network = Guided(precision="float32").eval()
    with torch.no_grad():
        network.decoders[3].output.bias[:4] = torch.tensor([-0.125, 0, 0.125, 0]) * 10  # outputs are scaled by 0.1
    first, second = torch.rand(2, 1, 3, 50, 70)
    with torch.inference_mode():
        pair = Synthesiser(network, "off").prepare(FrameWindow(first, second))
        prediction = pair.at(Fraction(1, 4), maps=("flow", "visibility", "confidence"))
    assert prediction.flow is not None
    assert prediction.visibility is not None
    assert prediction.confidence is None
    expected = torch.tensor([-1.0, 0, 3, 0]).view(1, 4, 1, 1).expand(1, 4, 50, 70)
    torch.testing.assert_close(prediction.flow, expected)
    torch.testing.assert_close(prediction.visibility, torch.full((1, 1, 50, 70), 0.75))


def test_guided_prepared_once_predicts_the_same_frames() -> None:
    torch.manual_seed(0)
    network = midframe.load("default")
    first, second = torch.rand(2, 1, 3, 40, 50)
    with torch.inference_mode():
        pair = Synthesiser(network, "off").prepare(FrameWindow(first, second))
        for time in (0.25, 0.5, 0.8):
            alone = network(first, second, torch.tensor([time])).clamp(0, 1)
            assert torch.equal(pair.at(Fraction(time)).frame, alone)


# Networks by name are loaded once


def test_interpolate_loads_a_name_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    shape = dict.fromkeys(("feature_channels", "decoder_channels"), (8, 8, 8, 8))

    def save(flow_scale: float) -> None:
        network = Guided(**shape)
        with torch.no_grad():
            network.initial_flow_scale.fill_(flow_scale)
        save_weights(network, path, training={}, licence="", data="")

    loaded: list[object] = []
    original = models.load
    monkeypatch.setattr(models, "load", lambda name: loaded.append(name) or original(name))
    frames = [np.random.default_rng(seed).random((16, 16, 3)) for seed in (0, 1)]
    save(0.02)
    results = [midframe.interpolate(*frames, network=str(path)) for _ in range(3)]
    assert np.array_equal(results[0], results[2])
    assert len(loaded) == 1
    save(0.04)
    midframe.interpolate(*frames, network=str(path))
    midframe.interpolate(*frames, network=str(path.parent / "." / path.name))
    assert len(loaded) == 2, "a file that has changed is read again"
    assert networks.load(path) is not networks.load(path), "load gives a network of the caller's own"
