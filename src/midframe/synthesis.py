"""Synthesise frames between two RGB frames: the one recipe that every caller uses.

    synthesiser = Synthesiser(network, shader="default")
    pair = synthesiser.prepare(FrameWindow(first, second))
    prediction = pair.at(Fraction(1, 3))
    prediction.frame                                                   # [B, 3, H, W]

The recipe: the network predicts the frame, in tiles if memory requires it; a network that predicts only the middle
reaches other times by recursion. The prediction must be finite. It is clipped, and then the pixel shader replaces it
where the two source frames hardly differ. Callers copy equal source frames instead of synthesising.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from midframe.errors import WeightsError
from midframe.networks.base import NO_HINTS, FrameWindow, Hints, InterpolationNetwork, MapName, Prediction, PreparedPair
from midframe.networks.recursion import MidpointRecursion
from midframe.networks.tiles import TiledNetwork
from midframe.shader import ShaderPreset, apply_shader, blend_map, find_preset


class Synthesiser:
    """One network and one shader preset, ready to synthesise frames.

    network: on the device of the frames. shader: the name of a preset, `default` or `off`. A network that only averages
    needs no shader, so it gets none. Raises `SettingError` for an unknown preset.
    """

    def __init__(self, network: InterpolationNetwork, shader: str = "default") -> None:
        self.network = network
        self.network_name = type(network).__name__.lower()
        preset = find_preset(shader)
        self.shader: ShaderPreset | None = None if network.is_untrained_average else preset
        self._tiled = TiledNetwork(network)
        self._last: tuple[Tensor, PreparedPair] | None = None

    @property
    def tiles(self) -> int:
        """Number of tiles in which a picture is predicted: 1, or more after the device ran out of memory."""
        return self._tiled.tiles

    def prepare(self, window: FrameWindow, hints: Hints = NO_HINTS) -> SynthesisPair:
        """Compute what all frames between `window.first` and `window.second` share.

        If `window.first` is the same tensor object as `second` of the window before, the network may reuse data of that
        pair, `PreparedPair.carried`.
        """
        carried = self._last[1].carried if self._last is not None and self._last[0] is window.first else None
        prepared = self._tiled.prepare(window, hints, carried)
        self._last = (window.second, prepared)
        return SynthesisPair(self, window, prepared)

    def predict_middle(self, first: Tensor, second: Tensor) -> Tensor:
        """Predict the frame halfway between two frames, not clipped, without the shader."""
        middle = first.new_full((len(first),), 0.5)
        return self._tiled.prepare(FrameWindow(first, second)).at(middle).frame


class SynthesisPair:
    """Two source frames between which frames are synthesised; created by `Synthesiser.prepare`."""

    def __init__(self, synthesiser: Synthesiser, window: FrameWindow, prepared: PreparedPair) -> None:
        self._synthesiser, self._window, self._prepared = synthesiser, window, prepared
        self._recursion = MidpointRecursion(window.first, window.second, synthesiser.predict_middle)
        self._limits = _limits(window.first, window.second)
        shader = synthesiser.shader
        self._blend = None if shader is None else blend_map(window.first, window.second, shader)

    def at(self, time: Fraction, maps: Collection[MapName] = ()) -> Prediction:
        """Synthesise the frame at `time` in (0, 1), rounded to eighths if the network predicts only the middle frame.

        maps: optional outputs to return beside the frame. They describe the prediction before clipping and shader; a
        network that predicts only the middle frame has none. Raises `WeightsError` if the prediction is not finite.
        """
        prediction = self._predict(time, maps)
        frame, shader = prediction.frame, self._synthesiser.shader
        if not torch.isfinite(frame).all():
            name = self._synthesiser.network_name
            raise WeightsError(f"the network {name} gave values that are not numbers; its weights may be damaged")
        frame = frame.clamp(*self._limits)
        if shader is not None and self._blend is not None:
            frame = apply_shader(frame, self._window.first, self._window.second, float(time), self._blend, shader)
        return replace(prediction, frame=frame)

    def _predict(self, time: Fraction, maps: Collection[MapName]) -> Prediction:
        """Predict the frame with the network alone, by recursion if it predicts only the middle."""
        if not self._synthesiser.network.any_time:
            return Prediction(self._recursion.at(time))
        first = self._window.first
        return self._prepared.at(first.new_full((len(first),), float(time)), maps)


def _limits(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the limits of a prediction, two tensors `[B, 1, 1, 1]`: 0 and 1, or the range of the frames if wider.

    The report's author clips to 0..1. A YUV film also holds colours outside the RGB gamut, such as whites above the
    nominal white. Clipped in the interpolated frames alone, they would flicker.
    """
    low = torch.minimum(first.amin((1, 2, 3), keepdim=True), second.amin((1, 2, 3), keepdim=True))
    high = torch.maximum(first.amax((1, 2, 3), keepdim=True), second.amax((1, 2, 3), keepdim=True))
    return low.clamp(max=0.0), high.clamp(min=1.0)
