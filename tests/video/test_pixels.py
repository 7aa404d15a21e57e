"""Every pixel format is read and written exactly, compared with bytes laid out here by FFmpeg's documentation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from midframe.errors import InputError
from midframe.video.frame import Layout, planar_layout
from midframe.video.pixels import format_holds, frame_of, has_alpha, layout_of_format, planes_of

Plane = np.ndarray[Any, Any]
SIZES = [(16, 16), (33, 17), (18, 7)]


class Format(NamedTuple):
    """A pixel format of FFmpeg."""

    family: str
    bits: int
    """Bits of a sample."""
    shifts: tuple[int, int]
    """Base-2 logarithms of the chroma subsampling, horizontal and vertical."""
    low_bits: int
    """Unused bits below each sample in memory."""
    planes: tuple[str, ...]
    """The components of each plane in memory order, by their letters; "x" is unused."""


YUV, GRAY, GBR = ("Y", "U", "V"), ("Y",), ("G", "B", "R")
DEPTHS = [(8, ""), *((bits, f"{bits}{order}") for bits in (9, 10, 12, 14, 16) for order in ("le", "be"))]
"""Bits of a sample, and the end of the format's name."""
PLANAR = {
    **{f"yuv420p{end}": Format("yuv", bits, (1, 1), 0, YUV) for bits, end in DEPTHS},
    **{f"yuv422p{end}": Format("yuv", bits, (1, 0), 0, YUV) for bits, end in DEPTHS},
    **{f"yuv444p{end}": Format("yuv", bits, (0, 0), 0, YUV) for bits, end in DEPTHS},
    "yuvj420p": Format("yuv", 8, (1, 1), 0, YUV),
    "yuvj422p": Format("yuv", 8, (1, 0), 0, YUV),
    "yuvj444p": Format("yuv", 8, (0, 0), 0, YUV),
    "yuv440p": Format("yuv", 8, (0, 1), 0, YUV),
    "yuv411p": Format("yuv", 8, (2, 0), 0, YUV),
    "yuv410p": Format("yuv", 8, (2, 2), 0, YUV),
    "yuv440p10le": Format("yuv", 10, (0, 1), 0, YUV),
    **{f"gray{end}": Format("gray", bits, (0, 0), 0, GRAY) for bits, end in DEPTHS},
    **{f"gbrp{end}": Format("rgb", bits, (0, 0), 0, GBR) for bits, end in DEPTHS},
}
WITH_ALPHA = {
    "yuva420p": Format("yuv", 8, (1, 1), 0, ("Y", "U", "V", "A")),
    "yuva422p10le": Format("yuv", 10, (1, 0), 0, ("Y", "U", "V", "A")),
    "yuva444p12le": Format("yuv", 12, (0, 0), 0, ("Y", "U", "V", "A")),
    "gbrap": Format("rgb", 8, (0, 0), 0, ("G", "B", "R", "A")),
    "gbrap10le": Format("rgb", 10, (0, 0), 0, ("G", "B", "R", "A")),
    "ya8": Format("gray", 8, (0, 0), 0, ("YA",)),
    "ya16le": Format("gray", 16, (0, 0), 0, ("YA",)),
    "ya16be": Format("gray", 16, (0, 0), 0, ("YA",)),
    "rgba": Format("rgb", 8, (0, 0), 0, ("RGBA",)),
    "bgra": Format("rgb", 8, (0, 0), 0, ("BGRA",)),
    "argb": Format("rgb", 8, (0, 0), 0, ("ARGB",)),
    "abgr": Format("rgb", 8, (0, 0), 0, ("ABGR",)),
    "rgba64le": Format("rgb", 16, (0, 0), 0, ("RGBA",)),
    "bgra64be": Format("rgb", 16, (0, 0), 0, ("BGRA",)),
}
PACKED = {
    "nv12": Format("yuv", 8, (1, 1), 0, ("Y", "UV")),
    "nv21": Format("yuv", 8, (1, 1), 0, ("Y", "VU")),
    "nv16": Format("yuv", 8, (1, 0), 0, ("Y", "UV")),
    "nv24": Format("yuv", 8, (0, 0), 0, ("Y", "UV")),
    "nv42": Format("yuv", 8, (0, 0), 0, ("Y", "VU")),
    "nv20le": Format("yuv", 10, (1, 0), 0, ("Y", "UV")),
    "p010le": Format("yuv", 10, (1, 1), 6, ("Y", "UV")),
    "p012le": Format("yuv", 12, (1, 1), 4, ("Y", "UV")),
    "p016le": Format("yuv", 16, (1, 1), 0, ("Y", "UV")),
    "p210le": Format("yuv", 10, (1, 0), 6, ("Y", "UV")),
    "p212le": Format("yuv", 12, (1, 0), 4, ("Y", "UV")),
    "p216le": Format("yuv", 16, (1, 0), 0, ("Y", "UV")),
    "p410le": Format("yuv", 10, (0, 0), 6, ("Y", "UV")),
    "p412le": Format("yuv", 12, (0, 0), 4, ("Y", "UV")),
    "p416le": Format("yuv", 16, (0, 0), 0, ("Y", "UV")),
    "rgb24": Format("rgb", 8, (0, 0), 0, ("RGB",)),
    "bgr24": Format("rgb", 8, (0, 0), 0, ("BGR",)),
    "rgb0": Format("rgb", 8, (0, 0), 0, ("RGBx",)),
    "bgr0": Format("rgb", 8, (0, 0), 0, ("BGRx",)),
    "0rgb": Format("rgb", 8, (0, 0), 0, ("xRGB",)),
    "0bgr": Format("rgb", 8, (0, 0), 0, ("xBGR",)),
    "rgb48le": Format("rgb", 16, (0, 0), 0, ("RGB",)),
    "rgb48be": Format("rgb", 16, (0, 0), 0, ("RGB",)),
    "bgr48le": Format("rgb", 16, (0, 0), 0, ("BGR",)),
    "bgr48be": Format("rgb", 16, (0, 0), 0, ("BGR",)),
}
FORMATS = {**PLANAR, **WITH_ALPHA, **PACKED}
PACKED_YUV = {"yuyv422": "YUYV", "uyvy422": "UYVY", "yvyu422": "YVYU"}


