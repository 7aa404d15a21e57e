"""Animated WebP in; GIF and animated WebP out. (GIF in goes the way of films.)"""

from __future__ import annotations

import contextlib
import io
import re
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import floor
from pathlib import Path

import av
import av.container
import av.error
import numpy as np
from PIL import Image, UnidentifiedImageError

from midframe.errors import InputError, OutputError
from midframe.video.colour import understand
from midframe.video.frame import Frame, Layout, Plane
from midframe.video.images.sequence import Still, read_stills
from midframe.video.pixels import frame_of, planes_of
from midframe.video.probe import Film
from midframe.video.reader import ReadReport
from midframe.video.sink import check_target, part_path, put_in_place, write_error

LAYOUT = Layout("rgb", 8)
"""What GIF and WebP are written from."""

GIF_RATE = 50
"""The most frames a second of a GIF: players show a frame of less than 2/100 s for 10/100 s."""

PALETTE_PIXELS = 10_000
"""From about how many pixels of a picture the 256 colours of a GIF frame are chosen."""


def probe_webp(path: str, rate: Fraction = Fraction(25)) -> Film:
    """What an animated WebP is; a still one is a film of a single frame that lasts 1/rate.

    Times are those of the file, in milliseconds. The file is held in memory while it is read. Raises `InputError` where
    it is no WebP or its first frame cannot be decoded; a file that is cut off counts up to its last whole frame
    (`ends_early`).
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    file = _parse(data, path)
    starts = list(accumulate((0, *file.durations[:-1])))
    ticks = array("q", sorted(set(starts)))
    total = sum(file.durations)
    with _open(file, path) as image:
        _load(image, 0, path)
        width, height, mode = image.width, image.height, image.mode
    last = Fraction(file.durations[-1], 1000) if file.durations and file.durations[-1] else 1 / rate
    return Film(
        path=path,
        container="webp",
        index=0,
        codec="webp",
        width=width,
        height=height,
        pixel_format="rgba" if mode == "RGBA" else "rgb24",
        layout=LAYOUT,
        colour=understand(LAYOUT, height=height, codec="webp"),
        time_base=Fraction(1, 1000),
        rate=Fraction(1000 * len(ticks), total) if total else rate,
        last_duration=last,
        ticks=ticks,
        duplicates=len(starts) - len(ticks),
        alpha=mode == "RGBA",
        problems=() if file.whole else (f"the file ends before its animation does, after {len(starts)} whole frames",),
        ends_early=not file.whole,
        size=len(data),
    )


def read_webp(
    film: Film,
    report: ReadReport,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    keep_going: bool = False,
    drop_alpha: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Frame]:
    """Decode the frames of a probed WebP with start <= time < end; the contract of `reader.read_frames`."""
    if film.ends_early and not keep_going and (end is None or film.last_time < end):
        raise InputError(f"{film.path}: {film.problems[0]}; --keep-going converts what is there")
    file = _parse(Path(film.path).read_bytes(), film.path)
    # Of frames at one time the first counts.
    shown = [k for k, duration in enumerate((1, *file.durations[:-1])) if duration > 0]
    report.dropped += film.duplicates
    with _open(file, film.path) as image:
        yield from read_stills(
            film,
            report,
            lambda k: _load(image, shown[k], film.path),
            start=start,
            end=end,
            keep_going=keep_going,
            drop_alpha=drop_alpha,
            cancelled=cancelled,
        )


def loops(path: str | Path) -> int | None:
    """How many times a GIF or WebP plays, 0 for without end; None where it is neither."""
    with Path(path).open("rb") as file:
        data = file.read(1 << 16)
    if data.startswith(b"GIF8"):
        found = re.search(rb"\x21\xff\x0bNETSCAPE2\.0\x03\x01(..)", data, re.DOTALL)
        repeats: int = struct.unpack("<H", found[1])[0] if found else 0
        return 1 if found is None else repeats + 1 if repeats else 0
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        at = data.find(b"ANIM", 12)
        return int.from_bytes(data[at + 12 : at + 14], "little") if at > 0 else 1
    return None


class GifWriter:
    """Writes frames as a GIF; a `Sink` of `LAYOUT`.

    A frame of up to 256 colours is kept exactly, so the source frames of a GIF stay as they are; of others 256 are
    chosen for each frame, with dithering. Times are rounded to 1/100 s, each by itself, so that nothing accumulates.
    plays: how many times, 0 for without end. Raises `OutputError` where a frame would last less than 2/100 s.
    """

    def __init__(self, target: str, width: int, height: int, *, plays: int = 0, overwrite: bool = False) -> None:
        if max(width, height) > 65535:
            raise OutputError(f"{target}: GIF cannot hold a picture of {width}x{height}; at most 65535 pixels a side")
        loop = {0: "0", 1: "-1"}.get(plays, str(plays - 1))
        # FFmpeg's encoder would leave out what did not change since a frame that had another palette.
        coding = _Coding("gif", "gif", "pal8", {"gifflags": "0"}, Fraction(1, 100))
        self.film = _Animation(target, coding, (width, height), loop, overwrite)
        self.part = self.film.part

    def write(self, frame: Frame) -> None:
        indices, palette = _indexed(frame)
        picture = av.VideoFrame(frame.width, frame.height, "pal8")
        rows = np.frombuffer(memoryview(picture.planes[0]), np.uint8).reshape(-1, picture.planes[0].line_size)
        rows[: frame.height, : frame.width] = indices
        np.frombuffer(memoryview(picture.planes[1]), np.uint32)[:256] = palette
        self.film.write(frame, picture, 2, f"a GIF shows at most {GIF_RATE} frames a second; give --fps or a .webp")

    def finish(self) -> None:
        self.film.finish()

    def commit(self) -> None:
        self.film.commit()

    def abort(self) -> None:
        self.film.abort()


class WebpWriter:
    """Writes frames as a lossless animated WebP; a `Sink` of `LAYOUT`.

    Every frame is a whole picture of its own, also where it equals the one before it. Times are rounded to 1/1000 s,
    each by itself. plays: how many times, 0 for without end.
    """

    def __init__(self, target: str, width: int, height: int, *, plays: int = 0, overwrite: bool = False) -> None:
        if max(width, height) > 16383:
            raise OutputError(f"{target}: WebP cannot hold a picture of {width}x{height}; at most 16383 pixels a side")
        options = {"lossless": "1", "compression_level": "1", "quality": "20"}
        coding = _Coding("webp", "libwebp", "bgra", options, Fraction(1, 1000))
        self.film = _Animation(target, coding, (width, height), str(plays), overwrite)
        self.part = self.film.part

    def write(self, frame: Frame) -> None:
        picture = frame_of(frame.planes, frame.layout, "bgra")
        self.film.write(frame, picture, 1, "a WebP shows at most 1000 frames a second; give --fps")

    def finish(self) -> None:
        self.film.finish()

    def commit(self) -> None:
        self.film.commit()

    def abort(self) -> None:
        self.film.abort()


def read_back(path: Path) -> list[Fraction]:
    """The times of all frames of a GIF or WebP that was written."""
    if _is_webp(path):
        return _starts(_parse(path.read_bytes(), str(path)))
    with av.open(str(path), format="gif", options={"min_delay": "0"}) as container:
        stream = container.streams.video[0]
        return [
            p.pts * Fraction(stream.time_base or 1) for p in container.demux(stream) if p.pts is not None and p.size
        ]


def decode_frame(path: Path, k: int) -> Frame:
    """The k-th frame (from 0) of a GIF or WebP that was written."""
    return next(decode_frames(path, [k]))


def decode_frames(path: Path, wanted: Sequence[int]) -> Iterator[Frame]:
    """Frames of a GIF or WebP that was written, by their numbers (from 0), which rise; in one pass over the file."""
    left = iter(wanted)
    k = next(left, None)
    if _is_webp(path):
        file = _parse(path.read_bytes(), str(path))
        times = _starts(file)
        with _open(file, str(path)) as image:
            while k is not None:
                if k >= len(times):
                    raise OutputError(f"{path} has no frame {k}")
                yield Frame(_load(image, k, str(path))[0], LAYOUT, times[k])
                k = next(left, None)
        return
    with av.open(str(path), format="gif", options={"min_delay": "0"}) as container:
        for at, picture in enumerate(container.decode(video=0)):
            if k is None:
                return
            if at == k:
                planes = tuple(plane.copy() for plane in planes_of(picture)[0])
                yield Frame(planes, LAYOUT, (picture.pts or 0) * Fraction(picture.time_base or 1))
                k = next(left, None)
    if k is not None:
        raise OutputError(f"{path} has no frame {k}")


def _starts(file: _Webp) -> list[Fraction]:
    """The times of the frames of a WebP; a still one begins at 0."""
    return [Fraction(start, 1000) for start in accumulate((0, *file.durations[:-1]))]


def _is_webp(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"RIFF"


@dataclass(frozen=True)
class _Coding:
    """FFmpeg's container, encoder, pixel format and options, and the unit of times."""

    container: str
    encoder: str
    pixel_format: str
    options: dict[str, str]
    tick: Fraction


