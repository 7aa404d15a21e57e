"""Everything in a film that is not its picture: what the new file takes, and carrying it over packet by packet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import av.container
import av.error
import av.stream

from midframe.video.audio import Stretcher, stretch_codec
from midframe.video.probe import Film, StreamInfo, open_container
from midframe.video.timeline import Timeline

Action = Literal["encode", "copy", "convert", "attach", "stretch", "drop"]
Audio = Literal["keep", "drop", "stretch"]


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of one stream, and why where it is left out or changed."""

    info: StreamInfo
    action: Action
    codec: str
    reason: str = ""

    @property
    def kept(self) -> bool:
        return self.action != "drop"


def plan_streams(film: Film, container: str, audio: Audio = "keep") -> tuple[StreamPlan, ...]:
    """Decide for every stream of a film whether the target container takes it: copied, converted, or left out."""
    if not film.streams:
        return ()
    with open_container(film.path) as source:
        return tuple(_plan(film, info, source, container, audio) for info in film.streams)


def chapters_for(film: Film, container: str, timeline: Timeline) -> list[dict[str, Any]]:
    """The film's chapters at their output times, clipped to the part that is converted."""
    if container in _PICTURE_ONLY:
        return []
    kept = []
    for chapter in film.chapters:
        base = Fraction(chapter["time_base"])
        clipped = timeline.clip(chapter["start"] * base, chapter["end"] * base)
        if clipped is not None:
            start, end = (round(timeline.place(time) / base) for time in clipped)
            kept.append({**chapter, "start": start, "end": end, "time_base": base})
    return kept


def metadata_for(film: Film, container: str) -> dict[str, str]:
    """The film's own metadata, less what describes the old file."""
    stale = {"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time_mkv"}
    return {k: v for k, v in film.metadata.items() if k.lower() not in stale}


def stream_metadata(metadata: Mapping[str, str], container: str) -> dict[str, str]:
    """A stream's metadata under the names that the target container writes, less what describes the old packets."""
    kept: dict[str, str] = {}
    for key, value in metadata.items():
        upper = key.upper()
        if upper.startswith(("BPS", "NUMBER_OF_", "_STATISTICS", "DURATION")) or upper in ("ENCODER", "VENDOR_ID"):
            continue
        if upper == "HANDLER_NAME" and container in ("matroska", "webm"):
            continue
        kept["title" if key == "name" else key] = value
    return kept


class Carrier:
    """Carries packets of the other streams into an output, a little at a time."""

    def __init__(self, film: Film, plans: tuple[StreamPlan, ...], container: str, timeline: Timeline) -> None:
        self.film = film
        self.plans = [plan for plan in plans if plan.kept and plan.action != "encode"]
        self.container = container
        self.timeline = timeline
        self.counts: dict[int, int] = {}
        self.source = open_container(film.path) if self.plans else None
        self.outputs: dict[int, tuple[StreamPlan, Any]] = {}
        self.stretchers: dict[int, Stretcher] = {}
        self.packets: Iterator[av.Packet[Any]] = iter(())
        self.waiting: av.Packet[Any] | None = None

    def close(self) -> None:
        """Let go of the source film."""
        if self.source is not None:
            self.source.close()

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
                stretcher = Stretcher(stream, output, plan.codec, self.timeline)
                self.stretchers[stream.index] = stretcher
                added: Any = stretcher.stream
            else:
                added = _add(output, stream, plan)
            added.metadata.update(stream_metadata(stream.metadata, self.container))
            added.disposition = int(stream.disposition)
            self.outputs[stream.index] = (plan, added)
            self.counts[stream.index] = 0
        wanted = [streams[index] for index in self.outputs]
        if wanted:
            # Attaching cover art may have read on.
            self.source.seek(-(1 << 62), backward=True) if self.source.format.name == "matroska,webm" else None
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
            self.counts[index] += stretcher.finish(output)

    def _next(self) -> av.Packet[Any] | None:
        for packet in self.packets:
            if packet.size or packet.pts is not None:
                return packet
        return None

    def _write(self, output: av.container.OutputContainer, packet: av.Packet[Any]) -> None:
        plan, stream = self.outputs[packet.stream_index]
        if not self._inside(packet, plan):
            return
        index = packet.stream_index
        if plan.action == "stretch":
            self.counts[index] += self.stretchers[index].take(packet, output)
            return
        if plan.action == "convert":
            converted = _convert_text(packet, plan)
            if converted is None:
                return
            packet = converted
        if not plan.info.cover:
            base = Fraction(packet.time_base)
            packet.pts = _moved(packet.pts, base, self.timeline)
            packet.dts = _moved(packet.dts, base, self.timeline)
            if self.timeline.slow != 1 and packet.duration:
                packet.duration = packet.duration * self.timeline.slow
        packet.stream = stream
        output.mux(packet)
        self.counts[index] += 1

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


