"""Carrying everything in a film that is not its picture into a new file, packet by packet."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any, cast

import av
import av.container
import av.error
import av.stream

from midframe.video.audio import Stretcher
from midframe.video.probe import Film, open_container
from midframe.video.streams import StreamPlan, channel_layout, stream_metadata
from midframe.video.timeline import Timeline


@dataclass
class Carried:
    """What was written of one stream: packets with something in them, their bytes and checksum, first and last time."""

    packets: int = 0
    bytes: int = 0
    checksum: int = 0
    first: Fraction | None = None
    last: Fraction | None = None

    def note(self, packet: av.Packet[Any]) -> None:
        payload = bytes(packet)
        if not payload:  # an encoder's last words on its stream
            return
        self.packets += 1
        self.bytes += len(payload)
        self.checksum = zlib.crc32(payload, self.checksum)
        if packet.pts is not None:
            time = packet.pts * Fraction(packet.time_base)
            self.first = time if self.first is None else min(self.first, time)
            self.last = time if self.last is None else max(self.last, time)


class Carrier:
    """Carries packets of the other streams into an output, a little at a time.

    `carried` holds what was written, by the index of the stream in the source film, in the order of the new file.
    """

    def __init__(self, film: Film, plans: tuple[StreamPlan, ...], container: str, timeline: Timeline) -> None:
        self.film = film
        self.plans = [plan for plan in plans if plan.kept and plan.action != "encode"]
        self.container = container
        self.timeline = timeline
        self.carried: dict[int, Carried] = {}
        self.source = open_container(film.path) if self.plans else None
        self.outputs: dict[int, tuple[StreamPlan, Any]] = {}
        self.stretchers: dict[int, Stretcher] = {}
        self.packets: Iterator[av.Packet[Any]] = iter(())
        self.waiting: av.Packet[Any] | None = None
        self.latest: dict[int, int] = {}  # the last time of each stream

    def close(self) -> None:
        """Let go of the source film."""
        if self.source is not None:
            self.source.close()

    def clocks(self) -> list[Fraction]:
        """The time bases of the streams that are carried."""
        streams = [] if self.source is None else [self.source.streams[plan.info.index] for plan in self.plans]
        return [Fraction(stream.time_base) for stream in streams if stream.time_base]

    def add_streams(self, output: av.container.OutputContainer) -> None:
        """Add the streams to an output whose film stream is already there."""
        if self.source is None:
            return
        streams = self.source.streams
        for plan in self.plans:
            stream = streams[plan.info.index]
            if plan.action == "attach":
                name, kind, data = _attachment(stream, self.source)
                output.add_attachment(name, kind, data)
                continue
            if plan.action == "stretch":
                assert isinstance(stream, av.AudioStream)
                layout = channel_layout(stream) or "stereo"
                stretcher = Stretcher(stream, output, plan.codec, layout, self.timeline)
                self.stretchers[stream.index] = stretcher
                added: Any = stretcher.stream
            else:
                added = _add(output, stream, plan)
            added.metadata.update(stream_metadata(stream.metadata, self.container))
            added.disposition = int(stream.disposition)
            self.outputs[stream.index] = (plan, added)
            self.carried[stream.index] = Carried()
        wanted = [streams[index] for index in self.outputs]
        if wanted:
            self.packets = self.source.demux(wanted)

    def advance(self, output: av.container.OutputContainer, until: Fraction | None) -> None:
        """Write the packets up to an output time; all that are left with None."""
        while True:
            packet = self.waiting or self._next()
            self.waiting = None
            if packet is None:
                return
            time = packet.dts if packet.dts is not None else packet.pts
            place = None if time is None else self.timeline.place(time * Fraction(packet.time_base))
            if until is not None and place is not None and place > until:
                self.waiting = packet
                return
            self._write(output, packet)

    def finish(self, output: av.container.OutputContainer) -> None:
        """Write everything that is left."""
        self.advance(output, None)
        for index, stretcher in self.stretchers.items():
            self._mux(output, index, stretcher.finish())

    def _next(self) -> av.Packet[Any] | None:
        try:
            for packet in self.packets:
                if packet.size or packet.pts is not None:
                    return packet
        except (av.error.FFmpegError, OSError):
            pass  # the film can be read up to here, which was seen when it was probed
        return None

    def _write(self, output: av.container.OutputContainer, packet: av.Packet[Any]) -> None:
        index = packet.stream_index
        plan, stream = self.outputs[index]
        if plan.info.kind == "audio" and packet.pts is not None:
            # A last packet without a duration would be cut off by the edit list of an mp4.
            before = self.latest.get(index, packet.pts)
            packet.duration = packet.duration or packet.pts - before
            self.latest[index] = packet.pts
        if not self._inside(packet, plan):
            return
        if plan.action == "stretch":
            self._mux(output, index, self.stretchers[index].take(packet))
            return
        if plan.info.codec == "mov_text" and bytes(packet)[:2] == b"\0\0":
            return  # an empty line fills the time between two; where that is needed the new file has its own
        if plan.action == "convert":
            packet = _convert_text(packet, plan)
        if not plan.info.cover:
            base = Fraction(packet.time_base)
            packet.pts = _moved(packet.pts, base, self.timeline)
            packet.dts = _moved(packet.dts, base, self.timeline)
            if self.timeline.slow != 1 and packet.duration:
                packet.duration = packet.duration * self.timeline.slow
            if plan.info.kind == "subtitle" and packet.pts is not None:
                # Two lines that were clipped to one start would have one time, which mp4 does not hold.
                packet.pts = packet.dts = max(packet.pts, self.latest.get(index, packet.pts - 1) + 1)
                self.latest[index] = packet.pts
        packet.stream = stream
        self._mux(output, index, [packet])

    def _mux(self, output: av.container.OutputContainer, index: int, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            self.carried[index].note(packet)
            output.mux(packet)

    def _inside(self, packet: av.Packet[Any], plan: StreamPlan) -> bool:
        """Whether a packet lies wholly in the part of the film that is converted; subtitles are clipped to it."""
        if packet.pts is None or not (self.timeline.trimmed or self.timeline.end is not None):
            return True
        base = Fraction(packet.time_base)
        span = (packet.pts * base, (packet.pts + (packet.duration or 0)) * base)
        clipped = self.timeline.clip(*span)
        if clipped is None or (clipped != span and plan.info.kind != "subtitle"):
            return False
        if clipped != span:
            packet.pts = packet.dts = round(clipped[0] / base)
            packet.duration = round((clipped[1] - clipped[0]) / base)
        return True


def _add(output: av.container.OutputContainer, stream: av.stream.Stream, plan: StreamPlan) -> Any:
    if plan.action == "copy":
        added = output.add_stream_from_template(stream)
        if isinstance(stream, av.AudioStream) and plan.codec.startswith("pcm"):
            # Matroska says how many channels there are, mp4 wants to know which.
            cast(Any, added.codec_context).layout = channel_layout(stream) or stream.codec_context.layout
        return added
    added = output.add_mux_stream(plan.codec)
    added.time_base = Fraction(1, 1000)
    return added


def _attachment(stream: Any, source: av.container.InputContainer) -> tuple[str, str, bytes]:
    """Name, MIME type and bytes of an attachment, or of cover art that becomes one."""
    if isinstance(stream, av.stream.AttachmentStream):
        return stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data
    codec = stream.codec_context.name
    kind = {"mjpeg": "image/jpeg", "png": "image/png"}.get(codec, f"image/{codec}")
    name = stream.metadata.get("filename") or f"cover.{'jpg' if codec == 'mjpeg' else codec}"
    with open_container(source.name) as again:
        data = next((bytes(p) for p in again.demux(again.streams[stream.index]) if p.size), b"")
    return name, stream.metadata.get("mimetype", kind), data


def _moved(ticks: int | None, base: Fraction, timeline: Timeline) -> int | None:
    return None if ticks is None else floor(timeline.place(ticks * base) / base + Fraction(1, 2))


def _convert_text(packet: av.Packet[Any], plan: StreamPlan) -> av.Packet[Any]:
    """A subtitle between SubRip (plain UTF-8) and mov_text (the same after its length in two bytes)."""
    payload = bytes(packet)
    if plan.codec == "subrip":
        payload = payload[2 : 2 + int.from_bytes(payload[:2], "big")]
    else:
        payload = payload[:0xFFFF]
        payload = len(payload).to_bytes(2, "big") + payload
    converted: av.Packet[Any] = av.Packet(payload)
    converted.time_base = packet.time_base
    converted.pts, converted.dts, converted.duration = packet.pts, packet.dts, packet.duration
    return converted
