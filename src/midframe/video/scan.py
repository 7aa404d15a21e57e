"""Reading every packet of a film once, without decoding: its frames' times, its streams, and whether all is there."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Any

import av
import av.container
import av.error
import av.stream

from midframe.errors import Cancelled, error_reason
from midframe.video.containers import demuxer_named
from midframe.video.images.gif_blocks import gif_is_truncated


@dataclass(frozen=True)
class StreamInfo:
    """One stream as it stands in the film. `first` and `end` are the earliest and latest times of its packets."""

    index: int
    kind: str
    codec: str
    language: str | None = None
    title: str | None = None
    cover: bool = False
    packets: int = 0
    bytes: int = 0
    first: Fraction | None = None
    end: Fraction | None = None

    def describe(self) -> str:
        words = [f"{self.kind} {self.index}", self.codec, self.language, f'"{self.title}"' if self.title else None]
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Scan:
    """What the packets of a film say.

    ticks: the times of its frames in units of `time_base`, rising; timed: whether the packets carry display times
    (else frame k of the film is the k-th that the decoder gives); duplicates: frames left out of `ticks` since their
    time does not rise; not_shown: frames that come before the first that a decoder can start at; last_duration: of the
    last frame, in seconds, None where nobody says; problems: damage in words, `ends_early` where the end is missing.
    """

    ticks: array[int]
    time_base: Fraction
    timed: bool
    duplicates: int
    not_shown: int
    last_duration: Fraction | None
    streams: tuple[StreamInfo, ...]
    problems: tuple[str, ...]
    ends_early: bool


def scan(
    container: av.container.InputContainer,
    index: int,
    *,
    rate: Fraction,
    first_pts: int | None,
    messages: Counter[str],
    cancelled: Callable[[], bool],
) -> Scan:
    """Read all packets of an opened film whose picture is stream `index`.

    rate: frames a second where no packet has a time; first_pts: the time of the first frame that could be decoded;
    messages: what the demuxer logs meanwhile. Raises `Cancelled`.
    """
    streams = list(container.streams)
    film = streams[index]
    assert isinstance(film, av.VideoStream)
    tallies = [_Tally() for _ in streams]
    packets = _FilmPackets(film.codec_context.codec.canonical_name)
    corrupt = 0
    stopped: str | None = None
    try:
        for packet in container.demux():
            if cancelled():
                raise Cancelled("stopped")
            if (packet.size == 0 and packet.pts is None and packet.dts is None) or packet.stream_index >= len(streams):
                continue
            corrupt += packet.is_corrupt
            tallies[packet.stream_index].take(packet)
            if packet.stream_index == index:
                packets.take(packet)
    except (av.error.FFmpegError, OSError) as error:
        stopped = error_reason(error)
    problems = [f"packets marked as damaged: {corrupt}"] if corrupt else []
    missing = _missing_seconds(container, film, tallies)
    early = f"reading stopped: {stopped}" if stopped else None
    if container.format.name == "gif" and gif_is_truncated(container.name):
        early = early or "the GIF ends before its last picture does"
    early = early or _early_end(container, streams, tallies, missing, rate=rate, messages=messages)
    if early:
        problems.append(early)
    elif missing > Fraction(3, 5) / rate:
        problems.append(f"the film should last {float(missing):.3f} s longer than its packets do")
    # With an edit list an mp4 has fewer frames than its header says; but each takes a byte at least.
    trimmed = container.format.name.startswith("mov") and film.frames <= container.size
    if tallies[index].packets < film.frames and not trimmed:
        problems.append(f"its header lists {film.frames} frames, {tallies[index].packets} are there")
    if packets.hidden:
        problems.append(f"{packets.hidden} frames in the middle of the film are marked as not to be shown")
    base = Fraction(film.time_base) if film.time_base else 1 / rate
    ticks, timed, dropped = packets.order(film.codec_context.has_b_frames)
    if not timed and not ticks:
        ticks, base = array("q", range(packets.shown)), 1 / rate
    not_shown = bisect_left(ticks, min(first_pts, packets.first_key)) if timed and first_pts is not None else 0
    ticks = ticks[not_shown:]
    if not demuxer_named(container.format.name).frames_indexed and (hole := _hole(ticks, base)):
        problems.append(hole)
    problems += [f"{text} ({n} times)" if n > 1 else text for text, n in messages.items()]
    return Scan(
        ticks=ticks,
        time_base=base,
        timed=timed,
        duplicates=dropped,
        not_shown=not_shown,
        last_duration=packets.last[1] * base if timed and packets.last[1] > 0 else None,
        streams=tuple(_stream_info(s, tally) for s, tally in zip(streams, tallies, strict=True)),
        problems=tuple(problems),
        ends_early=early is not None,
    )


def is_cover(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def shows_a_frame(codec: str, payload: bytes) -> bool:
    """Whether a packet's frame is meant to be shown: VP8 and VP9 have packets that only serve as references."""
    if codec == "vp8" and payload:
        return bool(payload[0] >> 4 & 1)
    if codec == "vp9" and payload and payload[0] >> 6 == 2:
        if payload[-1] & 0xE0 == 0xC0:  # a superframe ends with one that is shown
            return True
        bits = payload[0] << 8 | (payload[1] if len(payload) > 1 else 0)
        at = 11 if bits >> 12 & 3 == 3 else 12  # profile 3 has a reserved bit
        show_existing_frame, show_frame = bits >> at - 1 & 1, bits >> at - 3 & 1
        return bool(show_existing_frame or show_frame)
    return True


