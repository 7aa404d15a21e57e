"""Render the output frames of a pair of source frames: planes to RGB, synthesis, and back to planes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from midframe import networks
from midframe.conversion.pairs import FramePair
from midframe.conversion.settings import Settings
from midframe.conversion.summary import Counts
from midframe.device import choose_device
from midframe.networks.average import Average
from midframe.networks.base import FrameWindow
from midframe.networks.recursion import RECURSION_DEPTH
from midframe.ops.dispatch import describe_record, record_backends
from midframe.shader import find_preset
from midframe.synthesis import Synthesiser
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


class Renderer:
    """Renders the output frames of pairs of source frames, with one network, in one film's layout and colour.

    settings: of the conversion. layout, colour: of the source frames. written: layout and colour of the output frames
    (the attribute `written` is None if no conversion is needed).
    Raises `SettingError` for an unknown network or shader, `WeightsError` for weights that cannot be loaded, and
    `DeviceError` for a device that cannot be used.
    """

    def __init__(self, settings: Settings, layout: Layout, colour: Colour, written: tuple[Layout, Colour]) -> None:
        self.layout, self.colour = layout, colour
        self.written = None if written[0] == layout and written[1].same_code_values(colour) else written
        self.settings = settings
        self.device = choose_device(settings.device)
        self.network = networks.load(settings.network).to(self.device)
        self.synthesiser = Synthesiser(self.network, settings.shader)
        self.writes_maps = settings.shader_maps is not None and settings.shader != "off"
        # Averaging is linear, so the planes can be averaged directly; the shader's maps need RGB.
        self.averages_planes = isinstance(self.network, Average) and settings.shader_maps is None
        shader = self.synthesiser.shader
        self.names = {
            "network": self.synthesiser.network_name,
            "shader": shader.name if shader else "off",
            "backend": "",
            "device": str(self.device),
        }
        """What synthesises the frames, for the summary; the backend is empty before the first frame is rendered."""
        self._backends: dict[str, set[str]] = {}
        self._last_source: _Source | None = None

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Give PyTorch, within this context, as many threads as the network can use."""
        before = torch.get_num_threads()
        if self.network.is_untrained_average:
            # Averaging is so little work that several threads would only wait for cores that the encoder occupies.
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def warnings(self, timeline: Timeline) -> list[str]:
        """Return warnings about the interpolated frames of a timeline; those rendered so far are taken into account."""
        name, warnings = self.names["network"], []
        if self.network.is_untrained_average:
            reason = "moves nothing" if name == "average" else "is untrained"
            warnings.append(f"the made frames are averages of their neighbours: {name} {reason}; default is trained")
        if not self.network.any_time and (timeline.rate is not None or timeline.factor not in (2, 4, 8)):
            warnings.append(
                f"{name} makes only the middle of two frames: other times come from {RECURSION_DEPTH} steps of "
                "it, the nearest eighth is taken"
            )
        tiles = self.synthesiser.tiles
        if tiles > 1:
            warnings.append(
                f"the memory of {self.device} did not suffice for whole pictures: they were made in {tiles} tiles"
            )
        return warnings

    def frames(self, pair: FramePair, counts: Counts) -> Iterator[Frame]:
        """Render the output frames of a pair and count them: source frames, their duplicates, interpolated frames."""
        interpolated = self._interpolate(pair)
        for slot in pair.slots:
            if 0 < slot.position < 1 and pair.hold_reason is None:
                counts.interpolated += 1
                frame = Frame(next(interpolated), self.layout, slot.time, slot.duration)
            else:
                source = pair.first if slot.position <= Fraction(1, 2) else pair.second
                frame = replace(source, time=slot.time, duration=slot.duration, lost=False)
                _count(counts, pair, slot.position)
            yield self._to_written_layout(frame)

    def _interpolate(self, pair: FramePair) -> Iterator[tuple[Plane, ...]]:
        """Yield the planes of the interpolated frames of a pair, in order of time."""
        positions = [slot.position for slot in pair.slots if 0 < slot.position < 1]
        if not positions or pair.hold_reason is not None:
            return
        if self.averages_planes:
            for position in positions:
                yield self._average_planes(pair, float(position))
            return
        with torch.inference_mode():
            first, second = self._load(pair.first), self._load(pair.second)
            synthesis = self.synthesiser.prepare(FrameWindow(first.rgb, second.rgb))
            shader = self.synthesiser.shader
            mask = mask_of_changes(first.planes, second.planes, self.layout, shader.radius) if shader else None
            if self.writes_maps:
                self._write_shader_maps(pair, first.rgb, second.rgb)
        for position in positions:
            with torch.inference_mode():
                time = float(position)
                with self._record_backends():
                    frame = synthesis.at(position).frame[0]
                difference = frame - torch.lerp(first.rgb[0], second.rgb[0], time)
                planes = weighted_mean_plus_difference(
                    first.planes, second.planes, time, difference, layout=self.layout, colour=self.colour, mask=mask
                )
            yield planes

    @torch.inference_mode()
    def _average_planes(self, pair: FramePair, time: float) -> tuple[Plane, ...]:
        """Average each plane of two frames with the network `average`."""
        times = torch.tensor([time], device=self.device)
        first, second = (planes_to_tensors(frame.planes, self.device) for frame in (pair.first, pair.second))
        with self._record_backends():
            means = [
                self.network(a[None, None], b[None, None], times)[0, 0] for a, b in zip(first, second, strict=True)
            ]
        return tuple(quantise(plane, self.layout) for plane in means)

    @contextmanager
    def _record_backends(self) -> Iterator[None]:
        """Record in `names` which backends the operators run on within this context."""
        with record_backends(self._backends):
            yield
        self.names["backend"] = describe_record(self._backends)

    def _write_shader_maps(self, pair: FramePair, first: Tensor, second: Tensor) -> None:
        """Write the shader's maps of a pair as pictures, named by the time of the first frame."""
        from midframe.shader.maps import shader_maps, write_maps

        preset, folder = find_preset(self.settings.shader), self.settings.shader_maps
        assert preset is not None
        assert folder is not None
        write_maps(shader_maps(first, second, preset), folder, f"{float(pair.first.time):012.6f}", preset)

    def _load(self, frame: Frame) -> _Source:
        """Convert a frame to tensors; the second frame of a pair is kept, because it is the first of the next."""
        if self._last_source is None or self._last_source.frame is not frame:
            planes = planes_to_tensors(frame.planes, self.device)
            rgb = planes_to_rgb(planes, self.layout, self.colour)[None].contiguous()
            self._last_source = _Source(frame, planes, rgb)
        return self._last_source

    def _to_written_layout(self, frame: Frame) -> Frame:
        """Convert a frame to the layout that is written; by default that is the layout of the source."""
        if self.written is None:
            return frame
        rgb = planes_to_rgb(planes_to_tensors(frame.planes, self.device), self.layout, self.colour)
        return replace(frame, planes=rgb_to_planes(rgb, *self.written, self.layout), layout=self.written[0])


@dataclass(frozen=True)
class _Source:
    """A source frame as tensors on the device."""

    frame: Frame
    """The frame as it was decoded."""
    planes: tuple[Tensor, ...]
    """Its planes as code values, float32 `[h, w]` each."""
    rgb: Tensor
    """Its picture in RGB, float32 `[1, 3, H, W]`, nominally 0..1."""


def _count(counts: Counts, pair: FramePair, position: Fraction) -> None:
    """Count a frame that was not interpolated, by the reason."""
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
