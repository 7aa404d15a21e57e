"""Making the frames of a pair: planes to RGB, network, shader, and back to planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from midframe import networks
from midframe import shader as pixel_shader
from midframe.conversion.pairs import Pair
from midframe.conversion.plan import Plan
from midframe.conversion.settings import Settings
from midframe.conversion.summary import Counts
from midframe.errors import DeviceError
from midframe.video.colour import from_rgb, made_planes, to_rgb, to_tensors
from midframe.video.frame import Frame, Plane

DEPTH = 3
"""How often a network that makes only the middle is applied in turn: times come in eighths."""


class Maker:
    """Makes the output frames of pairs, with one network, in one film's layout and colour.

    `names` says what makes them (network, shader, backend, device); `warnings` what a person should know about it.
    """

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan = plan
        self.layout, self.colour = plan.film.layout, plan.film.colour
        self.device = choose_device(settings.device)
        self.network = networks.load(settings.network).to(self.device)
        self.shader = None if settings.shader == "off" else pixel_shader.preset_named(settings.shader)
        if self.network.averages:
            self.shader = None
        self.names = (
            type(self.network).__name__.lower(),
            self.shader.name if self.shader else "off",
            networks.backend_in_use(self.network, self.device),
            str(self.device),
        )
        self.warnings = self._warnings()
        self._newest: tuple[Frame, tuple[Tensor, ...], Tensor] | None = None

    def _warnings(self) -> list[str]:
        said = []
        if self.network.averages:
            said.append("the made frames are averages of their neighbours: there are no trained weights yet")
        eighths = self.plan.timeline.rate is not None or self.plan.timeline.factor not in (2, 4, 8)
        if not self.network.any_time and eighths:
            said.append(
                f"{self.names[0]} makes only the middle of two frames: other times come from {DEPTH} steps of it, "
                "the nearest eighth is taken"
            )
        return said

    @torch.inference_mode()
    def frames(self, pair: Pair, counts: Counts) -> Iterator[Frame]:
        """The output frames of a pair: source frames as they are, the others held or made. They are counted."""
        made = self._made(pair)
        for slot in pair.slots:
            if slot.position in made:
                counts.made += 1
                frame = Frame(made[slot.position], self.layout, slot.time, slot.duration)
            else:
                source = pair.first if slot.position <= Fraction(1, 2) else pair.second
                frame = replace(source, time=slot.time, duration=slot.duration, lost=False)
                _count(counts, pair, slot.position)
            yield self._written(frame)

    def _made(self, pair: Pair) -> dict[Fraction, tuple[Plane, ...]]:
        positions = [] if pair.held else [slot.position for slot in pair.slots if 0 < slot.position < 1]
        if not positions:
            return {}
        first_planes, first = self._load(pair.first)
        second_planes, second = self._load(pair.second)
        blend = None if self.shader is None else pixel_shader.blend_map(first, second, self.shader)
        made = {}
        for position, answer in self._answers(first, second, positions).items():
            time = float(position)
            if self.shader is not None and blend is not None:
                answer = pixel_shader.apply(answer, first, second, time, blend, self.shader)
            change = answer[0] - torch.lerp(first[0], second[0], time)
            made[position] = made_planes(first_planes, second_planes, time, change, self.layout, self.colour)
        return made

    def _load(self, frame: Frame) -> tuple[tuple[Tensor, ...], Tensor]:
        """A frame's planes, and its RGB `[1, 3, H, W]`; the second frame of a pair is the first of the next."""
        if self._newest is not None and self._newest[0] is frame:
            return self._newest[1:]
        planes = to_tensors(frame.planes, self.device)
        rgb = to_rgb(planes, self.layout, self.colour)[None].contiguous()
        self._newest = (frame, planes, rgb)
        return planes, rgb

    def _answers(self, first: Tensor, second: Tensor, positions: Sequence[Fraction]) -> dict[Fraction, Tensor]:
        """The network's frames at these positions."""
        if self.network.any_time:
            return {p: self.network(first, second, self._time(p)) for p in positions}
        known = {Fraction(0): first, Fraction(1): second}

        def at(position: Fraction) -> Tensor:
            if position not in known:
                step = Fraction(1, position.denominator)
                known[position] = self.network(at(position - step), at(position + step), self._time(Fraction(1, 2)))
            return known[position]

        return {p: at(nearest_eighth(p)) for p in positions}

    def _time(self, position: Fraction) -> Tensor:
        return torch.tensor([float(position)], device=self.device)

    def _written(self, frame: Frame) -> Frame:
        """The frame in the layout that is written, which is the film's own unless target or user want another."""
        form = self.plan.form
        if form.layout == self.layout and form.colour == self.colour:
            return frame
        rgb = to_rgb(to_tensors(frame.planes, self.device), self.layout, self.colour)
        return replace(frame, planes=from_rgb(rgb, form.layout, form.colour), layout=form.layout)


def nearest_eighth(position: Fraction) -> Fraction:
    """The nearest time that a network for the middle reaches in `DEPTH` steps."""
    parts = 1 << DEPTH
    return Fraction(min(max(round(position * parts), 1), parts - 1), parts)


def choose_device(name: str) -> torch.device:
    """The device to compute on: `auto` takes a GPU where there is one. Raises `DeviceError` where it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"the device '{name}' cannot be used: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def _count(counts: Counts, pair: Pair, position: Fraction) -> None:
    """Note why a frame was not made."""
    if position in (0, 1):
        counts.source += 1
    elif pair.held == "cut":
        counts.held_at_cuts += 1
    elif pair.held == "gap":
        counts.held_at_gaps += 1
    elif pair.held == "lost":
        counts.held_at_lost += 1
    else:
        counts.repeated += 1


