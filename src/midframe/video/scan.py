"""Read every packet of a film once, without decoding: the times of its frames, its streams, and signs of damage."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

import av
import av.container
import av.error
import av.stream

from midframe.errors import Cancelled, error_reason
from midframe.video.containers import demuxer_named
from midframe.video.ffmpeg import is_cover_art, matroska_duration
from midframe.video.gif_blocks import gif_is_truncated


@dataclass(frozen=True)
class StreamInfo:
    """One stream of a film."""

    index: int
    kind: str
    """FFmpeg's type of the stream: "video", "audio", "subtitle", "data" or "attachment"."""
    codec: str
    """FFmpeg's name of the codec."""
    language: str | None = None
    title: str | None = None
    is_cover_art: bool = False
    """Whether the stream is an attached picture."""
    packets: int = 0
    bytes: int = 0
    """Size of all packets."""
    first_time: Fraction | None = None
    """The earliest time of a packet, in seconds."""
    end_time: Fraction | None = None
    """The latest end of a packet, in seconds."""

    def describe(self) -> str:
        """Return the stream in words, such as 'audio 1 aac deu "Commentary"'."""
        words = [f"{self.kind} {self.index}", self.codec, self.language, f'"{self.title}"' if self.title else None]
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Scan:
    """What the packets of a film show."""

    ticks: array[int]
    """The time of every frame in units of `time_base`, strictly increasing."""
    time_base: Fraction
    """Unit of `ticks`, in seconds."""
    has_timestamps: bool
    """Whether the packets have display times; if not, the k-th time in `ticks` is that of the k-th decoded frame."""
    duplicate_frames: int
    """Frames left out of `ticks` because their time does not increase."""
    undecodable_start: int
    """Frames left out of `ticks` because they come before the first frame at which a decoder can start."""
    last_duration: Fraction | None
    """Duration of the last frame in seconds; None if its packet does not state it."""
    streams: tuple[StreamInfo, ...]
    problems: tuple[str, ...]
    """Signs of damage, in words."""
    ends_early: bool
    """Whether the end of the film is missing."""


def scan(
    container: av.container.InputContainer,
    stream_index: int,
    *,
    rate: Fraction,
    first_pts: int | None,
    messages: Counter[str],
    cancelled: Callable[[], bool],
) -> Scan:
    """Read all packets of an opened film and summarise them.

    stream_index: the stream of the film's picture. rate: frames per second, for films without timestamps. first_pts:
    timestamp of the first frame that could be decoded. messages: errors that the demuxer logs meanwhile. Raises
    `Cancelled` if `cancelled`, which is asked before each packet, returns true.
    """
    stream = container.streams[stream_index]
    assert isinstance(stream, av.VideoStream)
    packets = _read_packets(container, stream, cancelled)
    problems = [f"packets marked as damaged: {packets.corrupt}"] if packets.corrupt else []
    missing = _missing_seconds(container, stream, packets)
    early = _early_end(container, packets, missing, rate, messages)
    if early:
        problems.append(early)
    elif missing > Fraction(3, 5) / rate:
        problems.append(f"its packets end {float(missing):.3f} s earlier than its header says")
    problems += _frame_count_problems(container, stream, packets)
    times = packets.frame_times
    base = Fraction(stream.time_base) if stream.time_base else 1 / rate
    ticks, has_timestamps, duplicates = times.display_order(stream.codec_context.has_b_frames)
    if not has_timestamps and not ticks:
        ticks, base = array("q", range(times.shown)), 1 / rate
    undecodable = 0
    if has_timestamps and first_pts is not None:
        undecodable = bisect_left(ticks, min(first_pts, times.first_key_pts))
        ticks = ticks[undecodable:]
    if not demuxer_named(container.format.name).frames_indexed:
        problems += _timestamp_jump(ticks, base)
    problems += [f"{text} ({n} times)" if n > 1 else text for text, n in messages.items()]
    return Scan(
        ticks=ticks,
        time_base=base,
        has_timestamps=has_timestamps,
        duplicate_frames=duplicates,
        undecodable_start=undecodable,
        last_duration=times.last_duration * base if has_timestamps and times.last_duration > 0 else None,
        streams=tuple(_stream_info(s, n) for s, n in zip(container.streams, packets.statistics, strict=False)),
        problems=tuple(problems),
        ends_early=early is not None,
    )


