"""What tests of made frames share: networks that do something known, and a maker that uses them."""

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
    """The weighted mean with noise on it, about a tenth of the scale; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(self.calls))
        return weighted_mean(first, second, time) + 0.1 * noise


class Shift(InterpolationNetwork):
    """The first frame, moved right by `speed` pixels times the time; the edge is held."""

    def __init__(self, speed: int) -> None:
        super().__init__()
        self.speed = speed

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        by = round(self.speed * float(time[0]))
        width = first.shape[-1]
        return first.index_select(-1, (torch.arange(width) - by).clamp(0, width - 1))


def disturbed(name: str, amount: float, seed: int = 0) -> InterpolationNetwork:
    """A network of ours whose parameters are off by noise: it makes something, but nothing good."""
    network = networks.load(name)
    assert networks.network_name(network) == name
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=generator))
    assert not network.is_untrained_average
    return network


def use(monkeypatch: pytest.MonkeyPatch, network: InterpolationNetwork) -> None:
    """Have every conversion of this test use a network that no name stands for."""
    monkeypatch.setattr(networks, "load", lambda name="default": network)


def make(  # noqa: PLR0913 - what a test may vary
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
    """The output frames at these places between two frames, as the convert road makes them (by averaging, unless a
    test names another network or puts its own in place of all with `use`)."""
    maker = Renderer(Settings(network=network, shader=shader, device="cpu"), layout, colour, (layout, colour))
    slots = tuple(Slot(t, Fraction(1, 10), t) for t in times)
    frames = (Frame(first, layout, Fraction(0)), Frame(second, layout, Fraction(1)))
    return list(maker.frames(FramePair(*frames, slots, hold_reason), Counts()))


def largest(a: Planes, b: Planes, where: Callable[[int], Any] = lambda k: slice(None)) -> int:
    """The largest difference of two frames; `where(k)` chooses within plane k."""
    return max(
        int(np.abs(x.astype(int) - y.astype(int))[where(k)].max()) for k, (x, y) in enumerate(zip(a, b, strict=True))
    )
