"""Between FFmpeg's frames and planes: every pixel format that the film road reads or writes, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from midframe.errors import InputError
from midframe.video.frame import Layout, Plane, planar_layout


def layout_of(name: str) -> Layout | None:
    """The planar layout that holds FFmpeg's pixel format `name` exactly; None where none does.

    nv12 becomes yuv420p, p010 yuv420p10, a palette RGB; alpha is left out (see `has_alpha`).
    """
    planar = planar_layout(name)
    if planar is not None:
        return planar
    if name in _SEMI_PLANAR:
        return _SEMI_PLANAR[name][0]
    if name in _PACKED_YUV:
        return Layout("yuv", 8, 1, 0)
    if name in _PACKED_RGB:
        return Layout("rgb", 16 if _PACKED_RGB[name][1] else 8)
    if name in _PACKED_GRAY:
        return Layout("gray", _PACKED_GRAY[name])
    if name == "pal8":
        return Layout("rgb", 8)
    if name in _REPACKED:
        return planar_layout(_REPACKED[name])
    if name.startswith(("yuva", "gbrap")):
        return planar_layout(name.replace("yuva", "yuv").replace("gbrap", "gbrp"))
    return None


def has_alpha(name: str) -> bool:
    """Whether FFmpeg's pixel format of that name has an alpha channel (a palette may have one)."""
    return name == "pal8" or any(component.is_alpha for component in av.VideoFormat(name).components)


def planes_of(frame: av.VideoFrame) -> tuple[tuple[Plane, ...], Layout, Plane | None]:
    """The planes of a decoded frame, their layout, and its alpha plane where it has one.

    The planes may be views of the decoder's buffers: they must not be written to.
    """
    name = frame.format.name
    layout = layout_of(name)
    if layout is None:
        raise InputError(f"the film's pixel format {name} is not one that Midframe reads")
    if name in _REPACKED:
        frame = frame.reformat(format=_REPACKED[name])
        name = frame.format.name
    if name in _SEMI_PLANAR:
        return (*_semi_planar(frame, name),)
    if name in _PACKED_YUV:
        pixels = _rows(frame.planes[0])
        at = _PACKED_YUV[name]
        width = frame.width
        chroma = -(-width >> 1)
        y = pixels[:, at.index("y") :: 2][:, :width]
        return (y, pixels[:, at.index("u") :: 4][:, :chroma], pixels[:, at.index("v") :: 4][:, :chroma]), layout, None
    if name in _PACKED_RGB:
        order, big = _PACKED_RGB[name]
        dtype: Any = np.uint8 if big == "" else np.dtype(f"{big}u2")
        pixels = _samples(frame, 0, len(order), dtype)
        planes = tuple(_native(pixels[..., order.index(channel)]) for channel in "rgb")
        return planes, layout, _native(pixels[..., order.index("a")]) if "a" in order else None
    if name in _PACKED_GRAY:
        pixels = _samples(frame, 0, 2, np.uint8 if name == "ya8" else np.dtype(f"{'>' if 'be' in name else '<'}u2"))
        return (_native(pixels[..., 0]),), layout, _native(pixels[..., 1])
    if name == "pal8":
        palette = np.frombuffer(memoryview(frame.planes[1]), np.uint32)[:256]
        colours = palette[_samples(frame, 0, 1, np.uint8)[..., 0]]
        r, g, b, a = ((colours >> shift).astype(np.uint8) for shift in (16, 8, 0, 24))
        return (r, g, b), layout, a
    dtype = np.uint8 if layout.depth <= 8 else np.dtype(">u2" if name.endswith("be") else "<u2")
    planes = tuple(_native(_samples(frame, k, 1, dtype)[..., 0]) for k in range(len(frame.planes)))
    alpha = planes[3] if len(planes) == 4 else planes[1] if len(planes) == 2 else None
    if layout.family == "rgb":
        return (planes[2], planes[0], planes[1]), layout, alpha
    return planes[:3] if layout.family == "yuv" else planes[:1], layout, alpha


