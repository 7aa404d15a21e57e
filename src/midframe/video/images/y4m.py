"""Write y4m (YUV4MPEG2: uncompressed frames at a constant rate) to a file or a pipe, and read it back to verify it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import av.error
import numpy as np

from midframe.errors import OutputError, SettingError
from midframe.files import part_path, write_error
from midframe.video.colour import Colour
from midframe.video.frame import Frame, Layout
from midframe.video.pixels import planes_of
from midframe.video.sink import check_target, pick, put_in_place

FRAME_HEADER = b"FRAME\n"
"""The bytes before the samples of each frame."""


@dataclass(frozen=True)
class Y4mHeader:
    """The contents of a y4m header."""

    layout: Layout
    """One of the layouts that `y4m_layout` returns."""

    colour: Colour
    """The meaning of the code values; y4m stores the chroma siting and the range."""

    width: int
    height: int

    rate: Fraction
    """Frames a second. It alone determines the frames' times in y4m."""

    aspect: Fraction | None = None
    """Pixel aspect ratio, width over height; None for square pixels."""


class Y4mWriter:
    """Writes frames as y4m, to a file or, with target `-`, to standard output; a `Sink`.

    For standard output `part` is None: it cannot be verified, and `abort` cannot delete it. Raises `OutputError`, also
    if the program that reads the pipe ends, and `SettingError` if y4m has no name for the layout or standard output is
    a terminal.
    """

    def __init__(self, target: str, header: Y4mHeader, *, overwrite: bool = False) -> None:
        """Open the output and write the header."""
        self.part: Path | None = None
        self._target = "standard output" if target == "-" else target
        self._header = header
        self._overwrite = overwrite
        self._committed = False
        storable = y4m_layout(header.layout)
        if storable != header.layout:
            raise SettingError(f"y4m has no name for {header.layout.describe()}; it holds {storable.describe()}")
        if target == "-":
            self.file = _open_standard_output()
        else:
            check_target(target, overwrite)
            self.part = part_path(target)
            try:
                self.file = self.part.open("wb", buffering=0)
            except OSError as error:
                raise write_error(target, error) from None
        try:
            self._write_all(_stream_header(header))
        except OutputError:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        """Write one frame, whose own time is ignored."""
        header = self._header
        if frame.layout != header.layout or (frame.width, frame.height) != (header.width, header.height):
            raise ValueError(f"the frames are {header.layout.describe()}, not {frame.layout.describe()}")
        self._write_all(FRAME_HEADER)
        for plane in frame.planes:
            samples = np.ascontiguousarray(plane, "u1" if header.layout.depth == 8 else "<u2")
            self._write_all(samples.reshape(-1).view(np.uint8).data)

    def finish(self) -> None:
        """Close the output."""
        try:
            if self.part is not None:
                os.fsync(self.file.fileno())  # a full disk may show itself only now
            self.file.close()
        except OSError as error:
            raise write_error(self._target, error) from None

    def commit(self) -> None:
        """Give the finished file its final name."""
        if self.part is not None:
            put_in_place(self.part, self._target, self._overwrite)
        self._committed = True

    def abort(self) -> None:
        """Close the output and delete the file, unless it has its final name already."""
        self.file.close()
        if self.part is not None and not self._committed:
            self.part.unlink(missing_ok=True)

    def _write_all(self, data: bytes | memoryview) -> None:
        """Write all of the data, in several system calls if necessary."""
        remaining = memoryview(data)
        try:
            while remaining:
                remaining = remaining[self.file.write(remaining) or 0 :]
        except OSError as error:
            raise write_error(self._target, error) from None


def y4m_layout(layout: Layout) -> Layout:
    """Return the layout in which y4m stores frames of a layout: the same if y4m has a name for it, else a larger one.

    YUV 4:4:0, 4:1:0 and deep 4:1:1 become 4:4:4; RGB becomes YUV 4:4:4; gray of 14 bits becomes gray of 16 bits.
    """
    if layout.family == "gray":
        return Layout("gray", 16 if layout.depth == 14 else layout.depth)
    shifts = (layout.shift_x, layout.shift_y)
    if shifts in _SUBSAMPLING_NAMES or (shifts == (2, 0) and layout.depth == 8):
        return Layout("yuv", layout.depth, *shifts)
    return Layout("yuv", layout.depth)


