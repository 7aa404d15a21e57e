"""Copy audio, subtitles, attachments and further video streams of a film into an output, packet by packet."""

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

from midframe.video.audio import AudioStretcher
from midframe.video.containers import Container
from midframe.video.ffmpeg import open_container
from midframe.video.probe import Film
from midframe.video.streams import StreamPlan, channel_layout, stream_metadata
from midframe.video.timeline import Timeline


@dataclass
class RemuxedStream:
    """Counts of the packets that were written to one stream."""

    packets: int = 0
    """Number of packets that are not empty."""

    bytes: int = 0
    """Sum of the packets' sizes."""

    checksum: int = 0
    """CRC-32 of the packets' contents, in the order in which they were written."""

    first: Fraction | None = None
    """Earliest presentation time in seconds."""

    last: Fraction | None = None
    """Latest presentation time in seconds."""

    def add(self, packet: av.Packet[Any]) -> None:
        """Count a packet."""
        payload = bytes(packet)
        if not payload:  # an encoder ends its stream with an empty packet
            return
        self.packets += 1
        self.bytes += len(payload)
        self.checksum = zlib.crc32(payload, self.checksum)
        if packet.pts is not None:
            time = packet.pts * Fraction(packet.time_base)
            self.first = time if self.first is None else min(self.first, time)
            self.last = time if self.last is None else max(self.last, time)


@dataclass
class _OutputStream:
    """A stream of the output that is being written."""

    plan: StreamPlan
    stream: Any
    stretcher: AudioStretcher | None = None

    latest: int | None = None
    """Source time of the latest audio packet, or output time of the latest subtitle, in ticks of its time base."""


