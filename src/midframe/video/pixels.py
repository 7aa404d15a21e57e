"""Convert between FFmpeg's frames and planes, exactly, in every pixel format that Midframe reads or writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from midframe.errors import InputError
from midframe.video.frame import Layout, Plane, planar_layout


class DecodedPlanes(NamedTuple):
    """The planes of a decoded frame."""

    planes: tuple[Plane, ...]
    """Y U V, Y alone, or R G B. They may be views of the decoder's buffers, so they must not be written to."""
    layout: Layout
    alpha: Plane | None
    """The alpha plane, of the depth of the others; None if the pixel format has none."""


def planes_of(frame: av.VideoFrame) -> DecodedPlanes:
    """Return the planes of a decoded frame. Raises `InputError` for a pixel format that is not supported."""
    name = frame.format.name
    layout = layout_of_format(name)
    if layout is None:
        raise InputError(f"the film's pixel format {name} is not one that Midframe reads")
    if name in _REFORMATTED:
        frame = frame.reformat(format=_REFORMATTED[name])
        name = frame.format.name
    if name in _SEMI_PLANAR:
        return DecodedPlanes(_semi_planar_planes(frame, name), layout, None)
    if name in _PACKED_YUV:
        return DecodedPlanes(_packed_yuv_planes(frame, name), layout, None)
    if name in _PACKED_RGB:
        planes, alpha = _packed_rgb_planes(frame, name)
    elif name in _GRAY_ALPHA:
        samples = _plane_samples(frame, 0, 2, _sample_type(_GRAY_ALPHA[name], name))
        planes, alpha = (_native(samples[..., 0]),), _native(samples[..., 1])
    elif name == "pal8":
        planes, alpha = _palette_planes(frame)
    else:
        planes, alpha = _planar_planes(frame, name, layout)
    return DecodedPlanes(planes, layout, alpha)


def frame_of(planes: Sequence[Plane], layout: Layout, name: str) -> av.VideoFrame:
    """Create an FFmpeg frame from planes, in a pixel format `name` of their family and at least their depth.

    Gray can also be stored in a YUV format, with neutral chroma.
    """
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, name)
    if name in _PACKED_RGB:
        _write_packed_rgb(frame, name, planes, layout)
    else:
        _write_planar(frame, name, planes, layout)
    return frame


def layout_of_format(name: str) -> Layout | None:
    """Return the layout in which `planes_of` gives FFmpeg's pixel format `name`; None if the format is not supported.

    No value changes: nv12 becomes yuv420p, p010 yuv420p10, a palette RGB. Alpha is separate (see `has_alpha`).
    """
    planar = planar_layout(name)
    if planar is not None:
        return planar
    if name in _SEMI_PLANAR:
        return _SEMI_PLANAR[name].layout
    if name in _PACKED_YUV:
        return Layout("yuv", 8, 1, 0)
    if name in _PACKED_RGB:
        return Layout("rgb", _PACKED_RGB[name].depth)
    if name in _GRAY_ALPHA:
        return Layout("gray", _GRAY_ALPHA[name])
    if name == "pal8":
        return Layout("rgb", 8)
    if name in _REFORMATTED:
        return planar_layout(_REFORMATTED[name])
    if name.startswith(("yuva", "gbrap")):
        return planar_layout(name.replace("yuva", "yuv").replace("gbrap", "gbrp"))
    return None


def has_alpha(name: str) -> bool:
    """Return whether FFmpeg's pixel format `name` has an alpha channel, or is a palette, whose colours may have one."""
    return name == "pal8" or any(component.is_alpha for component in av.VideoFormat(name).components)


def has_transparent_pixels(alpha: Plane, depth: int) -> bool:
    """Return whether any pixel of an alpha plane of `depth` bits is not fully opaque."""
    return int(np.min(alpha)) < (1 << depth) - 1


def format_holds(name: str, layout: Layout) -> bool:
    """Return whether FFmpeg's pixel format `name` can store planes of `layout` without loss: exactly or shifted left.

    Formats with alpha, and the full-range formats yuvj, are left out.
    """
    if name in _PACKED_RGB:
        packing = _PACKED_RGB[name]
        return layout.family == "rgb" and packing.depth >= layout.depth and "a" not in packing.channels
    target = planar_layout(name)
    if target is None or name.startswith("yuvj"):
        return False
    if layout.family == "gray" and target.family == "yuv":
        return target.depth == layout.depth
    same = (target.family, target.shift_x, target.shift_y) == (layout.family, layout.shift_x, layout.shift_y)
    return same and target.depth >= layout.depth