def frame_times(path: Path) -> list[Fraction]:
    """Return the times of all frames of a y4m file, in seconds. Raises `OutputError` if the file is not whole."""
    with path.open("rb") as file:
        header = file.readline(1000)
        tags = {word[:1]: word[1:] for word in header.decode("ascii", "replace").split()[1:] if word[0] in "WHFC"}
        layout = _layout_of_tag(tags["C"])
        samples = sum(height * width for height, width in layout.sizes(int(tags["W"]), int(tags["H"])))
        frame_size = len(FRAME_HEADER) + samples * (1 if layout.depth == 8 else 2)
        count, excess = divmod(path.stat().st_size - len(header), frame_size)
        whole = excess == 0
        for k in range(count):
            file.seek(len(header) + k * frame_size)
            whole = whole and file.read(len(FRAME_HEADER)) == FRAME_HEADER
    if not whole:
        raise OutputError(f"{path} did not come out whole: {count} frames and something else")
    rate = Fraction(tags["F"].replace(":", "/"))
    return [k / rate for k in range(count)]


def count_frames(path: Path) -> int:
    """Return the number of frames of a y4m file. Raises `OutputError` if the file is not whole."""
    return len(frame_times(path))


def decode_frames(path: Path, indices: Sequence[int]) -> Iterator[Frame]:
    """Decode the frames of a y4m file with the given indices, which rise from 0, with FFmpeg.

    Raises `OutputError` if there is no frame of that index.
    """
    with av.open(str(path), format="yuv4mpegpipe") as container:
        packets = (packet for packet in container.demux(video=0) if packet.size)
        for packet in pick(packets, indices, path):
            picture = next(iter(packet.decode()))
            assert picture.pts is not None
            assert picture.time_base is not None
            decoded = planes_of(picture)
            planes = tuple(plane.copy() for plane in decoded.planes)
            yield Frame(planes, decoded.layout, picture.pts * Fraction(picture.time_base))


_SUBSAMPLING_NAMES = {(1, 1): "420", (1, 0): "422", (0, 0): "444"}
"""The chroma subsampling in the tag C, by the logarithms of horizontal and vertical subsampling."""


def _stream_header(header: Y4mHeader) -> bytes:
    aspect = f"{header.aspect.numerator}:{header.aspect.denominator}" if header.aspect else "1:1"
    value_range = "FULL" if header.colour.full_range else "LIMITED"
    words = (
        f"YUV4MPEG2 W{header.width} H{header.height} F{header.rate.numerator}:{header.rate.denominator} Ip A{aspect} "
        f"C{_layout_tag(header.layout, header.colour)} XCOLORRANGE={value_range}\n"
    )
    return words.encode()


def _layout_tag(layout: Layout, colour: Colour) -> str:
    """Return the value of the tag C: subsampling, chroma siting (8-bit 4:2:0 only) and depth."""
    depth = str(layout.depth) if layout.depth > 8 else ""
    if layout.family == "gray":
        return f"mono{depth}"
    if (layout.shift_x, layout.shift_y) == (2, 0):
        return "411"
    name = _SUBSAMPLING_NAMES[layout.shift_x, layout.shift_y]
    if depth:
        return f"{name}p{depth}"
    siting = {"left": "mpeg2", "topleft": "paldv", "centre": "jpeg"}[colour.siting]
    return name + siting if name == "420" else name


def _layout_of_tag(tag: str) -> Layout:
    """Return the layout of a tag C that `_layout_tag` returned."""
    if tag.startswith("mono"):
        return Layout("gray", int(tag[4:] or 8))
    shifts = {"411": (2, 0), **{name: shifts for shifts, name in _SUBSAMPLING_NAMES.items()}}[tag[:3]]
    return Layout("yuv", int(tag[4:]) if tag[3:4] == "p" and tag[4:].isdigit() else 8, *shifts)


def _open_standard_output() -> BinaryIO:
    """Open standard output without a buffer, so that nothing is left that would fail again at exit.

    Raises `OutputError` if there is none and `SettingError` if it is a terminal.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        raise OutputError("there is no standard output to write to") from None
    if os.isatty(descriptor):
        raise SettingError("y4m is not for a terminal; send it on with | or >")
    return open(os.dup(descriptor), "wb", buffering=0)  # noqa: PTH123 - a descriptor, not a path
