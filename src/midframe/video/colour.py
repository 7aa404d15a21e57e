"""Colour: what a film's code values mean, and the conversion between its planes and RGB.

Source planes are converted to RGB for the network by the film's own matrix, range, bit depth and chroma siting. The
difference between the network's output and the weighted mean of the two source frames is converted back, and added to
the weighted mean of the source planes (see `weighted_mean_plus_difference`). All of this is computed in float and
rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.errors import InputError
from midframe.video.frame import Layout, Plane

Siting = Literal["left", "topleft", "centre"]
"""Position of the chroma samples of 4:2:0: on luma columns and between luma lines ("left"), on both ("topleft"), or
between both ("centre")."""

MATRICES = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}
"""The supported matrices, by their weights of red and blue in luma (Kr and Kb in ITU-T H.273)."""

PQ, HLG = 16, 18
"""Transfer characteristics of HDR films (H.273)."""


@dataclass(frozen=True)
class ColourTags:
    """The colour description that a stream carries, in the numbers of H.273 (FFmpeg uses the same)."""

    matrix: int = 2
    """Matrix coefficients; 2 is unspecified."""
    range: int = 0
    """FFmpeg's `AVColorRange`: 0 unspecified, 1 limited, 2 full."""
    primaries: int = 2
    """Colour primaries; 2 is unspecified."""
    transfer: int = 2
    """Transfer characteristics; 2 is unspecified."""


UNTAGGED = ColourTags()


@dataclass(frozen=True)
class Colour:
    """What the code values of a film mean."""

    matrix: str
    """A key of `MATRICES`, or "rgb" or "gray" for films without a matrix."""
    full_range: bool
    """Whether codes run from 0 to the peak, not from 16 to 235 (in 8 bits)."""
    siting: Siting = "left"
    guessed: tuple[str, ...] = ()
    """Properties that the film does not state and that were assumed, in words."""
    tags: ColourTags = UNTAGGED
    """The film's own tags, which are written again as they are."""

    def same_code_values(self, other: Colour) -> bool:
        """Return whether equal code values mean equal colours in both; tags are not compared."""
        siting = self.siting == other.siting or self.matrix in ("rgb", "gray")
        return siting and (self.matrix, self.full_range) == (other.matrix, other.full_range)

    def describe(self) -> str:
        """Return the colour in words, such as "bt709, limited range, chroma left"."""
        return f"{self.matrix}, {'full' if self.full_range else 'limited'} range, chroma {self.siting}"


def colour_of_stream(
    layout: Layout,
    tags: ColourTags = UNTAGGED,
    *,
    height: int,
    codec: str,
    full_range_format: bool = False,
) -> Colour:
    """Return the meaning of a stream's code values, from its tags and, where tags are missing, by convention.

    Conventions: BT.709 from 720 lines up, else BT.601; limited range. Chroma siting cannot be read: it is top-left for
    BT.2020 with PQ or HLG, centre for JPEG and MPEG-1, else left. full_range_format: whether the pixel format itself
    implies full range (yuvj420p). Raises `InputError` for a matrix that is not supported.
    """
    if layout.family == "rgb":
        return Colour("rgb", full_range=True, tags=tags)
    full_range = full_range_format or tags.range == 2
    if layout.family == "gray":
        full_range = full_range or (tags.range == 0 and codec in _FULL_RANGE_GRAY_CODECS)
        return Colour("gray", full_range, tags=tags)
    if tags.matrix in _UNSUPPORTED_MATRICES:
        raise InputError(
            f"the film's colours are coded as {_UNSUPPORTED_MATRICES[tags.matrix]}, which Midframe does not convert; "
            f"it knows {', '.join(MATRICES)} and RGB"
        )
    guessed = []
    matrix = _MATRIX_NAMES.get(tags.matrix)
    if matrix is None:
        matrix = "bt709" if height >= 720 else "bt601"
        guessed.append(f"matrix not given, taken as {matrix} ({height} lines)")
    if tags.range == 0 and not full_range_format:
        guessed.append("range not given, taken as limited")
    siting: Siting = "left"
    if codec in ("mjpeg", "mpeg1video"):
        siting = "centre"
    elif matrix == "bt2020" and tags.transfer in (PQ, HLG):
        siting = "topleft"
    return Colour(matrix, full_range, siting, tuple(guessed), tags)