def write_plane(frame: av.VideoFrame, index: int, rows: Plane) -> None:
    """Write the bytes of a plane, line by line, and fill the padding with other bytes."""
    lines = np.ascontiguousarray(rows).view(np.uint8).reshape(rows.shape[0], -1)
    buffer = np.frombuffer(frame.planes[index], np.uint8).reshape(-1, frame.planes[index].line_size)
    buffer[:, :] = 0xA5
    buffer[: lines.shape[0], : lines.shape[1]] = lines


def read_plane(frame: av.VideoFrame, index: int, height: int, length: int) -> bytes:
    """Return the first `length` bytes of each line of a plane."""
    buffer = np.frombuffer(frame.planes[index], np.uint8).reshape(-1, frame.planes[index].line_size)
    return buffer[:height, :length].tobytes()


def random_components(name: str, width: int, height: int) -> dict[str, Plane]:
    """Return random samples for each component of a format, by its letter."""
    _, bits, (x, y), _, planes = FORMATS[name]
    rng = np.random.default_rng(7)
    sizes = dict.fromkeys("YRGBAx", (height, width)) | dict.fromkeys("UV", (-(-height >> y), -(-width >> x)))
    kind = np.uint8 if bits == 8 else np.uint16
    return {c: rng.integers(0, 1 << bits, sizes[c]).astype(kind) for c in "".join(planes)}


def interleaved(name: str, components: dict[str, Plane]) -> list[Plane]:
    """Return the planes of a format as they are in memory: components interleaved, in its byte order."""
    _, bits, _, low_bits, planes = FORMATS[name]
    kind = "u1" if bits == 8 else (">u2" if name.endswith("be") else "<u2")
    return [np.stack([components[c] << low_bits for c in order], -1).astype(kind) for order in planes]


def expected_planes(name: str, components: dict[str, Plane]) -> list[Plane]:
    """Return the components in the order of `Layout`."""
    order = {"yuv": "YUV", "gray": "Y", "rgb": "RGB"}[FORMATS[name].family]
    return [components[c] for c in order]


