"""Colour: what a film's numbers mean, and the way between its planes and RGB.

A made frame goes planes -> RGB -> network -> planes by the film's own matrix, range, depth and chroma siting, in
float, and is rounded once at the end. What the network answers is used as a difference: see `made_planes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.errors import InputError
from midframe.video.frame import Layout, Plane

Siting = Literal["left", "topleft", "centre"]


@dataclass(frozen=True)
class Colour:
    """What the code values of a film mean.

    matrix: one of `MATRICES` ("rgb" and "gray" films have no matrix to apply); full_range: whether codes run from 0 to
    the peak; siting: where a chroma sample lies. The four `tag_` values are the film's own (H.273 numbers, 2 or 0 =
    not said), to be written again; `guessed` says in words what the film does not tell.
    """

    matrix: str
    full_range: bool
    siting: Siting = "left"
    guessed: tuple[str, ...] = ()
    tag_matrix: int = 2
    tag_range: int = 0
    tag_primaries: int = 2
    tag_transfer: int = 2

    def same_codes(self, other: Colour) -> bool:
        """Whether code values mean the same in both (tags aside)."""
        siting = self.siting == other.siting or self.matrix in ("rgb", "gray")
        return siting and (self.matrix, self.full_range) == (other.matrix, other.full_range)

    def describe(self) -> str:
        return f"{self.matrix}, {'full' if self.full_range else 'limited'} range, chroma {self.siting}"


MATRICES = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}
"""The matrices that Midframe knows, by their weights of red and blue in luma (H.273)."""

PQ, HLG = 16, 18
"""The transfer characteristics of HDR films (H.273)."""

_BY_TAG = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
_UNKNOWN = {
    8: "YCgCo",
    10: "BT.2020 constant luminance",
    11: "YDzDx",
    12: "chromaticity-derived",
    13: "chromaticity-derived",
}
_UNKNOWN |= {14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}


def understand(
    layout: Layout,
    *,
    height: int,
    codec: str,
    full_range_format: bool = False,
    matrix: int = 2,
    colour_range: int = 0,
    primaries: int = 2,
    transfer: int = 2,
) -> Colour:
    """Say what a film's numbers mean, from its tags (H.273 numbers) and, where it has none, by custom.

    Untagged: BT.709 from 720 lines up, else BT.601, limited range. Siting: left, top-left for BT.2020 with PQ or HLG,
    centre for JPEG and MPEG-1. Raises `InputError` for a matrix that Midframe does not know.
    """
    tags = (matrix, colour_range, primaries, transfer)
    if layout.family == "rgb":
        return Colour("rgb", True, "left", (), *tags)
    full_range = full_range_format or colour_range == 2
    if layout.family == "gray":
        full_range = full_range or (colour_range == 0 and codec in _FULL_RANGE_GRAY)
        return Colour("gray", full_range, "left", (), *tags)
    if matrix in _UNKNOWN:
        raise InputError(
            f"the film's colours are coded as {_UNKNOWN[matrix]}, which Midframe does not convert; "
            f"it knows {', '.join(MATRICES)} and RGB"
        )
    guessed = []
    name = _BY_TAG.get(matrix)
    if name is None:
        name = "bt709" if height >= 720 else "bt601"
        guessed.append(f"matrix not given, taken as {name} ({height} lines)")
    if colour_range == 0 and not full_range_format:
        guessed.append("range not given, taken as limited")
    siting: Siting = "left"
    if codec in ("mjpeg", "mpeg1video"):
        siting = "centre"
    elif name == "bt2020" and transfer in (PQ, HLG):
        siting = "topleft"
    return Colour(name, full_range, siting, tuple(guessed), *tags)


_FULL_RANGE_GRAY = ("png", "mjpeg", "tiff", "bmp", "gif", "webp", "pgm", "pam", "jpeg2000", "rawvideo")


def to_tensors(planes: Sequence[Plane], device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
    """Planes as float32 tensors `[h, w]` of code values."""
    return tuple(torch.from_numpy(np.asarray(plane, np.float32)).to(device) for plane in planes)


def to_rgb(planes: Sequence[Tensor], layout: Layout, colour: Colour) -> Tensor:
    """The picture as RGB `[3, H, W]`, gamma-encoded, nominally 0..1 (colours out of gamut lie outside and stay).

    planes: code values as float tensors. Chroma is brought to full size bilinearly, by its siting.
    """
    scale, black, chroma_scale, neutral = _codes(layout, colour)
    if layout.family == "rgb":
        return torch.stack(tuple(planes)).mul_(1 / scale)
    luma = (planes[0] - black).mul_(1 / scale)
    if layout.family == "gray":
        return luma.expand(3, -1, -1)
    height, width = luma.shape
    chroma = torch.stack((planes[1], planes[2])).sub_(neutral).mul_(1 / chroma_scale)
    chroma = _upsample(chroma, 2, width, layout.shift_x, colour.siting != "centre")
    cb, cr = _upsample(chroma, 1, height, layout.shift_y, colour.siting == "topleft")
    red, blue = MATRICES[colour.matrix]
    green = 1 - red - blue
    out = luma.new_empty(3, height, width)
    torch.add(luma, cr, alpha=2 * (1 - red), out=out[0])
    torch.add(luma, cb, alpha=-2 * (1 - blue) * blue / green, out=out[1])
    out[1].add_(cr, alpha=-2 * (1 - red) * red / green)
    torch.add(luma, cb, alpha=2 * (1 - blue), out=out[2])
    return out


def made_planes(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    time: float,
    change: Tensor,
    *,
    layout: Layout,
    colour: Colour,
    moving: Tensor | None = None,
) -> tuple[Plane, ...]:
    """The planes of a made frame: the weighted mean of the source planes plus what the network changed in it.

    first, second: code values as float tensors; change: network answer minus the weighted mean of the RGB frames
    `[3, H, W]`. So equal frames come out exact at any sub-sampling and out of gamut, and what the network leaves alone
    is not touched by conversion. Chroma goes back by the exact inverse of the interpolation in `to_rgb`: else hard
    edges of the source frames would show through as ghosts. Rounded once, halves up, and clipped only then.

    moving: where anything may change at all (see `moving_within`), None for everywhere; without it the interpolation of
    chroma would carry changes two pixels into what stands still.
    """
    changes = _components(change, layout, colour, _INVERSE, _INVERSE)
    if moving is not None:
        changes = tuple(d * _cells(moving, d.shape) for d in changes)
    made = [torch.lerp(a, b, time).add_(d) for a, b, d in zip(first, second, changes, strict=True)]
    return tuple(to_codes(plane, layout) for plane in made)


def moving_within(first: Sequence[Tensor], second: Sequence[Tensor], layout: Layout, radius: int) -> Tensor:
    """Where any plane of two frames differs within `radius` pixels on both axes: 1 there, else 0, `[H, W]`.

    A chroma sample counts for all pixels of its cell.
    """
    different = first[0] != second[0]
    height, width = different.shape
    for a, b in zip(first[1:], second[1:], strict=True):
        cells = a != b
        for axis, shift in ((0, layout.shift_y), (1, layout.shift_x)):
            cells = cells.repeat_interleave(1 << shift, axis) if shift else cells
        different = different | cells[:height, :width]
    near = different.to(torch.int32)
    for axis in (0, 1):
        pad = (radius + 1, radius, 0, 0) if axis else (0, 0, radius + 1, radius)
        total = F.pad(near, pad).cumsum(axis, dtype=torch.int32)
        length = near.shape[axis]
        near = (total.narrow(axis, 2 * radius + 1, length) != total.narrow(axis, 0, length)).to(torch.int32)
    return near.float()


def from_rgb(rgb: Tensor, layout: Layout, colour: Colour, was: Layout | None = None) -> tuple[Plane, ...]:
    """The planes of an RGB picture `[3, H, W]`, rounded once and clipped to the codes.

    was: the layout that `to_rgb` had it from. Where its chroma was as small already, chroma comes back as it was.
    """
    _, black, _, neutral = _codes(layout, colour)
    offsets = (black, neutral, neutral) if layout.family == "yuv" else (black,) * 3
    small = was if was is not None and was.family == "yuv" else Layout("yuv", 8)
    taps_x = _INVERSE if small.shift_x >= layout.shift_x else _SMOOTH
    taps_y = _INVERSE if small.shift_y >= layout.shift_y else _SMOOTH
    planes = _components(rgb, layout, colour, taps_x, taps_y)
    return tuple(to_codes(plane + offset, layout) for plane, offset in zip(planes, offsets, strict=False))


def _components(rgb: Tensor, layout: Layout, colour: Colour, taps_x: _Taps, taps_y: _Taps) -> tuple[Tensor, ...]:
    """The linear part of the way from RGB `[3, H, W]` to planes: code values without their offsets."""
    scale, _, chroma_scale, _ = _codes(layout, colour)
    if layout.family == "rgb":
        return tuple((rgb * scale).unbind(0))
    if layout.family == "gray":
        return (rgb.mean(0) * scale,)
    red, blue = MATRICES[colour.matrix]
    luma = (rgb[0] * red).add_(rgb[1], alpha=1 - red - blue).add_(rgb[2], alpha=blue)
    chroma = torch.stack((rgb[2], rgb[0])).sub_(luma)
    chroma = _downsample(chroma, 1, layout.shift_y, taps_y[colour.siting == "topleft"])
    chroma = _downsample(chroma, 2, layout.shift_x, taps_x[colour.siting != "centre"])
    cb = chroma[0] * (chroma_scale / (2 * (1 - blue)))
    cr = chroma[1] * (chroma_scale / (2 * (1 - red)))
    return (luma.mul_(scale), cb, cr)


def _cells(moving: Tensor, shape: torch.Size) -> Tensor:
    """A map `[H, W]` of 0 and 1 for a plane of `shape`: 1 where the whole cell of a sample is."""
    steps = (round(moving.shape[0] / shape[0]), round(moving.shape[1] / shape[1]))
    if steps == (1, 1):
        return moving
    return -F.max_pool2d(-moving[None], steps, ceil_mode=True)[0]


def _codes(layout: Layout, colour: Colour) -> tuple[float, float, float, float]:
    """Codes from black to white, the code of black, codes from -0.5 to 0.5 of chroma, the code of no colour."""
    if layout.family == "rgb" or colour.full_range:
        return layout.peak, 0.0, layout.peak, 1 << (layout.depth - 1)
    step = 1 << (layout.depth - 8)
    return 219.0 * step, 16.0 * step, 224.0 * step, 128.0 * step


def to_codes(plane: Tensor, layout: Layout) -> Plane:
    """A plane of code values as it is stored: rounded half up and clipped. Noise of the arithmetic decides no half."""
    codes = plane.add(0.5 + 2**-10).floor_().clamp_(0, layout.peak)
    if layout.depth <= 8:
        return codes.to(torch.uint8).cpu().numpy()
    return codes.to(torch.int32).cpu().numpy().astype(np.uint16)


_Taps = Mapping[bool, tuple[float, ...]]

# How chroma is halved, for samples that lie on every second pixel (True) or between two (False). Either smoothing, for
# pictures that were RGB from the beginning, or the shortest symmetric inverse of `_upsample`, for those that came from
# YUV: the low-pass filters of the biorthogonal wavelets 5/3 and 3/1 (Cohen, Daubechies, Feauveau 1992), whose duals are
# linear interpolation. Moved by half a chroma sample it is the interpolation (-1, 9, 9, -1) / 16.
_SMOOTH: _Taps = {True: (0.25, 0.5, 0.25), False: (0.5, 0.5)}
_INVERSE: _Taps = {True: (-0.125, 0.25, 0.75, 0.25, -0.125), False: (-0.25, 0.75, 0.75, -0.25)}


def _upsample(planes: Tensor, axis: int, size: int, shift: int, cosited: bool) -> Tensor:
    """`[N, h, w]` to `size` samples along one axis, doubled `shift` times: linear, the ends held."""
    if shift == 0:
        return planes
    planes = _upsample(planes, axis, -(-size // 2), shift - 1, cosited)
    count = planes.shape[axis]
    following = planes.index_select(axis, _neighbours(count, 1, planes.device))
    if cosited:
        pair = (planes, torch.lerp(planes, following, 0.5))
    else:
        before = planes.index_select(axis, _neighbours(count, -1, planes.device))
        pair = (torch.lerp(planes, before, 0.25), torch.lerp(planes, following, 0.25))
    doubled = torch.stack(pair, axis + 1).flatten(axis, axis + 1)
    return doubled if doubled.shape[axis] == size else doubled.narrow(axis, 0, size)


def _neighbours(count: int, step: int, device: torch.device) -> Tensor:
    return torch.arange(step, count + step, device=device).clamp_(0, count - 1)


def _downsample(planes: Tensor, axis: int, shift: int, taps: tuple[float, ...]) -> Tensor:
    """`[N, H, W]` halved `shift` times along one axis, the ends held."""
    for _ in range(shift):
        count = -(-planes.shape[axis] // 2)
        before = (len(taps) - 1) // 2
        after = 2 * (count - 1) + len(taps) - before - planes.shape[axis]
        padded = F.pad(planes, (before, after) if axis == 2 else (0, 0, before, after), mode="replicate")
        phases = [padded[(slice(None),) * axis + (slice(k, None, 2),)] for k in (0, 1)]
        planes = phases[0].narrow(axis, 0, count) * taps[0]
        for k, weight in enumerate(taps[1:], start=1):
            planes.add_(phases[k % 2].narrow(axis, k // 2, count), alpha=weight)
    return planes