@dataclass
class _Tally:
    """What has been seen of one stream."""

    packets: int = 0
    bytes: int = 0
    first: Fraction | None = None
    end: Fraction | None = None

    def take(self, packet: av.Packet[Any]) -> None:
        self.packets += 1
        self.bytes += packet.size
        if packet.pts is not None and packet.time_base:
            base = Fraction(packet.time_base)
            at, until = packet.pts * base, (packet.pts + (packet.duration or 0)) * base
            self.first = at if self.first is None else min(self.first, at)
            self.end = until if self.end is None else max(self.end, until)


@dataclass
class _FilmPackets:
    """The times of the packets that are shown, in the order of the file."""

    codec: str
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    shown: int = 0
    discarded: int = 0
    hidden: int = 0
    first_key: int = 1 << 62
    last: tuple[int, int] = (-(1 << 62), 0)

    def take(self, packet: av.Packet[Any]) -> None:
        if packet.is_discard:
            # At either end of the film it is an edit list; so is a frame beside a cut that is stored out of order.
            self.discarded += self.shown > 0 and (packet.is_keyframe or self.discarded > 0)
            return
        if self.codec in ("vp8", "vp9") and not shows_a_frame(self.codec, bytes(packet)):
            return
        self.hidden = self.discarded
        self.shown += 1
        if packet.dts is not None:
            self.dts.append(packet.dts)
        if packet.pts is not None:
            self.pts.append(packet.pts)
            self.last = max(self.last, (packet.pts, packet.duration or 0))
            if packet.is_keyframe:
                self.first_key = min(self.first_key, packet.pts)

    def order(self, reordered: int) -> tuple[array[int], bool, int]:
        """(display times, rising; whether they are the packets' own; how many were left out for not rising).

        Where packets lack display times (AVI) decoding times serve, as both follow each other at the same steps; where
        there are none either (a bare stream) the times are empty.
        """
        timed = self.shown > 0 and len(self.pts) == self.shown
        times = self.pts if timed else self.dts if len(self.dts) == self.shown else array("q")
        if timed and not reordered and 5 * sum(b < a for a, b in pairwise(times)) < len(times):
            rising = array("q")
            for time in times:  # the decoder gives frames in the order of the packets: a falling time is an error
                if not rising or time > rising[-1]:
                    rising.append(time)
        else:
            rising = array("q", sorted(set(times)))
        if not timed and len(rising) != self.shown:
            return array("q"), False, 0
        return rising, timed, len(times) - len(rising)


