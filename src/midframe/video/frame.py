"""A frame as it travels between the stages: planes, time, and how the planes are laid out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]
"""One plane of a frame: `[h, w]`, uint8 up to 8 bits and uint16 above."""

Family = Literal["yuv", "gray", "rgb"]


@dataclass(frozen=True)
class Layout:
    """How a frame's planes are laid out: family, bits and chroma sub-sampling, and FFmpeg's name for just that.

    Planes are in the order Y U V, Y alone, or R G B. `shift_x` and `shift_y` are the base-2 logarithms of the
    chroma sub-sampling (4:2:0 is 1, 1).
    """

    family: Family
    depth: int
    shift_x: int = 0
    shift_y: int = 0

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
        """The (height, width) of each plane of a picture; chroma is rounded up."""
        if self.family == "gray":
            return ((height, width),)
        chroma = (-(-height >> self.shift_y), -(-width >> self.shift_x))
        return ((height, width), chroma, chroma)

    def describe(self) -> str:
        """The layout in words, for people."""
        kind = {"gray": "gray", "rgb": "RGB"}.get(self.family)
        if kind is None:
            kind = "YUV 4:" + ":".join(_SUBSAMPLING[self.shift_x, self.shift_y][1:])
        return f"{kind}, {self.depth} bit"


_SUBSAMPLING = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
_BY_DIGITS = {digits: shifts for shifts, digits in _SUBSAMPLING.items()}
_PLANAR = re.compile(r"(?:yuvj?(?P<sub>4\d\d)p|(?P<gray>gray)|(?P<rgb>gbrp))(?:(?P<depth>9|10|12|14|16)(?:le|be))?")


def planar_layout(name: str) -> Layout | None:
    """The layout of FFmpeg's planar pixel format of that name (either byte order), None where it is not planar."""
    found = _PLANAR.fullmatch(name)
    if found is None:
        return None
    depth = int(found["depth"] or 8)
    if found["gray"]:
        return Layout("gray", depth)
    if found["rgb"]:
        return Layout("rgb", depth)
    return Layout("yuv", depth, *_BY_DIGITS[found["sub"]]) if found["sub"] in _BY_DIGITS else None


@dataclass(frozen=True)
class Frame:
    """One frame: its planes, its exact time in seconds and how long it lasts (None where nobody knows).

    `lost` marks a stand-in for a frame that could not be decoded: the planes are a neighbour's.
    """

    planes: tuple[Plane, ...]
    layout: Layout
    time: Fraction
    duration: Fraction | None = None
    lost: bool = False

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    def same_picture(self, other: Frame) -> bool:
        """Whether both frames show the same picture, bit for bit."""
        return all(np.array_equal(a, b) for a, b in zip(self.planes, other.planes, strict=True))
