"""Helpers for tests of interpolated frames: networks with known output, and rendering with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from midframe import networks
from midframe.conversion.pairs import FramePair, HoldReason
from midframe.conversion.render import Renderer
from midframe.conversion.settings import Settings
from midframe.conversion.summary import Counts
from midframe.networks.base import InterpolationNetwork, weighted_mean
from midframe.video.colour import Colour
from midframe.video.frame import Frame, Layout
from midframe.video.timeline import Slot

Planes = tuple[np.ndarray[Any, Any], ...]


class Noise(InterpolationNetwork):
    """The weighted mean plus normal noise of deviation 0.1; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(self.calls))
        return weighted_mean(first, second, time) + 0.1 * noise


class Shift(InterpolationNetwork):
    """The first frame, shifted right by `speed` pixels times the time; the edge is repeated."""

    def __init__(self, speed: int) -> None:
        super().__init__()
        self.speed = speed

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        offset = round(self.speed * float(time[0]))
        width = first.shape[-1]
        return first.index_select(-1, (torch.arange(width) - offset).clamp(0, width - 1))


def disturbed_network(name: str, amount: float, seed: int = 0) -> InterpolationNetwork:
    """Load a network and add noise to its parameters, so that its output is wrong but not a mean."""
    network = networks.load(name)
    assert networks.network_name(network) == name
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=generator))
    assert not network.is_untrained_average
    return network


def use_network(monkeypatch: pytest.MonkeyPatch, network: InterpolationNetwork) -> None:
    """Make every conversion of this test use the given network, whatever name it asks for."""
    monkeypatch.setattr(networks, "load", lambda name="default": network)


def render(  # noqa: PLR0913 - what a test may vary
    layout: Layout,
    colour: Colour,
    first: Planes,
    second: Planes,
    *,
    times: Sequence[Fraction] = (Fraction(1, 2),),
    hold_reason: HoldReason | None = None,
    shader: str = "default",
    network: str = "average",
) -> list[Frame]:
    """Render the output frames at these times between two frames, as a conversion does.

    The network is `average` by default; `use_network` replaces it.
    """
    renderer = Renderer(Settings(network=network, shader=shader, device="cpu"), layout, colour, (layout, colour))
    slots = tuple(Slot(t, Fraction(1, 10), t) for t in times)
    frames = (Frame(first, layout, Fraction(0)), Frame(second, layout, Fraction(1)))
    return list(renderer.frames(FramePair(*frames, slots, hold_reason), Counts()))


def largest_difference(a: Planes, b: Planes, where: Callable[[int], Any] = lambda k: slice(None)) -> int:
    """Return the largest absolute difference of two frames; `where(k)` selects a region of plane k."""
    return max(
        int(np.abs(x.astype(int) - y.astype(int))[where(k)].max()) for k, (x, y) in enumerate(zip(a, b, strict=True))
    )