def shows_frame(codec: str, payload: bytes) -> bool:
    """Return whether the frame in a packet is meant to be shown.

    Some frames of VP8 and VP9 serve only as references, as the header in the packet says. Frames of other codecs are
    all shown.
    """
    if codec == "vp8" and payload:
        return bool(payload[0] >> 4 & 1)
    if codec == "vp9" and payload and payload[0] >> 6 == 2:
        if payload[-1] & 0xE0 == 0xC0:  # a superframe ends with a frame that is shown
            return True
        bits = payload[0] << 8 | (payload[1] if len(payload) > 1 else 0)
        position = 11 if bits >> 12 & 3 == 3 else 12  # profile 3 has a reserved bit
        show_existing_frame, show_frame = bits >> position - 1 & 1, bits >> position - 3 & 1
        return bool(show_existing_frame or show_frame)
    return True


@dataclass
class _StreamStatistics:
    """Number, size and times of a stream's packets; see `StreamInfo`."""

    packets: int = 0
    bytes: int = 0
    first_time: Fraction | None = None
    end_time: Fraction | None = None

    def add(self, packet: av.Packet[Any]) -> None:
        self.packets += 1
        self.bytes += packet.size
        if packet.pts is not None and packet.time_base:
            base = Fraction(packet.time_base)
            start, end = packet.pts * base, (packet.pts + (packet.duration or 0)) * base
            self.first_time = start if self.first_time is None else min(self.first_time, start)
            self.end_time = end if self.end_time is None else max(self.end_time, end)


@dataclass
class _FrameTimes:
    """Timestamps of the video packets that are shown, in file order."""

    codec: str
    """FFmpeg's name of the codec."""
    pts: array[int] = field(default_factory=lambda: array("q"))
    """Display times, of the packets that have one."""
    dts: array[int] = field(default_factory=lambda: array("q"))
    """Decoding times, of the packets that have one."""
    shown: int = 0
    """Packets whose frame is shown."""
    discarded: int = 0
    """Packets marked as not to be shown. The count starts at the first marked key frame after a shown packet."""
    discarded_inside: int = 0
    """The packets counted in `discarded` that a shown packet follows: they lie in the middle of the film."""
    first_key_pts: int = 1 << 62
    """The earliest display time of a key frame."""
    last_pts: int = -(1 << 62)
    """The latest display time."""
    last_duration: int = 0
    """The duration of the frame at `last_pts`; 0 if unknown."""

    def add(self, packet: av.Packet[Any]) -> None:
        if packet.is_discard:
            # It is normal that an edit list discards packets at both ends of the film, and that they are mixed with
            # shown packets there by reordering. It is a sign of damage if a key frame is discarded and shown packets
            # follow.
            self.discarded += self.shown > 0 and (packet.is_keyframe or self.discarded > 0)
            return
        if self.codec in ("vp8", "vp9") and not shows_frame(self.codec, bytes(packet)):
            return
        self.discarded_inside = self.discarded
        self.shown += 1
        if packet.dts is not None:
            self.dts.append(packet.dts)
        if packet.pts is not None:
            self.pts.append(packet.pts)
            self.last_pts, self.last_duration = max(
                (self.last_pts, self.last_duration), (packet.pts, packet.duration or 0)
            )
            if packet.is_keyframe:
                self.first_key_pts = min(self.first_key_pts, packet.pts)

    def display_order(self, reorder_depth: int) -> _DisplayOrder:
        """Return the times in display order. reorder_depth: number of frames by which the codec may reorder.

        If any packet lacks a display time (AVI), the decoding times are used, as they have the same intervals. If any
        packet lacks a decoding time too (a raw stream), there are no times.
        """
        has_pts = self.shown > 0 and len(self.pts) == self.shown
        times = self.pts if has_pts else self.dts if len(self.dts) == self.shown else array("q")
        in_order = has_pts and not reorder_depth and 5 * sum(b < a for a, b in pairwise(times)) < len(times)
        # If the codec does not reorder, a time that decreases is an error, and its frame is left out. If a fifth of all
        # times decrease, the packets are reordered after all, and the times are sorted.
        increasing = _running_maxima(times) if in_order else array("q", sorted(set(times)))
        if not has_pts and len(increasing) != self.shown:
            return _DisplayOrder(array("q"), False, 0)
        return _DisplayOrder(increasing, has_pts, len(times) - len(increasing))