def assert_same(found: Sequence[Plane], expected: Sequence[Plane]) -> None:
    assert len(found) == len(expected)
    for plane, expected_plane in zip(found, expected, strict=True):
        assert plane.dtype == expected_plane.dtype
        assert plane.dtype.isnative
        np.testing.assert_array_equal(plane, expected_plane)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_planes_are_read_from_every_format(name: str, size: tuple[int, int]) -> None:
    components = random_components(name, *size)
    frame = av.VideoFrame(*size, name)
    for k, rows in enumerate(interleaved(name, components)):
        write_plane(frame, k, rows)
    planes, layout, alpha = planes_of(frame)
    family, bits, shifts, _, _ = FORMATS[name]
    assert layout == layout_of_format(name) == Layout(family, bits, *shifts)
    assert_same(planes, expected_planes(name, components))
    assert [p.shape for p in planes] == list(layout.sizes(*size))
    assert has_alpha(name) == (name in WITH_ALPHA) == (alpha is not None)
    if alpha is not None:
        assert_same([alpha], [components["A"]])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", [*PLANAR, "rgb24", "bgr24", "bgr0", "0rgb", "rgb48le", "bgr48be"])
def test_planes_are_written_to_every_format(name: str, size: tuple[int, int]) -> None:
    components = random_components(name, *size)
    layout = layout_of_format(name)
    assert layout is not None
    assert format_holds(name, layout) != name.startswith("yuvj")
    frame = frame_of(expected_planes(name, components), layout, name)
    assert (frame.width, frame.height, frame.format.name) == (*size, name)
    for k, rows in enumerate(interleaved(name, components)):
        if "x" in FORMATS[name].planes[k]:
            rows[..., FORMATS[name].planes[k].index("x")] = 255
        lines = rows.reshape(rows.shape[0], -1)
        assert read_plane(frame, k, lines.shape[0], lines.shape[1] * lines.itemsize) == lines.tobytes()
    assert_same(planes_of(frame)[0], expected_planes(name, components))