_PICTURE_ONLY = ("gif", "webp", "yuv4mpegpipe", "pictures")
_TEXT = {"mov_text": "subrip", "subrip": "mov_text"}


def _plan(
    film: Film, info: StreamInfo, source: av.container.InputContainer, container: str, audio: Audio
) -> StreamPlan:
    if info.index == film.index:
        return StreamPlan(info, "encode", info.codec)
    if container in _PICTURE_ONLY:
        return StreamPlan(info, "drop", info.codec, "the target holds pictures only")
    stream = source.streams[info.index]
    if info.kind == "data" or info.kind == "unknown":
        return StreamPlan(info, "drop", info.codec, "data streams are not carried")
    if info.kind == "attachment" or (info.cover and container == "matroska"):
        if container != "matroska":
            return StreamPlan(info, "drop", info.codec, f"{_spoken(container)} has no attachments")
        return StreamPlan(info, "attach", info.codec)
    if info.cover and container == "webm":
        return StreamPlan(info, "drop", info.codec, "webm has no cover art")
    if info.kind == "audio" and audio == "drop":
        return StreamPlan(info, "drop", info.codec, "sound is left out of slow motion (--audio stretch keeps it)")
    if info.kind == "audio" and audio == "stretch":
        return StreamPlan(info, "stretch", stretch_codec(info.codec, container), "played slower at its own pitch")
    if info.packets == 0:
        return StreamPlan(info, "drop", info.codec, "it is empty")
    refusal = _refusal(stream, container)
    if refusal is None:
        return StreamPlan(info, "copy", info.codec)
    other = _TEXT.get(info.codec)
    if other is not None and container in {"subrip": ("matroska",), "mov_text": ("mp4", "mov")}[other]:
        return StreamPlan(info, "convert", other, f"{_spoken(container)} holds subtitles as {other}")
    return StreamPlan(info, "drop", info.codec, f"{_spoken(container)} cannot hold {info.codec}")


def _refusal(stream: av.stream.Stream, container: str) -> str | None:
    """Why a container does not take a stream, None where it does: tried out on an empty file in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
            return None
    except (av.error.FFmpegError, ValueError, OSError, KeyError) as error:
        return str(error)


def _add(output: av.container.OutputContainer, stream: av.stream.Stream, plan: StreamPlan) -> Any:
    if plan.action == "copy":
        return output.add_stream_from_template(stream)
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
    return None if ticks is None else round(timeline.place(ticks * base) / base)


def _convert_text(packet: av.Packet[Any], plan: StreamPlan) -> av.Packet[Any] | None:
    """A subtitle between SubRip (plain UTF-8) and mov_text (the same after its length in two bytes)."""
    payload = bytes(packet)
    if plan.codec == "subrip":
        payload = payload[2 : 2 + int.from_bytes(payload[:2], "big")]
        if not payload:
            return None
    else:
        payload = len(payload).to_bytes(2, "big") + payload
    converted: av.Packet[Any] = av.Packet(payload)
    converted.time_base = packet.time_base
    converted.pts, converted.dts, converted.duration = packet.pts, packet.dts, packet.duration
    return converted


def _spoken(container: str) -> str:
    return {"matroska": "mkv"}.get(container, container)
