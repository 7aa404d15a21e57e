"""A decoded frame as it travels between the stages of a conversion: planes, their layout, and times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]
"""One plane of a frame: `[height, width]`, uint8 for up to 8 bits a sample, else uint16."""

Family = Literal["yuv", "gray", "rgb"]
"""Colour model of a pixel format."""


@dataclass(frozen=True)
class Frame:
    """One frame of a film. All times are exact, in seconds."""

    planes: tuple[Plane, ...]
    """The planes in the order of `Layout`: Y U V, Y alone, or R G B."""
    layout: Layout
    time: Fraction
    """When the frame is shown."""
    duration: Fraction | None = None
    """How long the frame is shown; None if unknown."""
    lost: bool = False
    """Whether the frame could not be decoded, so that the planes are copied from a neighbouring frame."""

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def luma(self) -> Plane:
        """The plane that stands for brightness: Y, the gray plane, or green in an RGB frame."""
        return self.planes[1 if self.layout.family == "rgb" else 0]

    def same_picture(self, other: Frame) -> bool:
        """Return whether the planes of both frames are equal, bit for bit."""
        return all(np.array_equal(a, b) for a, b in zip(self.planes, other.planes, strict=True))


@dataclass(frozen=True)
class Layout:
    """Layout of a frame's planes; each layout corresponds to one planar pixel format of FFmpeg."""

    family: Family
    depth: int
    """Bits of a sample."""
    shift_x: int = 0
    """Base-2 logarithm of the horizontal chroma subsampling; 1 for 4:2:0 and 4:2:2."""
    shift_y: int = 0
    """Base-2 logarithm of the vertical chroma subsampling; 1 for 4:2:0."""

    @property
    def name(self) -> str:
        """FFmpeg's name of the planar, little-endian pixel format with this layout."""
        base = {"gray": "gray", "rgb": "gbrp"}.get(self.family) or f"yuv{_SUBSAMPLING[self.shift_x, self.shift_y]}p"
        return base if self.depth == 8 else f"{base}{self.depth}le"

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if self.depth <= 8 else np.uint16

    @property
    def peak(self) -> int:
        """The largest code value."""
        return (1 << self.depth) - 1

    def sizes(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """Return the (height, width) of each plane of a frame; chroma sizes are rounded up."""
        if self.family == "gray":
            return ((height, width),)
        chroma = (-(-height >> self.shift_y), -(-width >> self.shift_x))
        return ((height, width), chroma, chroma)

    def describe(self) -> str:
        """Return the layout in words, such as "YUV 4:2:0, 8 bit"."""
        kind = {"gray": "gray", "rgb": "RGB"}.get(self.family)
        if kind is None:
            kind = "YUV 4:" + ":".join(_SUBSAMPLING[self.shift_x, self.shift_y][1:])
        return f"{kind}, {self.depth} bit"


def planar_layout(name: str) -> Layout | None:
    """Return the layout of FFmpeg's planar pixel format `name` (of either byte order); None if it is not planar.

    Formats with alpha are not covered, see `pixels.layout_of_format`.
    """
    match = _PLANAR.fullmatch(name)
    if match is None:
        return None
    depth = int(match["depth"] or 8)
    if match["gray"]:
        return Layout("gray", depth)
    if match["rgb"]:
        return Layout("rgb", depth)
    shifts = _SHIFTS.get(match["subsampling"])
    return None if shifts is None else Layout("yuv", depth, *shifts)


_SUBSAMPLING = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
"""Digits of the subsampling in FFmpeg's names, by (shift_x, shift_y)."""

_SHIFTS = {digits: shifts for shifts, digits in _SUBSAMPLING.items()}

_PLANAR = re.compile(
    r"(?:yuvj?(?P<subsampling>4\d\d)p|(?P<gray>gray)|(?P<rgb>gbrp))(?:(?P<depth>9|10|12|14|16)(?:le|be))?"
)