class _Animation:
    """What both writers share: a muxer, ticks that are rounded each by itself, and durations on the packets."""

    def __init__(self, target: str, coding: _Coding, size: tuple[int, int], loop: str, overwrite: bool) -> None:
        check_target(target, overwrite)
        self.target, self.overwrite, self.tick, self.size = target, overwrite, coding.tick, size
        self.part = part_path(target)
        self.origin: Fraction | None = None
        self.committed = False
        self.output: av.container.OutputContainer | None = None
        try:
            self.output = av.open(str(self.part), "w", format=coding.container, options={"loop": loop})
            stream = self.output.add_stream(coding.encoder, options=coding.options)
            assert isinstance(stream, av.VideoStream)
            stream.codec_context.width, stream.codec_context.height = size
            stream.codec_context.pix_fmt = coding.pixel_format
            stream.codec_context.time_base = stream.time_base = coding.tick
            self.output.start_encoding()
        except (av.error.FFmpegError, OSError) as error:
            self.abort()
            raise write_error(target, error) from None
        self.stream = stream

    def write(self, frame: Frame, picture: av.VideoFrame, shortest: int, advice: str) -> None:
        if frame.layout != LAYOUT or (frame.width, frame.height) != self.size:
            raise ValueError(f"an animation is {LAYOUT.describe()}, not {frame.layout.describe()}")
        assert self.output is not None
        self.origin = frame.time if self.origin is None else self.origin
        begin = frame.time - self.origin
        until = begin + (frame.duration if frame.duration is not None else Fraction(1, 25))
        picture.pts = floor(begin / self.tick + Fraction(1, 2))
        picture.time_base = self.tick
        duration = floor(until / self.tick + Fraction(1, 2)) - picture.pts
        if duration < shortest:
            raise OutputError(f"{self.target}: the frame at {float(frame.time):.3f} s is too short; {advice}")
        try:
            packets = self.stream.encode(picture)
            for packet in packets:
                packet.duration = duration
            self.output.mux(packets)
        except (av.error.FFmpegError, OSError) as error:
            raise write_error(self.target, error) from None

    def finish(self) -> None:
        assert self.output is not None
        try:
            self.output.mux(self.stream.encode(None))
            output, self.output = self.output, None
            output.close()
        except (av.error.FFmpegError, OSError) as error:
            raise write_error(self.target, error) from None

    def commit(self) -> None:
        put_in_place(self.part, self.target, self.overwrite)
        self.committed = True

    def abort(self) -> None:
        output, self.output = self.output, None
        if output is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                output.close()
        if not self.committed:
            self.part.unlink(missing_ok=True)