_MATRIX_NAMES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
"""Supported matrices by their number in H.273."""

_UNSUPPORTED_MATRICES = {
    8: "YCgCo",
    10: "BT.2020 constant luminance",
    11: "YDzDx",
    12: "chromaticity-derived",
    13: "chromaticity-derived",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}

_FULL_RANGE_GRAY_CODECS = ("png", "mjpeg", "tiff", "bmp", "gif", "webp", "pgm", "pam", "jpeg2000", "rawvideo")
"""Codecs whose untagged gray pictures use the full range."""


def planes_to_tensors(planes: Sequence[Plane], device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
    """Return planes as float32 tensors `[height, width]` of code values."""
    return tuple(torch.from_numpy(np.asarray(plane, np.float32)).to(device) for plane in planes)


def planes_to_rgb(planes: Sequence[Tensor], layout: Layout, colour: Colour) -> Tensor:
    """Convert planes of code values (float tensors) to RGB `[3, H, W]`, gamma-encoded, nominally in 0..1.

    Chroma is upsampled linearly according to its siting. Colours out of gamut lie outside 0..1 and are not clipped.
    """
    codes = _code_range(layout, colour)
    if layout.family == "rgb":
        return torch.stack(tuple(planes)).mul_(1 / codes.luma_span)
    luma = (planes[0] - codes.black).mul_(1 / codes.luma_span)
    if layout.family == "gray":
        return luma.expand(3, -1, -1)
    height, width = luma.shape
    chroma = torch.stack((planes[1], planes[2])).sub_(codes.neutral).mul_(1 / codes.chroma_span)
    chroma = _upsample(chroma, 2, width, layout.shift_x, _co_sited_x(colour))
    cb, cr = _upsample(chroma, 1, height, layout.shift_y, _co_sited_y(colour))
    kr, kb = MATRICES[colour.matrix]
    kg = 1 - kr - kb
    rgb = luma.new_empty(3, height, width)
    torch.add(luma, cr, alpha=2 * (1 - kr), out=rgb[0])
    torch.add(luma, cb, alpha=-2 * (1 - kb) * kb / kg, out=rgb[1])
    rgb[1].add_(cr, alpha=-2 * (1 - kr) * kr / kg)
    torch.add(luma, cb, alpha=2 * (1 - kb), out=rgb[2])
    return rgb


def rgb_to_planes(
    rgb: Tensor, layout: Layout, colour: Colour, source_layout: Layout | None = None
) -> tuple[Plane, ...]:
    """Convert an RGB picture `[3, H, W]` to planes, rounded and clipped to code values.

    source_layout: the layout of the planes that `planes_to_rgb` converted to this picture. If their chroma is
    subsampled along an axis at least as much as in `layout`, it is restored exactly; otherwise it is low-pass filtered.
    """
    codes = _code_range(layout, colour)
    offsets = (codes.black, codes.neutral, codes.neutral) if layout.family == "yuv" else (codes.black,) * 3
    source = source_layout if source_layout is not None and source_layout.family == "yuv" else Layout("yuv", 8)
    filter_x = _INVERSE_OF_LINEAR if source.shift_x >= layout.shift_x else _LOW_PASS
    filter_y = _INVERSE_OF_LINEAR if source.shift_y >= layout.shift_y else _LOW_PASS
    planes = _rgb_to_planes_without_offset(rgb, layout, colour, filter_x, filter_y)
    return tuple(quantise(plane + offset, layout) for plane, offset in zip(planes, offsets, strict=False))


def weighted_mean_plus_difference(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    time: float,
    difference: Tensor,
    *,
    layout: Layout,
    colour: Colour,
    mask: Tensor | None = None,
) -> tuple[Plane, ...]:
    """Return the planes of an interpolated frame: the weighted mean of the source planes plus a difference in RGB.

    planes = (1 - time) * first + time * second + to_planes(difference)

    first, second: the source planes, code values as float tensors. time: from 0, the first frame, to 1, the second.
    difference `[3, H, W]`: the network's output minus the weighted mean of the two frames in RGB.

    If the difference is zero, the result is exactly the weighted mean: the conversion to RGB and back alters nothing,
    whatever the chroma subsampling, even colours out of gamut. Chroma of the difference is decimated by the exact
    inverse of the interpolation in `planes_to_rgb`; with another filter, hard edges of the source frames would remain
    as ghosts. The sum is rounded once, halves up, and then clipped.

    mask `[H, W]`: 1 for pixels that may differ from the weighted mean, else 0 (see `mask_of_changes`). Without a mask,
    the decimation of chroma spreads a difference by up to two pixels, also into still regions.
    """
    differences = _rgb_to_planes_without_offset(difference, layout, colour, _INVERSE_OF_LINEAR, _INVERSE_OF_LINEAR)
    if mask is not None:
        differences = tuple(d * _mask_of_plane(mask, d.shape) for d in differences)
    planes = [torch.lerp(a, b, time).add_(d) for a, b, d in zip(first, second, differences, strict=True)]
    return tuple(quantise(plane, layout) for plane in planes)


def mask_of_changes(first: Sequence[Tensor], second: Sequence[Tensor], layout: Layout, radius: int) -> Tensor:
    """Return a mask `[H, W]`: 1 within `radius` pixels (on either axis) of any difference of two frames, else 0.

    A chroma sample that differs counts for all pixels that it covers.
    """
    different = first[0] != second[0]
    height, width = different.shape
    for a, b in zip(first[1:], second[1:], strict=True):
        samples = a != b
        for axis, shift in ((0, layout.shift_y), (1, layout.shift_x)):
            samples = samples.repeat_interleave(1 << shift, axis) if shift else samples
        different = different | samples[:height, :width]
    mask = different.to(torch.int32)
    for axis in (0, 1):  # dilation by a box, by running sums
        padding = (radius + 1, radius, 0, 0) if axis else (0, 0, radius + 1, radius)
        total = F.pad(mask, padding).cumsum(axis, dtype=torch.int32)
        length = mask.shape[axis]
        mask = (total.narrow(axis, 2 * radius + 1, length) != total.narrow(axis, 0, length)).to(torch.int32)
    return mask.float()


def quantise(plane: Tensor, layout: Layout) -> Plane:
    """Round a plane of code values half up, clip it to the layout's codes, and return it as integers."""
    # The small addition keeps rounding errors of the arithmetic from deciding whether an exact half is rounded up.
    codes = plane.add(0.5 + 2**-10).floor_().clamp_(0, layout.peak)
    if layout.depth <= 8:
        return codes.to(torch.uint8).cpu().numpy()
    return codes.to(torch.int32).cpu().numpy().astype(np.uint16)


@dataclass(frozen=True)
class _CodeRange:
    """How signal values correspond to code values."""

    luma_span: float
    """Codes from black to white."""
    black: float
    chroma_span: float
    """Codes from chroma -0.5 to chroma 0.5."""
    neutral: float
    """The code of chroma 0."""


def _code_range(layout: Layout, colour: Colour) -> _CodeRange:
    if layout.family == "rgb" or colour.full_range:
        return _CodeRange(layout.peak, 0.0, layout.peak, 1 << (layout.depth - 1))
    step = 1 << (layout.depth - 8)
    return _CodeRange(219.0 * step, 16.0 * step, 224.0 * step, 128.0 * step)


def _co_sited_x(colour: Colour) -> bool:
    """Return whether chroma samples lie on luma columns, not between two."""
    return colour.siting != "centre"


def _co_sited_y(colour: Colour) -> bool:
    """Return whether chroma samples lie on luma lines, not between two."""
    return colour.siting == "topleft"


@dataclass(frozen=True)
class _DecimationFilter:
    """Symmetric FIR taps applied along an axis before every second sample is taken."""

    co_sited: tuple[float, ...]
    """Taps for chroma samples that lie on every second luma sample."""
    centred: tuple[float, ...]
    """Taps for chroma samples that lie between two luma samples."""


_LOW_PASS = _DecimationFilter((0.25, 0.5, 0.25), (0.5, 0.5))
"""For pictures with full chroma resolution."""

_INVERSE_OF_LINEAR = _DecimationFilter((-0.125, 0.25, 0.75, 0.25, -0.125), (-0.25, 0.75, 0.75, -0.25))
"""For pictures whose chroma was upsampled by `_upsample`: the shortest symmetric filters that restore it exactly.

They are the low-pass analysis filters of the biorthogonal wavelets 5/3 and 3/1 (Cohen, Daubechies, Feauveau 1992). The
synthesis filters of these wavelets are linear interpolation. If a picture moves by half a chroma sample between
upsampling and decimation, both together interpolate its chroma with the taps (-1, 9, 9, -1) / 16.
"""


def _rgb_to_planes_without_offset(
    rgb: Tensor, layout: Layout, colour: Colour, filter_x: _DecimationFilter, filter_y: _DecimationFilter
) -> tuple[Tensor, ...]:
    """Convert RGB `[3, H, W]` to planes of code values without their offsets, the codes of black and neutral chroma."""
    codes = _code_range(layout, colour)
    if layout.family == "rgb":
        return tuple((rgb * codes.luma_span).unbind(0))
    if layout.family == "gray":
        return (rgb.mean(0) * codes.luma_span,)
    kr, kb = MATRICES[colour.matrix]
    luma = (rgb[0] * kr).add_(rgb[1], alpha=1 - kr - kb).add_(rgb[2], alpha=kb)
    chroma = torch.stack((rgb[2], rgb[0])).sub_(luma)
    chroma = _decimate(chroma, 1, layout.shift_y, filter_y.co_sited if _co_sited_y(colour) else filter_y.centred)
    chroma = _decimate(chroma, 2, layout.shift_x, filter_x.co_sited if _co_sited_x(colour) else filter_x.centred)
    cb = chroma[0] * (codes.chroma_span / (2 * (1 - kb)))
    cr = chroma[1] * (codes.chroma_span / (2 * (1 - kr)))
    return (luma.mul_(codes.luma_span), cb, cr)


def _mask_of_plane(mask: Tensor, shape: torch.Size) -> Tensor:
    """Reduce a mask `[H, W]` of 0 and 1 to a plane's shape: 1 for a sample if all pixels that it covers are 1."""
    steps = (round(mask.shape[0] / shape[0]), round(mask.shape[1] / shape[1]))
    if steps == (1, 1):
        return mask
    return -F.max_pool2d(-mask[None], steps, ceil_mode=True)[0]


def _upsample(planes: Tensor, axis: int, size: int, shift: int, co_sited: bool) -> Tensor:
    """Upsample `[N, h, w]` along one axis by 2**shift, to `size` samples: linear interpolation, ends repeated."""
    if shift == 0:
        return planes
    planes = _upsample(planes, axis, -(-size // 2), shift - 1, co_sited)
    following = _shift_clamped(planes, axis, 1)
    if co_sited:
        even, odd = planes, torch.lerp(planes, following, 0.5)
    else:
        even = torch.lerp(planes, _shift_clamped(planes, axis, -1), 0.25)
        odd = torch.lerp(planes, following, 0.25)
    doubled = torch.stack((even, odd), axis + 1).flatten(axis, axis + 1)
    return doubled if doubled.shape[axis] == size else doubled.narrow(axis, 0, size)


def _shift_clamped(planes: Tensor, axis: int, step: int) -> Tensor:
    """Return a tensor whose sample k along an axis is sample k + step of `planes`, clamped to the ends."""
    count = planes.shape[axis]
    return planes.index_select(axis, torch.arange(step, count + step, device=planes.device).clamp_(0, count - 1))


def _decimate(planes: Tensor, axis: int, shift: int, taps: tuple[float, ...]) -> Tensor:
    """Filter `[N, H, W]` along one axis, with repeated ends, and take every second sample; `shift` times."""
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
