"""Write films that are broken in known ways.

Each function writes the file `to`, returns its path, and leaves the file it starts from unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .drawing import DEFAULT_CODECS, _audio_packets, _audio_stream, _cover, draw
from .film import AudioTrack, Film
from .reading import film_stream


def truncated(path: Path, fraction: float, to: Path) -> Path:
    """Copy only the first `fraction` of the bytes. An mp4 drawn with movflags=+faststart can still be opened then."""
    contents = Path(path).read_bytes()
    to.write_bytes(contents[: int(len(contents) * fraction)])
    return to


def bit_flips(path: Path, count: int, seed: int, to: Path, first: float = 0.0) -> Path:
    """Flip `count` bits at random positions, after the first `first` (a fraction) of the file."""
    contents = np.frombuffer(Path(path).read_bytes(), np.uint8).copy()
    draw = np.random.default_rng(seed)
    positions = draw.choice(np.arange(int(len(contents) * first), len(contents)), count, replace=False)
    contents[positions] ^= (1 << draw.integers(0, 8, count)).astype(np.uint8)
    to.write_bytes(contents.tobytes())
    return to


def moov_missing(path: Path, to: Path) -> Path:
    """Remove the index (the box moov) of an mp4 or mov, as if the recorder had lost power."""
    contents, copied, position = Path(path).read_bytes(), b"", 0
    while position + 8 <= len(contents):
        size = int.from_bytes(contents[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(contents[position + 8 : position + 16], "big")
        size = size or len(contents) - position
        if contents[position + 4 : position + 8] != b"moov":
            copied += contents[position : position + size]
        position += size
    to.write_bytes(copied)
    return to


def empty(to: Path) -> Path:
    """Write an empty file."""
    to.write_bytes(b"")
    return to


def text(to: Path) -> Path:
    """Write a text file under any name. FFmpeg opens one named .txt as a film of ANSI art."""
    to.write_text("Dear viewer,\nthis is no film.\n" * 40)
    return to


def audio_only(to: Path, with_cover: bool = False) -> Path:
    """Write half a second of audio without video, or with cover art only."""
    film, track = Film(frames=12), AudioTrack()
    with av.open(str(to), "w") as out:
        stream = _audio_stream(out, track, to.suffix if to.suffix in DEFAULT_CODECS else ".mp4")
        for packet in [
            *(_cover(out, to.suffix) if with_cover else []),
            *_audio_packets(stream, track, film, Fraction(0)),
        ]:
            out.mux(packet)
    return to


def size_change(film: Film, to: Path, width: int, height: int) -> Path:
    """Join two copies of a film, the second in another size, to one stream. The container is .ts or .h264."""
    halves = []
    for number, (w, h) in enumerate(((film.width, film.height), (width, height))):
        half = replace(film, width=w, height=h, start=film.start + number * film.duration)
        halves.append(draw(half, to.with_name(f"{to.stem}.half{number}{to.suffix}")))
    to.write_bytes(b"".join(half.read_bytes() for half in halves))
    for piece in halves:
        piece.unlink()
    return to


def undecodable(path: Path, frames: Collection[int], to: Path) -> Path:
    """Fill the packets numbered `frames` (in the order of the stream) with random bytes."""

    def corrupt(number: int, packet: av.Packet) -> av.Packet:
        if number not in frames:
            return packet
        random_packet = av.Packet(np.random.default_rng(number).integers(1, 255, packet.size, np.uint8).tobytes())
        random_packet.time_base, random_packet.pts, random_packet.dts = packet.time_base, packet.pts, packet.dts
        random_packet.duration, random_packet.is_keyframe = packet.duration, packet.is_keyframe
        return random_packet

    return remuxed(path, to, corrupt)


def dropped(path: Path, frames: Collection[int], to: Path) -> Path:
    """Leave out the packets numbered `frames`."""
    return remuxed(path, to, lambda number, packet: None if number in frames else packet)


def falling_times(path: Path, to: Path, equal: Collection[int] = (), falling: Collection[int] = ()) -> Path:
    """Give the frames `equal` the time of the frame before them, and the frames `falling` that of two frames before.

    Both files are Matroska, and the codec must not reorder frames (ffv1, mjpeg, or b_frames=0).
    """
    times: list[int] = []

    def shift(number: int, packet: av.Packet) -> av.Packet:
        times.append(packet.pts)
        packet.dts = packet.pts - 10_000
        packet.pts = times[number - 1] if number in equal else times[number - 2] if number in falling else packet.pts
        return packet

    return remuxed(path, to, shift)


def remuxed(path: Path, to: Path, change: Callable[[int, av.Packet], av.Packet | None]) -> Path:
    """Copy a film; replace each packet of its picture by `change(number, packet)`, and leave it out if that is None."""
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
