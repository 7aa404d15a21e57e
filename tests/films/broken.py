"""Films that are broken in known ways. Each function writes a new file and leaves the one it starts from alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .drawing import USUAL, _audio_packets, _audio_stream, _cover, draw
from .film import AudioTrack, Film
from .reading import film_stream


def truncated(path: Path, fraction: float, to: Path) -> Path:
    """Only the first `fraction` of the bytes. To cut an mp4 that still opens, draw it with movflags=+faststart."""
    contents = Path(path).read_bytes()
    to.write_bytes(contents[: int(len(contents) * fraction)])
    return to


def bit_flips(path: Path, count: int, seed: int, to: Path, first: float = 0.0) -> Path:
    """`count` single bits turned over at random places behind the first `first` (a share) of the file."""
    contents = np.frombuffer(Path(path).read_bytes(), np.uint8).copy()
    draw = np.random.default_rng(seed)
    where = draw.choice(np.arange(int(len(contents) * first), len(contents)), count, replace=False)
    contents[where] ^= (1 << draw.integers(0, 8, count)).astype(np.uint8)
    to.write_bytes(contents.tobytes())
    return to


def moov_missing(path: Path, to: Path) -> Path:
    """An mp4 or mov without its index, as left by a recorder that lost power."""
    contents, kept, place = Path(path).read_bytes(), b"", 0
    while place + 8 <= len(contents):
        size = int.from_bytes(contents[place : place + 4], "big")
        if size == 1:
            size = int.from_bytes(contents[place + 8 : place + 16], "big")
        size = size or len(contents) - place
        if contents[place + 4 : place + 8] != b"moov":
            kept += contents[place : place + size]
        place += size
    to.write_bytes(kept)
    return to


def empty(to: Path) -> Path:
    to.write_bytes(b"")
    return to


def text(to: Path) -> Path:
    """A letter, under whatever name. Named .txt it opens in FFmpeg as a film of ANSI art."""
    to.write_text("Dear viewer,\nthis is no film.\n" * 40)
    return to


def audio_only(to: Path, with_cover: bool = False) -> Path:
    """Half a second of sound, no picture but (perhaps) the cover's."""
    film, track = Film(frames=12), AudioTrack()
    with av.open(str(to), "w") as out:
        stream = _audio_stream(out, track, to.suffix if to.suffix in USUAL else ".mp4")
        for packet in [
            *(_cover(out, to.suffix) if with_cover else []),
            *_audio_packets(stream, track, film, Fraction(0)),
        ]:
            out.mux(packet)
    return to


def size_change(film: Film, to: Path, width: int, height: int) -> Path:
    """A film whose second half has another size, in one stream: `film` twice, joined. Containers .ts and .h264."""
    halves = []
    for number, (w, h) in enumerate(((film.width, film.height), (width, height))):
        half = replace(film, width=w, height=h, start=film.start + number * film.duration)
        halves.append(draw(half, to.with_name(f"{to.stem}.half{number}{to.suffix}")))
    to.write_bytes(b"".join(half.read_bytes() for half in halves))
    for piece in halves:
        piece.unlink()
    return to


def undecodable(path: Path, frames: Collection[int], to: Path) -> Path:
    """The packets numbered `frames` (in the order of the stream) hold rubbish instead of a picture."""

    def spoil(number: int, packet: av.Packet) -> av.Packet:
        if number not in frames:
            return packet
        rubbish = av.Packet(np.random.default_rng(number).integers(1, 255, packet.size, np.uint8).tobytes())
        rubbish.time_base, rubbish.pts, rubbish.dts = packet.time_base, packet.pts, packet.dts
        rubbish.duration, rubbish.is_keyframe = packet.duration, packet.is_keyframe
        return rubbish

    return remuxed(path, to, spoil)


def dropped(path: Path, frames: Collection[int], to: Path) -> Path:
    """The packets numbered `frames` are missing."""
    return remuxed(path, to, lambda number, packet: None if number in frames else packet)


def falling_times(path: Path, to: Path, equal: Collection[int] = (), falling: Collection[int] = ()) -> Path:
    """Frames `equal` have the time of the frame before, frames `falling` that of the one two before.

    `to` and `path` are Matroska, and the codec must not reorder frames (ffv1, mjpeg, b_frames=0).
    """
    times: list[int] = []

    def shift(number: int, packet: av.Packet) -> av.Packet:
        times.append(packet.pts)
        packet.dts = packet.pts - 10_000
        packet.pts = times[number - 1] if number in equal else times[number - 2] if number in falling else packet.pts
        return packet

    return remuxed(path, to, shift)


def remuxed(path: Path, to: Path, change: Callable[[int, av.Packet], av.Packet | None]) -> Path:
    """A copy whose film packets pass through `change(number, packet)`; None leaves a packet out."""
    with av.open(str(path)) as source, av.open(str(to), "w") as out:
        film = film_stream(source)
        kept = {
            s.index: out.add_stream_from_template(s) for s in source.streams if s.type in ("video", "audio", "subtitle")
        }
        number = 0
        for packet in source.demux(*(source.streams[index] for index in kept)):
            if packet.size == 0:
                continue
            target, copied = kept[packet.stream.index], packet
            if packet.stream is film or packet.stream.index == film.index:
                changed = change(number, packet)
                number += 1
                if changed is None:
                    continue
                copied = changed
            copied.stream = target
            out.mux(copied)
    return to