class _DisplayOrder(NamedTuple):
    """The times of a film's frames in display order."""

    ticks: array[int]
    """Strictly increasing; empty if unknown."""
    has_timestamps: bool
    """Whether `ticks` are display times; if not, they are decoding times."""
    duplicates: int
    """Frames that were left out because their time does not increase."""


def _running_maxima(times: array[int]) -> array[int]:
    """Return the times that are larger than all before them."""
    maxima = array("q")
    for time in times:
        if not maxima or time > maxima[-1]:
            maxima.append(time)
    return maxima


@dataclass
class _Packets:
    """Counts and times of all packets of a film."""

    statistics: list[_StreamStatistics]
    """One for each stream."""
    frame_times: _FrameTimes
    corrupt: int = 0
    """Packets that FFmpeg marks as corrupt."""
    error: str | None = None
    """The error at which reading stopped."""


def _read_packets(
    container: av.container.InputContainer, film: av.VideoStream, cancelled: Callable[[], bool]
) -> _Packets:
    """Read all packets; streams that first appear while reading are ignored."""
    count = len(container.streams)
    codec = film.codec_context.codec.canonical_name
    found = _Packets([_StreamStatistics() for _ in range(count)], _FrameTimes(codec))
    try:
        for packet in container.demux():
            if cancelled():
                raise Cancelled("stopped")
            if (packet.size == 0 and packet.pts is None and packet.dts is None) or packet.stream_index >= count:
                continue
            found.corrupt += packet.is_corrupt
            found.statistics[packet.stream_index].add(packet)
            if packet.stream_index == film.index:
                found.frame_times.add(packet)
    except (av.error.FFmpegError, OSError) as error:
        found.error = error_reason(error)
    return found


def _early_end(
    container: av.container.InputContainer,
    packets: _Packets,
    missing_seconds: Fraction,
    rate: Fraction,
    messages: Counter[str],
) -> str | None:
    """Return why the end of the film seems to be missing, in words; None if it seems to be there."""
    name = container.format.name
    if packets.error is not None:
        return f"reading stopped: {packets.error}"
    if name == "gif" and gif_is_truncated(container.name):
        return "the GIF ends before its last picture does"
    if name.startswith("mov") and (unread := _unread_index_entries(container, packets)):
        return unread
    if name == "avi" and _riff_is_cut(container):
        return "the file is shorter than its header says"
    if name == "yuv4mpegpipe" and _y4m_is_cut(container, packets.statistics[0]):
        return "the file ends within a frame"
    if any("ended prematurely" in message for message in messages):
        return "the file ends before the end of the film"
    if missing_seconds > max(Fraction(1, 4), 2 / rate):
        return f"its last {float(missing_seconds):.3f} s are missing"
    return None


def _unread_index_entries(container: av.container.InputContainer, packets: _Packets) -> str | None:
    """Return in words which stream of an mp4 or mov has fewer packets than its index; None if none has."""
    for stream, statistics in zip(container.streams, packets.statistics, strict=False):
        listed = len(stream.index_entries)  # with edit lists applied, unlike `stream.frames`
        if stream.type in ("video", "audio") and not is_cover_art(stream) and 0 < statistics.packets < listed:
            return f"the index lists {listed} packets of {stream.type} {stream.index}, {statistics.packets} are there"
    return None