class Remuxer:
    """Copies the packets of the planned streams into an output, interleaved with the frames that are encoded.

        remuxer.add_streams(output)            # after the film's own stream was added
        remuxer.advance(output, frame.time)    # after each frame was encoded
        remuxer.finish(output)                 # after the last frame
        remuxer.close()

    `remuxed` has the counts for each stream, by its index in the source film, in the order of the output's streams.
    """

    def __init__(self, film: Film, plans: tuple[StreamPlan, ...], container: Container, timeline: Timeline) -> None:
        self.plans = [plan for plan in plans if plan.included and plan.action != "encode"]
        self.remuxed: dict[int, RemuxedStream] = {}
        self._container = container
        self._timeline = timeline
        self._source = open_container(film.path) if self.plans else None
        self._outputs: dict[int, _OutputStream] = {}  # by the index in the source film
        self._packets: Iterator[av.Packet[Any]] = iter(())
        self._pending: av.Packet[Any] | None = None  # read already, but later than the last `until`

    def close(self) -> None:
        """Close the source film."""
        if self._source is not None:
            self._source.close()

    def time_bases(self) -> list[Fraction]:
        """Return the time bases of the streams that are copied."""
        streams = [] if self._source is None else [self._source.streams[plan.info.index] for plan in self.plans]
        return [Fraction(stream.time_base) for stream in streams if stream.time_base]

    def add_streams(self, output: av.container.OutputContainer) -> None:
        """Add the streams and attachments to an output that already has the film's own stream."""
        if self._source is None:
            return
        for plan in self.plans:
            stream = self._source.streams[plan.info.index]
            if plan.action == "attach":
                name, media_type, data = _read_attachment(stream, self._source)
                output.add_attachment(name, media_type, data)
                continue
            added = self._add_stream(output, stream, plan)
            added.stream.metadata.update(stream_metadata(stream.metadata, self._container))
            added.stream.disposition = int(stream.disposition)
            self._outputs[stream.index] = added
            self.remuxed[stream.index] = RemuxedStream()
        wanted = [self._source.streams[index] for index in self._outputs]
        if wanted:
            self._packets = self._source.demux(wanted)

    def advance(self, output: av.container.OutputContainer, until: Fraction | None) -> None:
        """Write the packets up to an output time in seconds, or all that remain if `until` is None."""
        while (packet := self._pending or self._read_packet()) is not None:
            ticks = packet.dts if packet.dts is not None else packet.pts
            time = None if ticks is None else self._timeline.output_time(ticks * Fraction(packet.time_base))
            if until is not None and time is not None and time > until:
                self._pending = packet
                return
            self._pending = None
            self._write(output, packet)

    def finish(self, output: av.container.OutputContainer) -> None:
        """Write all packets that remain, and what the audio encoders still hold."""
        self.advance(output, None)
        for index, target in self._outputs.items():
            if target.stretcher is not None:
                self._mux(output, index, target.stretcher.flush())

    def _add_stream(
        self, output: av.container.OutputContainer, stream: av.stream.Stream, plan: StreamPlan
    ) -> _OutputStream:
        if plan.action == "stretch":
            assert isinstance(stream, av.AudioStream)
            layout = channel_layout(stream) or "stereo"
            stretcher = AudioStretcher(stream, output, plan.codec, layout, self._timeline)
            return _OutputStream(plan, stretcher.stream, stretcher)
        if plan.action == "copy":
            copied = output.add_stream_from_template(stream)
            if isinstance(stream, av.AudioStream) and plan.codec.startswith("pcm"):
                # Matroska stores the number of channels; mp4 needs the position of each.
                cast(Any, copied.codec_context).layout = channel_layout(stream) or stream.codec_context.layout
            return _OutputStream(plan, copied)
        converted = output.add_mux_stream(plan.codec)
        converted.time_base = Fraction(1, 1000)
        return _OutputStream(plan, converted)

    def _read_packet(self) -> av.Packet[Any] | None:
        try:
            for packet in self._packets:
                if packet.size or packet.pts is not None:
                    return packet
        except (av.error.FFmpegError, OSError):
            pass  # `probe` met the same error and reported how far the film can be read
        return None

    def _write(self, output: av.container.OutputContainer, packet: av.Packet[Any]) -> None:
        """Write one packet of the source, clipped, stretched or converted as its stream is planned."""
        index = packet.stream_index
        target = self._outputs[index]
        plan = target.plan
        if plan.info.kind == "audio" and packet.pts is not None:
            # A packet without a duration is given the time since the packet before it. As the last one of an mp4, it
            # would otherwise be cut off by the edit list.
            previous = packet.pts if target.latest is None else target.latest
            packet.duration = packet.duration or packet.pts - previous
            target.latest = packet.pts
        if not self._clip(packet, plan):
            return
        if target.stretcher is not None:
            self._mux(output, index, target.stretcher.stretch(packet))
            return
        if plan.info.codec == "mov_text" and bytes(packet)[:2] == b"\0\0":
            return  # mp4 fills the gap between two subtitles with an empty one; the muxer adds these itself
        if plan.action == "convert":
            packet = _convert_subtitle(packet, plan.codec)
        if not plan.info.is_cover_art:
            self._retime(packet, target)
        packet.stream = target.stream
        self._mux(output, index, [packet])

    def _mux(self, output: av.container.OutputContainer, index: int, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            self.remuxed[index].add(packet)
            output.mux(packet)

    def _clip(self, packet: av.Packet[Any], plan: StreamPlan) -> bool:
        """Return whether a packet belongs to the converted part of the film; shorten a subtitle that is partly in it.

        Packets of other kinds belong to it only if they lie wholly inside.
        """
        if packet.pts is None or not (self._timeline.start_trimmed or self._timeline.end is not None):
            return True
        base = Fraction(packet.time_base)
        span = (packet.pts * base, (packet.pts + (packet.duration or 0)) * base)
        clipped = self._timeline.clip(*span)
        if clipped is None or (clipped != span and plan.info.kind != "subtitle"):
            return False
        if clipped != span:
            packet.pts = packet.dts = round(clipped[0] / base)
            packet.duration = round((clipped[1] - clipped[0]) / base)
        return True

    def _retime(self, packet: av.Packet[Any], target: _OutputStream) -> None:
        """Move a packet from its source time to its output time."""
        base = Fraction(packet.time_base)
        packet.pts = _output_ticks(packet.pts, base, self._timeline)
        packet.dts = _output_ticks(packet.dts, base, self._timeline)
        if self._timeline.slowdown != 1 and packet.duration:
            packet.duration = packet.duration * self._timeline.slowdown
        if target.plan.info.kind == "subtitle" and packet.pts is not None:
            # Two subtitles clipped to the same start would have the same time, which mp4 cannot store.
            earliest = packet.pts if target.latest is None else target.latest + 1
            packet.pts = packet.dts = max(packet.pts, earliest)
            target.latest = packet.pts


def _read_attachment(stream: Any, source: av.container.InputContainer) -> tuple[str, str, bytes]:
    """Return the file name, media type and contents of an attachment, or of cover art that becomes one."""
    if isinstance(stream, av.stream.AttachmentStream):
        return stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data
    codec = stream.codec_context.name
    media_type = {"mjpeg": "image/jpeg", "png": "image/png"}.get(codec, f"image/{codec}")
    name = stream.metadata.get("filename") or f"cover.{'jpg' if codec == 'mjpeg' else codec}"
    with open_container(source.name) as reopened:  # because `source` is read from its start later
        data = next((bytes(packet) for packet in reopened.demux(reopened.streams[stream.index]) if packet.size), b"")
    return name, stream.metadata.get("mimetype", media_type), data


def _output_ticks(ticks: int | None, base: Fraction, timeline: Timeline) -> int | None:
    """Return the output time of a source time, both in ticks of `base`."""
    return None if ticks is None else floor(timeline.output_time(ticks * base) / base + Fraction(1, 2))


def _convert_subtitle(packet: av.Packet[Any], codec: str) -> av.Packet[Any]:
    """Convert a text subtitle to `codec`.

    SubRip packets are plain UTF-8; mov_text packets are the same text after its length in two big-endian bytes.
    """
    payload = bytes(packet)
    if codec == "subrip":
        payload = payload[2 : 2 + int.from_bytes(payload[:2], "big")]
    else:
        payload = payload[:0xFFFF]
        payload = len(payload).to_bytes(2, "big") + payload
    converted: av.Packet[Any] = av.Packet(payload)
    converted.time_base = packet.time_base
    converted.pts, converted.dts, converted.duration = packet.pts, packet.dts, packet.duration
    return converted