class _SemiPlanar(NamedTuple):
    """A format of two planes: Y, and U and V interleaved."""

    layout: Layout
    low_bits: int
    """Unused bits below each sample."""
    v_first: bool
    """Whether V precedes U."""


_SEMI_PLANAR = {
    "nv12": _SemiPlanar(Layout("yuv", 8, 1, 1), 0, False),
    "nv21": _SemiPlanar(Layout("yuv", 8, 1, 1), 0, True),
    "nv16": _SemiPlanar(Layout("yuv", 8, 1, 0), 0, False),
    "nv24": _SemiPlanar(Layout("yuv", 8, 0, 0), 0, False),
    "nv42": _SemiPlanar(Layout("yuv", 8, 0, 0), 0, True),
    "nv20le": _SemiPlanar(Layout("yuv", 10, 1, 0), 0, False),
    "p010le": _SemiPlanar(Layout("yuv", 10, 1, 1), 6, False),
    "p012le": _SemiPlanar(Layout("yuv", 12, 1, 1), 4, False),
    "p016le": _SemiPlanar(Layout("yuv", 16, 1, 1), 0, False),
    "p210le": _SemiPlanar(Layout("yuv", 10, 1, 0), 6, False),
    "p212le": _SemiPlanar(Layout("yuv", 12, 1, 0), 4, False),
    "p216le": _SemiPlanar(Layout("yuv", 16, 1, 0), 0, False),
    "p410le": _SemiPlanar(Layout("yuv", 10, 0, 0), 6, False),
    "p412le": _SemiPlanar(Layout("yuv", 12, 0, 0), 4, False),
    "p416le": _SemiPlanar(Layout("yuv", 16, 0, 0), 0, False),
}

_PACKED_YUV = {"yuyv422": "yuyv", "uyvy422": "uyvy", "yvyu422": "yvyu"}
"""8-bit 4:2:2 formats of one plane: the order of the four bytes that hold two pixels."""


class _PackedRgb(NamedTuple):
    """A format of one plane whose pixels hold all channels."""

    channels: str
    """The channels in memory order; "0" is an unused byte."""
    depth: int


_PACKED_RGB = {
    **{name: _PackedRgb(name.removesuffix("24"), 8) for name in ("rgb24", "bgr24")},
    **{name: _PackedRgb(name, 8) for name in ("rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr")},
    **{f"{channels}48{order}": _PackedRgb(channels, 16) for channels in ("rgb", "bgr") for order in ("le", "be")},
    **{f"{channels}64{order}": _PackedRgb(channels, 16) for channels in ("rgba", "bgra") for order in ("le", "be")},
}

_GRAY_ALPHA = {"ya8": 8, "ya16le": 16, "ya16be": 16}
"""Formats of one plane with gray and alpha interleaved: bits of a sample."""

_REFORMATTED = {
    "monow": "gray",
    "monob": "gray",
    "rgb565le": "gbrp",
    "rgb555le": "gbrp",
    "rgb8": "gbrp",
    "bgr8": "gbrp",
    "rgb4_byte": "gbrp",
    "bgr4_byte": "gbrp",
    "x2rgb10le": "gbrp10le",
    "y210le": "yuv422p10le",
}
"""Formats that FFmpeg's scaler first converts into a planar one; no information is lost."""


def _semi_planar_planes(frame: av.VideoFrame, name: str) -> tuple[Plane, ...]:
    layout, low_bits, v_first = _SEMI_PLANAR[name]
    dtype = _sample_type(layout.depth, name)
    y = _plane_samples(frame, 0, 1, dtype)[..., 0]
    chroma = _plane_samples(frame, 1, 2, dtype)
    planes = (y, chroma[..., 1], chroma[..., 0]) if v_first else (y, chroma[..., 0], chroma[..., 1])
    return tuple(plane >> low_bits for plane in planes) if low_bits else planes