def _early_end(
    container: av.container.InputContainer,
    streams: list[av.stream.Stream],
    tallies: list[_Tally],
    missing_seconds: Fraction,
    *,
    rate: Fraction,
    messages: Counter[str],
) -> str | None:
    """Why the end of the film seems to be missing, None where it does not."""
    name = container.format.name
    if name.startswith("mov"):
        for stream, tally in zip(streams, tallies, strict=True):
            listed = len(stream.index_entries)  # with edit lists applied, unlike `stream.frames`
            if stream.type in ("video", "audio") and not is_cover(stream) and 0 < tally.packets < listed:
                return f"the index lists {listed} packets of {stream.type} {stream.index}, {tally.packets} are there"
    if name == "avi" and _riff_is_cut(container):
        return "the file is shorter than its header says"
    if name == "yuv4mpegpipe" and _y4m_is_cut(container, streams[0], tallies[0]):
        return "the file ends within a frame"
    if any("ended prematurely" in message for message in messages):
        return "the file ends before its film does"
    if missing_seconds > max(Fraction(1, 4), 2 / rate):
        return f"its last {float(missing_seconds):.3f} s are missing"
    return None


def _missing_seconds(container: av.container.InputContainer, film: av.stream.Stream, tallies: list[_Tally]) -> Fraction:
    """How much earlier the packets of a Matroska film, or of its picture, end than its header promises."""
    ends = [tally.end for tally in tallies if tally.end is not None]
    if not container.format.name.startswith("matroska") or not ends:
        return Fraction(0)
    start = min(Fraction(container.start_time or 0, av.time_base), Fraction(0))
    missing = Fraction(container.duration or 0, av.time_base) - (max(ends) - start)
    tag, end = film.metadata.get("DURATION", ""), tallies[film.index].end
    if (parts := tag.split(":"))[2:] and end is not None:  # as FFmpeg writes it: hours, minutes, seconds
        with suppress(ValueError):
            hours, minutes, seconds = (Fraction(part) for part in parts)
            missing = max(missing, hours * 3600 + minutes * 60 + seconds - end)
    return max(missing, Fraction(0))


def _riff_is_cut(container: av.container.InputContainer) -> bool:
    with Path(container.name).open("rb") as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > container.size + 1


def _y4m_is_cut(container: av.container.InputContainer, stream: av.stream.Stream, tally: _Tally) -> bool:
    with Path(container.name).open("rb") as file:
        head = len(file.readline(4096))
    length = tally.bytes // max(tally.packets, 1)
    return container.size > head + tally.packets * (length + len(b"FRAME\n")) and tally.packets > 0


def _hole(ticks: array[int], base: Fraction) -> str | None:
    """Where frames of a film of constant rate seem to be missing, in words; None for whole films and variable rates."""
    steps = [b - a for a, b in pairwise(ticks)]
    if len(steps) < 8:
        return None
    usual = int(median_low(steps))
    slack = max(2.0, float(Fraction(3, 2000) / base), usual / 20)
    odd = [k for k, step in enumerate(steps) if abs(step - usual) > slack]
    jumps = [k for k in odd if steps[k] > 1.5 * usual]
    if not jumps or len(odd) > max(3, len(steps) // 20):
        return None
    missing = sum(max(1, round(steps[k] / usual) - 1) for k in jumps)
    number = f"{missing} frames seem" if missing > 1 else "a frame seems"
    return f"{number} to be missing after {float(ticks[jumps[0]] * base):.3f} s, where the time jumps"


def _stream_info(stream: av.stream.Stream, tally: _Tally) -> StreamInfo:
    context = stream.codec_context
    known = context is not None and context.codec is not None
    metadata = stream.metadata
    return StreamInfo(
        stream.index,
        stream.type,
        context.codec.canonical_name if known else getattr(stream, "name", None) or "unknown",
        stream.language,
        metadata.get("title") or metadata.get("name"),
        is_cover(stream),
        tally.packets,
        tally.bytes,
        tally.first,
        tally.end,
    )