@pytest.mark.parametrize("name", PACKED_YUV)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_packed_yuv_is_read(name: str, size: tuple[int, int]) -> None:
    """Four bytes hold two pixels; the last pixel of an odd line has chroma, too."""
    width, height = size
    rng = np.random.default_rng(3)
    even = width + width % 2
    y = rng.integers(0, 256, (height, even), np.uint8)
    u, v = (rng.integers(0, 256, (height, even // 2), np.uint8) for _ in "uv")
    parts = {"Y": iter((y[:, ::2], y[:, 1::2])), "U": iter((u,)), "V": iter((v,))}
    rows = np.stack([next(parts[c]) for c in PACKED_YUV[name]], -1).reshape(height, -1)
    frame = av.VideoFrame(width, height, name)
    write_plane(frame, 0, rows)
    planes, layout, _ = planes_of(frame)
    assert layout == Layout("yuv", 8, 1, 0)
    assert_same(planes, (y[:, :width], u, v))


@pytest.mark.parametrize(
    "name", ["yuv420p", "nv12", "rgb24", "yuyv422", "uyvy422", "gbrp", "gray10le", "p010le", "bgra"]
)
def test_frames_with_negative_line_size_are_read_top_line_first(name: str) -> None:
    """Some decoders and filters give frames whose lines are stored from bottom to top."""
    frame = av.VideoFrame(32, 18, name)
    rng = np.random.default_rng(1)
    for plane in frame.planes:
        samples = np.frombuffer(plane, np.uint8)
        samples[:] = rng.integers(0, 256, samples.shape, np.uint8)
        if name in ("gray10le", "p010le"):
            samples.view(np.uint16)[:] = samples.view(np.uint16) & (0x03FF if name == "gray10le" else 0xFFC0)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=32, height=18, format=frame.format, time_base=Fraction(1, 25))
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    graph.push(frame)
    flipped = sink.pull()
    assert isinstance(flipped, av.VideoFrame)
    assert flipped.planes[0].line_size < 0
    assert_same(planes_of(flipped)[0], [plane[::-1] for plane in planes_of(frame)[0]])


def test_a_palette_is_read_as_rgb_and_alpha() -> None:
    rng = np.random.default_rng(2)
    colours = rng.integers(0, 256, (256, 4), np.uint8)  # blue, green, red, alpha
    index = rng.integers(0, 256, (17, 33), np.uint8)
    frame = av.VideoFrame(33, 17, "pal8")
    write_plane(frame, 0, index)
    np.frombuffer(frame.planes[1], np.uint8)[:1024] = colours.reshape(-1)
    planes, layout, alpha = planes_of(frame)
    assert layout == Layout("rgb", 8)
    assert alpha is not None
    assert_same((*planes, alpha), [colours[index][..., k] for k in (2, 1, 0, 3)])


def test_formats_that_are_first_reformatted_lose_nothing() -> None:
    rng = np.random.default_rng(4)
    y, u, v = (rng.integers(0, 1024, s, np.uint16) for s in ((16, 32), (16, 16), (16, 16)))
    words = np.stack((y[:, ::2], u, y[:, 1::2], v), -1).reshape(16, -1) << 6
    frame = av.VideoFrame(32, 16, "y210le")
    write_plane(frame, 0, words)
    planes, layout, _ = planes_of(frame)
    assert layout == Layout("yuv", 10, 1, 0)
    assert_same(planes, (y, u, v))

    r, g, b = (rng.integers(0, 1024, (16, 32), np.uint32) for _ in "rgb")
    frame = av.VideoFrame(32, 16, "x2rgb10le")
    write_plane(frame, 0, (r << 20 | g << 10 | b).astype("<u4"))
    planes, layout, _ = planes_of(frame)
    assert layout == Layout("rgb", 10)
    assert_same(planes, [c.astype(np.uint16) for c in (r, g, b)])

    for name, white in (("monow", 0), ("monob", 1)):
        bits = rng.integers(0, 2, (16, 32), np.uint8)
        frame = av.VideoFrame(32, 16, name)
        write_plane(frame, 0, np.packbits(bits, axis=1))
        planes, layout, _ = planes_of(frame)
        assert layout == Layout("gray", 8)
        assert_same(planes, [np.where(bits == white, 255, 0).astype(np.uint8)])

    r, g, b = (rng.integers(0, 1 << n, (16, 32), np.uint16) for n in (5, 6, 5))
    frame = av.VideoFrame(32, 16, "rgb565le")
    write_plane(frame, 0, (r << 11 | g << 5 | b).astype("<u2"))
    planes, _, _ = planes_of(frame)
    for plane, part, bits_of in zip(planes, (r, g, b), (5, 6, 5), strict=True):
        np.testing.assert_array_equal(plane >> (8 - bits_of), part)


@pytest.mark.parametrize(("name", "deeper", "shift"), [("yuv420p", "yuv420p10le", 2), ("gbrp10le", "gbrp12le", 2)])
def test_deeper_formats_hold_samples_shifted_up(name: str, deeper: str, shift: int) -> None:
    layout, wide = planar_layout(name), planar_layout(deeper)
    assert layout is not None
    assert wide is not None
    assert format_holds(deeper, layout)
    assert not format_holds(name, wide)
    planes = expected_planes(name, random_components(name, 33, 17))
    found, _, _ = planes_of(frame_of(planes, layout, deeper))
    assert_same(found, [plane.astype(np.uint16) << shift for plane in planes])


def test_gray_is_held_by_yuv() -> None:
    """YUV of the same depth holds gray as luma, with neutral chroma."""
    layout = Layout("gray", 10)
    gray = random_components("gray10le", 33, 17)["Y"]
    assert format_holds("yuv420p10le", layout)
    planes, _, _ = planes_of(frame_of([gray], layout, "yuv420p10le"))
    assert_same(planes[:1], [gray])
    assert all((plane == 512).all() for plane in planes[1:])


def test_unsupported_formats_are_named() -> None:
    for name in ("grayf32le", "xyz12le", "bayer_rggb8"):
        assert layout_of_format(name) is None
        with pytest.raises(InputError, match=name):
            planes_of(av.VideoFrame(32, 32, name))