def _packed_yuv_planes(frame: av.VideoFrame, name: str) -> tuple[Plane, ...]:
    rows = _plane_bytes(frame.planes[0])
    order = _PACKED_YUV[name]
    width, chroma_width = frame.width, -(-frame.width >> 1)
    y = rows[:, order.index("y") :: 2][:, :width]
    return (y, *(rows[:, order.index(channel) :: 4][:, :chroma_width] for channel in "uv"))


def _packed_rgb_planes(frame: av.VideoFrame, name: str) -> tuple[tuple[Plane, ...], Plane | None]:
    channels, depth = _PACKED_RGB[name]
    samples = _plane_samples(frame, 0, len(channels), _sample_type(depth, name))
    planes = tuple(_native(samples[..., channels.index(channel)]) for channel in "rgb")
    return planes, _native(samples[..., channels.index("a")]) if "a" in channels else None


def _palette_planes(frame: av.VideoFrame) -> tuple[tuple[Plane, ...], Plane]:
    palette = np.frombuffer(memoryview(frame.planes[1]), np.uint32)[:256]
    colours = palette[_plane_samples(frame, 0, 1, np.uint8)[..., 0]]
    red, green, blue, alpha = ((colours >> shift).astype(np.uint8) for shift in (16, 8, 0, 24))
    return (red, green, blue), alpha


def _planar_planes(frame: av.VideoFrame, name: str, layout: Layout) -> tuple[tuple[Plane, ...], Plane | None]:
    dtype = _sample_type(layout.depth, name)
    planes = tuple(_native(_plane_samples(frame, k, 1, dtype)[..., 0]) for k in range(len(frame.planes)))
    alpha = planes[-1] if len(planes) in (2, 4) else None
    if layout.family == "rgb":  # stored as G B R
        return (planes[2], planes[0], planes[1]), alpha
    return planes[:3] if layout.family == "yuv" else planes[:1], alpha


def _write_packed_rgb(frame: av.VideoFrame, name: str, planes: Sequence[Plane], layout: Layout) -> None:
    channels, depth = _PACKED_RGB[name]
    target = _plane_samples(frame, 0, len(channels), _sample_type(depth, name))
    shift = depth - layout.depth
    for channel, plane in zip("rgb", planes, strict=True):
        target[..., channels.index(channel)] = plane << shift if shift else plane
    for unused in ("a", "0"):
        if unused in channels:
            target[..., channels.index(unused)] = (1 << depth) - 1


def _write_planar(frame: av.VideoFrame, name: str, planes: Sequence[Plane], layout: Layout) -> None:
    target_layout = planar_layout(name)
    if target_layout is None:
        raise ValueError(f"{name} is not a pixel format that planes are written to")
    dtype = _sample_type(target_layout.depth, name)
    ordered = [planes[1], planes[2], planes[0]] if target_layout.family == "rgb" else list(planes)
    shift = target_layout.depth - layout.depth
    for k in range(len(frame.planes)):
        target = _plane_samples(frame, k, 1, dtype)[..., 0]
        if k < len(ordered):
            target[...] = ordered[k].astype(np.uint16) << shift if shift else ordered[k]
        else:  # chroma of a gray picture
            target[...] = 1 << (target_layout.depth - 1)


def _sample_type(depth: int, name: str) -> Any:
    """Return the numpy type of a sample of `depth` bits, in the byte order that a pixel format's name states."""
    return np.uint8 if depth <= 8 else np.dtype(">u2" if name.endswith("be") else "<u2")


def _plane_bytes(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return the bytes of a plane `[height, bytes of a line]`, top line first, with the padding at the line ends."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))[: plane.height]
    return rows[::-1] if plane.line_size < 0 else rows


def _plane_samples(frame: av.VideoFrame, index: int, components: int, dtype: Any) -> Plane:
    """Return plane `index` as a writable view `[height, width, components]`, without the padding at the line ends."""
    plane = frame.planes[index]
    used = plane.width * components * np.dtype(dtype).itemsize
    samples: Plane = _plane_bytes(plane)[:, :used].view(dtype)
    return samples.reshape(plane.height, plane.width, components)


def _native(plane: Plane) -> Plane:
    """Return the plane in the machine's byte order."""
    return plane if plane.dtype.isnative else plane.astype(plane.dtype.newbyteorder("="))
