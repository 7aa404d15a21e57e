"""Making the frames of a pair: planes to RGB, network, shader, and back to planes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from midframe import networks
from midframe import shader as pixel_shader
from midframe.conversion.pairs import FramePair
from midframe.conversion.settings import Settings
from midframe.conversion.summary import Counts
from midframe.errors import DeviceError, WeightsError
from midframe.networks.average import Average
from midframe.networks.tiles import Tiled
from midframe.networks.times import DEPTH, frames_at
from midframe.ops.dispatch import describe_record, record_backends
from midframe.video.colour import (
    Colour,
    mask_of_changes,
    planes_to_rgb,
    planes_to_tensors,
    quantise,
    rgb_to_planes,
    weighted_mean_plus_difference,
)
from midframe.video.frame import Frame, Layout, Plane
from midframe.video.timeline import Timeline


class Maker:
    """Makes the output frames of pairs, with one network, in one film's layout and colour.

    layout, colour: of the source frames; written: layout and colour of the frames that come out. `names` says what
    makes them (network, shader, backend, device); the backend is empty before the first is made.
    """

    def __init__(self, settings: Settings, layout: Layout, colour: Colour, written: tuple[Layout, Colour]) -> None:
        self.layout, self.colour = layout, colour
        self.written = None if written[0] == layout and written[1].same_code_values(colour) else written
        self.device = choose_device(settings.device)
        network = networks.load(settings.network)
        self.network = Tiled(network.to(self.device))
        self.settings = settings
        self.on_planes = isinstance(network, Average) and settings.shader_maps is None
        self.maps = None if settings.shader == "off" else settings.shader_maps
        self.shader = None if settings.shader == "off" else pixel_shader.preset_named(settings.shader)
        if self.network.averages:
            self.shader = None
        self.names = {
            "network": type(network).__name__.lower(),
            "shader": self.shader.name if self.shader else "off",
            "backend": "",
            "device": str(self.device),
        }
        self.backends: dict[str, set[str]] = {}
        self._newest: tuple[Frame, tuple[Tensor, ...], Tensor] | None = None

    @contextmanager
    def threads(self) -> Iterator[None]:
        """As many threads as the network has use for, in the thread that calls this."""
        before = torch.get_num_threads()
        if self.network.averages:
            # So little work on several threads waits for cores that the encoder holds, at each of its steps.
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def notes(self) -> list[str]:
        """What turned out while frames were made."""
        if self.network.tiles == 1:
            return []
        tiles = self.network.tiles
        return [f"the memory of {self.device} did not suffice for whole pictures: they were made in {tiles} tiles"]

    def warnings(self, timeline: Timeline) -> list[str]:
        """What a person should know about the frames that are made."""
        said = []
        if self.network.averages:
            name = self.names["network"]
            why = "moves nothing" if name == "average" else "is untrained"
            said.append(f"the made frames are averages of their neighbours: {name} {why}; default is trained")
        if not self.network.any_time and (timeline.rate is not None or timeline.factor not in (2, 4, 8)):
            said.append(
                f"{self.names['network']} makes only the middle of two frames: other times come from {DEPTH} steps of "
                "it, the nearest eighth is taken"
            )
        return said

    def frames(self, pair: FramePair, counts: Counts) -> Iterator[Frame]:
        """The output frames of a pair: source frames as they are, the others held or made. They are counted."""
        made = self._made(pair)
        for slot in pair.slots:
            if 0 < slot.position < 1 and pair.hold_reason is None:
                counts.interpolated += 1
                frame = Frame(next(made), self.layout, slot.time, slot.duration)
            else:
                source = pair.first if slot.position <= Fraction(1, 2) else pair.second
                frame = replace(source, time=slot.time, duration=slot.duration, lost=False)
                _count(counts, pair, slot.position)
            yield self._written(frame)

    def _made(self, pair: FramePair) -> Iterator[tuple[Plane, ...]]:
        """The planes of the frames that are made between two frames, in order."""
        positions = [slot.position for slot in pair.slots if 0 < slot.position < 1]
        if not positions or pair.hold_reason is not None:
            return
        if self.on_planes:
            for position in positions:
                yield self._averaged(pair, float(position))
            return
        with torch.inference_mode():
            first_planes, first = self._load(pair.first)
            second_planes, second = self._load(pair.second)
            blend = mask = None
            if self.shader is not None:
                blend = pixel_shader.blend_map(first, second, self.shader)
                mask = mask_of_changes(first_planes, second_planes, self.layout, self.shader.radius)
            self._write_maps(pair, first, second)
        answers = frames_at(self.network, first, second, positions)
        for position in positions:
            with torch.inference_mode():
                with record_backends(self.backends):
                    _, answer = next(answers)
                self.names["backend"] = describe_record(self.backends)
                time = float(position)
                self._check(answer)
                if self.shader is not None and blend is not None:
                    answer = pixel_shader.apply(answer, first, second, time, blend, self.shader)
                change = answer[0] - torch.lerp(first[0], second[0], time)
                planes = weighted_mean_plus_difference(
                    first_planes, second_planes, time, change, layout=self.layout, colour=self.colour, mask=mask
                )
            yield planes

    @torch.inference_mode()
    def _averaged(self, pair: FramePair, time: float) -> tuple[Plane, ...]:
        """What the averaging network makes of each plane: it is linear, so the way through RGB would change nothing."""
        when = torch.tensor([time], device=self.device)
        first, second = (planes_to_tensors(frame.planes, self.device) for frame in (pair.first, pair.second))
        with record_backends(self.backends):
            made = [self.network(a[None, None], b[None, None], when)[0, 0] for a, b in zip(first, second, strict=True)]
        self.names["backend"] = describe_record(self.backends)
        return tuple(quantise(plane, self.layout) for plane in made)

    def _check(self, answer: Tensor) -> None:
        if not torch.isfinite(answer).all():
            name = self.names["network"]
            raise WeightsError(f"the network {name} gave values that are not numbers; its weights may be damaged")

    def _write_maps(self, pair: FramePair, first: Tensor, second: Tensor) -> None:
        """Write the shader's maps of a pair as pictures, where they were asked for."""
        if self.maps is None:
            return
        from midframe.shader.maps import shader_maps, write_maps

        preset = pixel_shader.preset_named(self.settings.shader)
        name = f"{float(pair.first.time):012.6f}"
        write_maps(shader_maps(first, second, preset), self.maps, name, preset)

    def _load(self, frame: Frame) -> tuple[tuple[Tensor, ...], Tensor]:
        """A frame's planes, and its RGB `[1, 3, H, W]`; the second frame of a pair is the first of the next."""
        if self._newest is not None and self._newest[0] is frame:
            return self._newest[1:]
        planes = planes_to_tensors(frame.planes, self.device)
        rgb = planes_to_rgb(planes, self.layout, self.colour)[None].contiguous()
        self._newest = (frame, planes, rgb)
        return planes, rgb

    def _written(self, frame: Frame) -> Frame:
        """The frame in the layout that is written, which is the film's own unless target or user want another."""
        if self.written is None:
            return frame
        rgb = planes_to_rgb(planes_to_tensors(frame.planes, self.device), self.layout, self.colour)
        return replace(frame, planes=rgb_to_planes(rgb, *self.written, self.layout), layout=self.written[0])


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


def _count(counts: Counts, pair: FramePair, position: Fraction) -> None:
    """Note why a frame was not made."""
    if position in (0, 1):
        counts.source += 1
    elif pair.hold_reason == "cut":
        counts.duplicated_at_cuts += 1
    elif pair.hold_reason == "gap":
        counts.duplicated_at_gaps += 1
    elif pair.hold_reason == "lost":
        counts.duplicated_for_lost += 1
    else:
        counts.repeated += 1