def _indexed(frame: Frame) -> tuple[Plane, Plane]:
    """A picture as indices `[H, W]` into a palette of 256 colours (32-bit A R G B): exact where it has no more."""
    red, green, blue = (plane.astype(np.uint32) for plane in frame.planes)
    packed = red << 16 | green << 8 | blue
    seen = np.zeros(1 << 24, bool)
    seen[packed] = True
    colours = np.flatnonzero(seen).astype(np.uint32)
    palette = np.full(256, 0xFF000000, np.uint32)
    if len(colours) <= 256:
        palette[: len(colours)] |= colours
        index = np.zeros(1 << 24, np.uint8)
        index[colours] = np.arange(len(colours), dtype=np.uint8)
        return index[packed], palette
    pixels = np.stack(frame.planes, axis=-1)
    image = Image.fromarray(pixels)
    # Colours chosen from every n-th pixel differ little from those of all (mean squared error +3 to +6 %), 20 x sooner.
    step = max(1, round((frame.width * frame.height / PALETTE_PIXELS) ** 0.5))
    sample = Image.fromarray(np.ascontiguousarray(pixels[step // 2 :: step, step // 2 :: step]))
    chosen = sample.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
    dithered = image.quantize(palette=chosen, dither=Image.Dither.FLOYDSTEINBERG)
    table = np.frombuffer(bytes(dithered.getpalette("RGB") or ()), np.uint8).reshape(-1, 3).astype(np.uint32)
    palette[: len(table)] |= table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]
    return np.asarray(dithered), palette


@dataclass(frozen=True)
class _Webp:
    """A WebP file by its chunks: without what is cut off at its end, and the frames' durations in milliseconds."""

    data: bytes
    durations: tuple[int, ...]
    whole: bool


def _parse(data: bytes, path: str) -> _Webp:
    if not data.startswith(b"RIFF") or data[8:12] != b"WEBP":
        raise InputError(f"{path} is not a film that can be read: {'it is not a WebP file' if data else 'it is empty'}")
    promised = struct.unpack("<I", data[4:8])[0] + 8
    durations = []
    still = False
    at = 12
    while at + 8 <= min(promised, len(data)):
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > len(data):
            break
        if kind == b"ANMF" and length >= 16:
            durations.append(int.from_bytes(data[at + 20 : at + 23], "little"))
        still |= kind in (b"VP8 ", b"VP8L")
        at += 8 + length + (length & 1)
    if not durations and not still:
        raise InputError(f"{path} has no whole picture in it")
    kept = data[12:at]
    whole = at >= promised - 1
    return _Webp(b"RIFF" + struct.pack("<I", len(kept) + 4) + b"WEBP" + kept, tuple(durations), whole)


def _open(file: _Webp, path: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(file.data), formats=("webp",))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a film that can be read: {error}") from None


def _load(image: Image.Image, k: int, path: str) -> Still:
    try:
        image.seek(k)
        pixels = np.array(image)
    except (EOFError, OSError, ValueError) as error:
        raise InputError(f"{path}: frame {k + 1} cannot be decoded: {error}") from None
    planes = tuple(np.ascontiguousarray(pixels[..., c]) for c in range(3))
    return planes, LAYOUT, np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