def _frame_count_problems(container: av.container.InputContainer, film: av.VideoStream, packets: _Packets) -> list[str]:
    """Describe missing frames, if the header counts more than there are, and frames marked as not to be shown."""
    problems = []
    # An edit list may leave out frames that the header of an mp4 counts. But a header that counts more frames than the
    # file has bytes is damaged.
    may_be_edited = container.format.name.startswith("mov") and film.frames <= container.size
    found = packets.statistics[film.index].packets
    if found < film.frames and not may_be_edited:
        problems.append(f"its header lists {film.frames} frames, {found} are there")
    if packets.frame_times.discarded_inside:
        problems.append(
            f"{packets.frame_times.discarded_inside} frames in the middle of the film are marked as not to be shown"
        )
    return problems


def _missing_seconds(container: av.container.InputContainer, film: av.VideoStream, packets: _Packets) -> Fraction:
    """Return how many seconds of a Matroska film, or of its video stream, are missing by the duration in the header."""
    ends = [statistics.end_time for statistics in packets.statistics if statistics.end_time is not None]
    if not container.format.name.startswith("matroska") or not ends:
        return Fraction(0)
    start = min(Fraction(container.start_time or 0, av.time_base), Fraction(0))
    missing = Fraction(container.duration or 0, av.time_base) - (max(ends) - start)
    duration, end = matroska_duration(film), packets.statistics[film.index].end_time
    if duration is not None and end is not None:
        missing = max(missing, duration - end)
    return max(missing, Fraction(0))


def _riff_is_cut(container: av.container.InputContainer) -> bool:
    """Return whether an AVI file is shorter than its RIFF header says."""
    with Path(container.name).open("rb") as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > container.size + 1


def _y4m_is_cut(container: av.container.InputContainer, statistics: _StreamStatistics) -> bool:
    """Return whether a y4m file has bytes after its last whole frame."""
    with Path(container.name).open("rb") as file:
        header_size = len(file.readline(4096))
    frame_size = statistics.bytes // max(statistics.packets, 1) + len(b"FRAME\n")
    return container.size > header_size + statistics.packets * frame_size and statistics.packets > 0


def _timestamp_jump(ticks: array[int], base: Fraction) -> list[str]:
    """Describe gaps in the times, where frames seem to be missing; only for films of constant rate."""
    steps = [b - a for a, b in pairwise(ticks)]
    if len(steps) < 8:
        return []
    usual = int(median_low(steps))
    tolerance = max(2.0, float(Fraction(3, 2000) / base), usual / 20)  # 2 ticks, 1.5 ms or 5 %
    unusual = [k for k, step in enumerate(steps) if abs(step - usual) > tolerance]
    jumps = [k for k in unusual if steps[k] > 1.5 * usual]
    if not jumps or len(unusual) > max(3, len(steps) // 20):
        return []
    missing = sum(max(1, round(steps[k] / usual) - 1) for k in jumps)
    number = f"{missing} frames seem" if missing > 1 else "a frame seems"
    return [f"{number} to be missing after {float(ticks[jumps[0]] * base):.3f} s, where the time jumps"]


def _stream_info(stream: av.stream.Stream, statistics: _StreamStatistics) -> StreamInfo:
    context = stream.codec_context
    known = context is not None and context.codec is not None
    return StreamInfo(
        index=stream.index,
        kind=stream.type,
        codec=context.codec.canonical_name if known else getattr(stream, "name", None) or "unknown",
        language=stream.language,
        title=stream.metadata.get("title") or stream.metadata.get("name"),
        is_cover_art=is_cover_art(stream),
        packets=statistics.packets,
        bytes=statistics.bytes,
        first_time=statistics.first_time,
        end_time=statistics.end_time,
    )