def frame_of(planes: Sequence[Plane], layout: Layout, name: str) -> av.VideoFrame:
    """A new FFmpeg frame in the pixel format `name`, which holds the layout (see `holds`), filled from the planes."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, name)
    if name in _PACKED_RGB:
        order, big = _PACKED_RGB[name]
        target = _samples(frame, 0, len(order), np.uint8 if big == "" else np.dtype(f"{big}u2"))
        shift = (16 if big else 8) - layout.depth
        for channel, plane in zip("rgb", planes, strict=True):
            target[..., order.index(channel)] = plane << shift if shift else plane
        for filler in ("a", "0"):
            if filler in order:
                target[..., order.index(filler)] = 255 if big == "" else 65535
        return frame
    wanted = planar_layout(name)
    if wanted is None:
        raise ValueError(f"{name} is not a pixel format that planes are written to")
    dtype = np.uint8 if wanted.depth <= 8 else np.dtype(">u2" if name.endswith("be") else "<u2")
    ordered = [planes[1], planes[2], planes[0]] if wanted.family == "rgb" else list(planes)
    shift = wanted.depth - layout.depth
    for k in range(len(frame.planes)):
        target = _samples(frame, k, 1, dtype)[..., 0]
        if k < len(ordered):
            target[...] = ordered[k].astype(np.uint16) << shift if shift else ordered[k]
        else:
            target[...] = 1 << (wanted.depth - 1)
    return frame


def holds(name: str, layout: Layout) -> bool:
    """Whether the pixel format `name` takes a layout's planes as they are, value for value (or shifted up)."""
    if name in _PACKED_RGB:
        order, big = _PACKED_RGB[name]
        return layout.family == "rgb" and (16 if big else 8) >= layout.depth and "a" not in order
    wanted = planar_layout(name)
    if wanted is None or name.startswith("yuvj"):
        return False
    if layout.family == "gray" and wanted.family == "yuv":
        return wanted.depth == layout.depth
    same = (wanted.family, wanted.shift_x, wanted.shift_y) == (layout.family, layout.shift_x, layout.shift_y)
    return same and wanted.depth >= layout.depth


# Two planes, the second with U and V in turn: the planar layout, the shift down of each sample, and whether V leads.
_SEMI_PLANAR = {
    "nv12": (Layout("yuv", 8, 1, 1), 0, False),
    "nv21": (Layout("yuv", 8, 1, 1), 0, True),
    "nv16": (Layout("yuv", 8, 1, 0), 0, False),
    "nv24": (Layout("yuv", 8, 0, 0), 0, False),
    "nv42": (Layout("yuv", 8, 0, 0), 0, True),
    "nv20le": (Layout("yuv", 10, 1, 0), 0, False),
    "p010le": (Layout("yuv", 10, 1, 1), 6, False),
    "p012le": (Layout("yuv", 12, 1, 1), 4, False),
    "p016le": (Layout("yuv", 16, 1, 1), 0, False),
    "p210le": (Layout("yuv", 10, 1, 0), 6, False),
    "p212le": (Layout("yuv", 12, 1, 0), 4, False),
    "p216le": (Layout("yuv", 16, 1, 0), 0, False),
    "p410le": (Layout("yuv", 10, 0, 0), 6, False),
    "p412le": (Layout("yuv", 12, 0, 0), 4, False),
    "p416le": (Layout("yuv", 16, 0, 0), 0, False),
}
_PACKED_YUV = {"yuyv422": "yuyv", "uyvy422": "uyvy", "yvyu422": "yvyu"}
# The order of the channels in a pixel ("0" is a filler) and the byte order where they have 16 bits.
_PACKED_RGB = {
    **{name: (name[:-2] if name[-2:].isdigit() else name, "") for name in ("rgb24", "bgr24")},
    **{name: (name, "") for name in ("rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr")},
    **{f"{order}48{end}": (order, sign) for order in ("rgb", "bgr") for end, sign in (("le", "<"), ("be", ">"))},
    **{f"{order}64{end}": (order, sign) for order in ("rgba", "bgra") for end, sign in (("le", "<"), ("be", ">"))},
}
_PACKED_GRAY = {"ya8": 8, "ya16le": 16, "ya16be": 16}
# Formats that the scaler turns into a planar one without loss (fewer bits into more, or bits into bytes).
_REPACKED = {
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


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """The bytes of one plane `[h, bytes of a line]`, the upper line first, with the padding at the line ends."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))[: plane.height]
    return rows[::-1] if plane.line_size < 0 else rows


def _samples(frame: av.VideoFrame, index: int, components: int, dtype: Any) -> Plane:
    """One plane as a writable view `[h, w, components]`, without the padding at the line ends."""
    plane = frame.planes[index]
    used = plane.width * components * np.dtype(dtype).itemsize
    samples: Plane = _rows(plane)[:, :used].view(dtype)
    return samples.reshape(plane.height, plane.width, components)


def _semi_planar(frame: av.VideoFrame, name: str) -> tuple[tuple[Plane, ...], Layout, None]:
    layout, shift, swapped = _SEMI_PLANAR[name]
    dtype = np.uint8 if layout.depth <= 8 else np.dtype("<u2")
    y = _samples(frame, 0, 1, dtype)[..., 0]
    uv = _samples(frame, 1, 2, dtype)
    planes = (y, uv[..., 1], uv[..., 0]) if swapped else (y, uv[..., 0], uv[..., 1])
    return tuple(plane >> shift for plane in planes) if shift else planes, layout, None


def _native(plane: Plane) -> Plane:
    """The plane in the machine's own byte order."""
    return plane if plane.dtype.isnative else plane.astype(plane.dtype.newbyteorder("="))
