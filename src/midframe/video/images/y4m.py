"""Writing y4m (YUV4MPEG2): uncompressed frames of one rate, to a file or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
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
from midframe.video.sink import check_target, put_in_place


class Y4mWriter:
    """Writes frames as y4m, to a file or, with target `-`, to standard output; a `Sink`.

    layout: one of `y4m_layout`; rate: frames a second, which is all that y4m says about times: frames follow each other
    at that rate whatever their own times are. On standard output nothing can be taken back or verified, and `part` is
    None. Raises `OutputError`, also where the program that reads the pipe ends, and `SettingError` where standard
    output is a terminal.
    """

    def __init__(
        self,
        target: str,
        layout: Layout,
        colour: Colour,
        *,
        width: int,
        height: int,
        rate: Fraction,
        aspect: Fraction | None = None,
        overwrite: bool = False,
    ) -> None:
        self.target = "standard output" if target == "-" else target
        self.layout, self.size = layout, (width, height)
        self.overwrite = overwrite
        self.committed = False
        self.part: Path | None = None
        if y4m_layout(layout) != layout:
            raise SettingError(f"y4m has no name for {layout.describe()}; it holds {y4m_layout(layout).describe()}")
        header = _header(layout, colour, (width, height), rate, aspect)
        if target == "-":
            self.file = _standard_output()
        else:
            check_target(target, overwrite)
            self.part = part_path(target)
            try:
                self.file = self.part.open("wb", buffering=0)
            except OSError as error:
                raise write_error(target, error) from None
        try:
            self._put(header)
        except OutputError:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        if frame.layout != self.layout or (frame.width, frame.height) != self.size:
            raise ValueError(f"the frames are {self.layout.describe()}, not {frame.layout.describe()}")
        self._put(b"FRAME\n")
        for plane in frame.planes:
            samples = np.ascontiguousarray(plane, "u1" if self.layout.depth == 8 else "<u2")
            self._put(samples.reshape(-1).view(np.uint8).data)

    def finish(self) -> None:
        try:
            if self.part is not None:
                os.fsync(self.file.fileno())
            self.file.close()
        except OSError as error:
            raise write_error(self.target, error) from None

    def commit(self) -> None:
        if self.part is not None:
            put_in_place(self.part, self.target, self.overwrite)
        self.committed = True

    def abort(self) -> None:
        self.file.close()
        if self.part is not None and not self.committed:
            self.part.unlink(missing_ok=True)

    def _put(self, data: bytes | memoryview) -> None:
        """All of it, though the system may take less at a time."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) or 0 :]
        except OSError as error:
            raise write_error(self.target, error) from None


def y4m_layout(layout: Layout) -> Layout:
    """The layout in which y4m holds a film of that layout: itself where y4m has a name for it, else one that holds it.

    YUV 4:4:0, 4:1:0 and deep 4:1:1 become 4:4:4; RGB becomes YUV 4:4:4; gray of 14 bits, of 16.
    """
    if layout.family == "gray":
        return Layout("gray", 16 if layout.depth == 14 else layout.depth)
    shifts = (layout.shift_x, layout.shift_y)
    if shifts in _CHROMA or (shifts == (2, 0) and layout.depth == 8):
        return Layout("yuv", layout.depth, *shifts)
    return Layout("yuv", layout.depth)


def frame_times(path: Path) -> list[Fraction]:
    """The times of all frames of a y4m file; raises `OutputError` where it is not whole."""
    with path.open("rb") as file:
        header = file.readline(1000)
        tags = {word[:1]: word[1:] for word in header.decode("ascii", "replace").split()[1:] if word[0] in "WHFC"}
        layout = _layout_of(tags["C"])
        samples = sum(h * w for h, w in layout.sizes(int(tags["W"]), int(tags["H"])))
        length = len(b"FRAME\n") + samples * (1 if layout.depth == 8 else 2)
        count, rest = divmod(path.stat().st_size - len(header), length)
        for k in range(count):
            file.seek(len(header) + k * length)
            rest = rest or file.read(6) != b"FRAME\n"
    if rest:
        raise OutputError(f"{path} did not come out whole: {count} frames and something else")
    rate = Fraction(tags["F"].replace(":", "/"))
    return [k / rate for k in range(count)]


def count_frames(path: Path) -> int:
    """Return the number of frames of a y4m file. Raises `OutputError` if the file is not whole."""
    return len(frame_times(path))


def decode_frames(path: Path, indices: Sequence[int]) -> Iterator[Frame]:
    """Decode the frames of a y4m file with the given indices, which rise from 0, by FFmpeg.

    Raises `OutputError` if there is no frame of that index.
    """
    wanted = iter(indices)
    index = next(wanted, None)
    with av.open(str(path), format="yuv4mpegpipe") as container:
        stream = container.streams.video[0]
        for number, packet in enumerate(container.demux(stream)):
            if index is None:
                return
            if number == index and packet.size:
                picture = next(iter(packet.decode()))
                assert picture.pts is not None
                assert picture.time_base is not None
                planes, layout, _ = planes_of(picture)
                planes = tuple(plane.copy() for plane in planes)
                yield Frame(planes, layout, picture.pts * Fraction(picture.time_base))
                index = next(wanted, None)
    if index is not None:
        raise OutputError(f"{path} has no frame {index}")


_CHROMA = {(1, 1): "420", (1, 0): "422", (0, 0): "444"}


def _header(layout: Layout, colour: Colour, size: tuple[int, int], rate: Fraction, aspect: Fraction | None) -> bytes:
    siting = {"left": "mpeg2", "topleft": "paldv", "centre": "jpeg"}[colour.siting]
    if layout.family == "gray":
        name = "mono"
    elif (layout.shift_x, layout.shift_y) == (2, 0):
        name = "411"
    else:
        name = _CHROMA[layout.shift_x, layout.shift_y]
        name += siting if name == "420" and layout.depth == 8 else ""
        name += "p" if layout.depth > 8 else ""
    name += str(layout.depth) if layout.depth > 8 else ""
    shape = f"{aspect.numerator}:{aspect.denominator}" if aspect else "1:1"
    levels = "FULL" if colour.full_range else "LIMITED"
    words = f"W{size[0]} H{size[1]} F{rate.numerator}:{rate.denominator} Ip A{shape} C{name} XCOLORRANGE={levels}"
    return f"YUV4MPEG2 {words}\n".encode()


def _layout_of(tag: str) -> Layout:
    """The layout of a tag that `_header` wrote."""
    if tag.startswith("mono"):
        return Layout("gray", int(tag[4:] or 8))
    shifts = {"411": (2, 0), **{name: shifts for shifts, name in _CHROMA.items()}}[tag[:3]]
    return Layout("yuv", int(tag[4:]) if tag[3:4] == "p" and tag[4:].isdigit() else 8, *shifts)


def _standard_output() -> BinaryIO:
    """Standard output without a buffer of ours: nothing stays behind that would fail once more at exit."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        raise OutputError("there is no standard output to write to") from None
    if os.isatty(number):
        raise SettingError("y4m is not for a terminal; send it on with | or >")
    return open(os.dup(number), "wb", buffering=0)  # noqa: PTH123 - a descriptor, not a path
