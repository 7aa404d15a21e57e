"""Every pixel format is read and written exactly: held against bytes laid out here by FFmpeg's documentation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from midframe.errors import InputError
from midframe.video.frame import Layout, planar_layout
from midframe.video.pixels import format_holds, frame_of, has_alpha, layout_of_format, planes_of

Plane = np.ndarray[Any, Any]
SIZES = [(16, 16), (33, 17), (18, 7)]

# name: family, bits of a sample, chroma shifts, bits above the sample in memory, and the components of each plane in
# the order of memory. "Y U V R G B A" as they are called; "x" is a filler.
PLANAR = {
    f"yuv{sub}p{deep}{end}": ("yuv", int(deep or 8), shifts, 0, ("Y", "U", "V"))
    for sub, shifts in (("420", (1, 1)), ("422", (1, 0)), ("444", (0, 0)))
    for deep in ("", "9", "10", "12", "14", "16")
    for end in (("le", "be") if deep else ("",))
}
PLANAR |= {f"yuvj{s}p": ("yuv", 8, PLANAR[f"yuv{s}p"][2], 0, ("Y", "U", "V")) for s in ("420", "422", "444")}
PLANAR |= {"yuv440p": ("yuv", 8, (0, 1), 0, ("Y", "U", "V")), "yuv411p": ("yuv", 8, (2, 0), 0, ("Y", "U", "V"))}
PLANAR |= {"yuv410p": ("yuv", 8, (2, 2), 0, ("Y", "U", "V")), "yuv440p10le": ("yuv", 10, (0, 1), 0, ("Y", "U", "V"))}
PLANAR |= {
    f"gray{deep}{end}": ("gray", int(deep or 8), (0, 0), 0, ("Y",))
    for deep in ("", "9", "10", "12", "14", "16")
    for end in (("le", "be") if deep else ("",))
}
PLANAR |= {
    f"gbrp{deep}{end}": ("rgb", int(deep or 8), (0, 0), 0, ("G", "B", "R"))
    for deep in ("", "9", "10", "12", "14", "16")
    for end in (("le", "be") if deep else ("",))
}
WITH_ALPHA = {
    "yuva420p": ("yuv", 8, (1, 1), 0, ("Y", "U", "V", "A")),
    "yuva422p10le": ("yuv", 10, (1, 0), 0, ("Y", "U", "V", "A")),
    "yuva444p12le": ("yuv", 12, (0, 0), 0, ("Y", "U", "V", "A")),
    "gbrap": ("rgb", 8, (0, 0), 0, ("G", "B", "R", "A")),
    "gbrap10le": ("rgb", 10, (0, 0), 0, ("G", "B", "R", "A")),
    "ya8": ("gray", 8, (0, 0), 0, ("YA",)),
    "ya16le": ("gray", 16, (0, 0), 0, ("YA",)),
    "ya16be": ("gray", 16, (0, 0), 0, ("YA",)),
    "rgba": ("rgb", 8, (0, 0), 0, ("RGBA",)),
    "bgra": ("rgb", 8, (0, 0), 0, ("BGRA",)),
    "argb": ("rgb", 8, (0, 0), 0, ("ARGB",)),
    "abgr": ("rgb", 8, (0, 0), 0, ("ABGR",)),
    "rgba64le": ("rgb", 16, (0, 0), 0, ("RGBA",)),
    "bgra64be": ("rgb", 16, (0, 0), 0, ("BGRA",)),
}
PACKED = {
    "nv12": ("yuv", 8, (1, 1), 0, ("Y", "UV")),
    "nv21": ("yuv", 8, (1, 1), 0, ("Y", "VU")),
    "nv16": ("yuv", 8, (1, 0), 0, ("Y", "UV")),
    "nv24": ("yuv", 8, (0, 0), 0, ("Y", "UV")),
    "nv42": ("yuv", 8, (0, 0), 0, ("Y", "VU")),
    "nv20le": ("yuv", 10, (1, 0), 0, ("Y", "UV")),
    "p010le": ("yuv", 10, (1, 1), 6, ("Y", "UV")),
    "p012le": ("yuv", 12, (1, 1), 4, ("Y", "UV")),
    "p016le": ("yuv", 16, (1, 1), 0, ("Y", "UV")),
    "p210le": ("yuv", 10, (1, 0), 6, ("Y", "UV")),
    "p212le": ("yuv", 12, (1, 0), 4, ("Y", "UV")),
    "p216le": ("yuv", 16, (1, 0), 0, ("Y", "UV")),
    "p410le": ("yuv", 10, (0, 0), 6, ("Y", "UV")),
    "p412le": ("yuv", 12, (0, 0), 4, ("Y", "UV")),
    "p416le": ("yuv", 16, (0, 0), 0, ("Y", "UV")),
    "rgb24": ("rgb", 8, (0, 0), 0, ("RGB",)),
    "bgr24": ("rgb", 8, (0, 0), 0, ("BGR",)),
    "rgb0": ("rgb", 8, (0, 0), 0, ("RGBx",)),
    "bgr0": ("rgb", 8, (0, 0), 0, ("BGRx",)),
    "0rgb": ("rgb", 8, (0, 0), 0, ("xRGB",)),
    "0bgr": ("rgb", 8, (0, 0), 0, ("xBGR",)),
    "rgb48le": ("rgb", 16, (0, 0), 0, ("RGB",)),
    "rgb48be": ("rgb", 16, (0, 0), 0, ("RGB",)),
    "bgr48le": ("rgb", 16, (0, 0), 0, ("BGR",)),
    "bgr48be": ("rgb", 16, (0, 0), 0, ("BGR",)),
}
FORMATS = {**PLANAR, **WITH_ALPHA, **PACKED}
MACRO = {"yuyv422": "YUYV", "uyvy422": "UYVY", "yvyu422": "YVYU"}


def put(frame: av.VideoFrame, index: int, rows: Plane) -> None:
    """Write the bytes of a plane, line by line."""
    lines = np.ascontiguousarray(rows).view(np.uint8).reshape(rows.shape[0], -1)
    room = np.frombuffer(frame.planes[index], np.uint8).reshape(-1, frame.planes[index].line_size)
    room[:, :] = 0xA5
    room[: lines.shape[0], : lines.shape[1]] = lines


def get(frame: av.VideoFrame, index: int, height: int, length: int) -> bytes:
    """The first `length` bytes of each line of a plane."""
    room = np.frombuffer(frame.planes[index], np.uint8).reshape(-1, frame.planes[index].line_size)
    return room[:height, :length].tobytes()


def random_components(name: str, width: int, height: int) -> dict[str, Plane]:
    _, bits, (x, y), _, planes = FORMATS[name]
    rng = np.random.default_rng(7)
    sizes = dict.fromkeys("YRGBAx", (height, width)) | dict.fromkeys("UV", (-(-height >> y), -(-width >> x)))
    kind = np.uint8 if bits == 8 else np.uint16
    return {c: rng.integers(0, 1 << bits, sizes[c]).astype(kind) for c in "".join(planes)}


def in_memory(name: str, components: dict[str, Plane]) -> list[Plane]:
    """The planes of a format, components side by side, in its byte order."""
    _, bits, _, above, planes = FORMATS[name]
    kind = "u1" if bits == 8 else (">u2" if name.endswith("be") else "<u2")
    return [np.stack([components[c] << above for c in order], -1).astype(kind) for order in planes]


def wanted_of(name: str, components: dict[str, Plane]) -> list[Plane]:
    order = {"yuv": "YUV", "gray": "Y", "rgb": "RGB"}[FORMATS[name][0]]
    return [components[c] for c in order]


def assert_same(found: Sequence[Plane], wanted: Sequence[Plane]) -> None:
    assert len(found) == len(wanted)
    for mine, true in zip(found, wanted, strict=True):
        assert mine.dtype == true.dtype
        assert mine.dtype.isnative
        np.testing.assert_array_equal(mine, true)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_read(name: str, size: tuple[int, int]) -> None:
    components = random_components(name, *size)
    frame = av.VideoFrame(*size, name)
    for k, rows in enumerate(in_memory(name, components)):
        put(frame, k, rows)
    planes, layout, alpha = planes_of(frame)
    family, bits, shifts, _, _ = FORMATS[name]
    assert layout == layout_of_format(name) == Layout(family, bits, *shifts)
    assert_same(planes, wanted_of(name, components))
    assert [p.shape for p in planes] == list(layout.sizes(*size))
    assert has_alpha(name) == (name in WITH_ALPHA) == (alpha is not None)
    if alpha is not None:
        assert_same([alpha], [components["A"]])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", [*PLANAR, "rgb24", "bgr24", "bgr0", "0rgb", "rgb48le", "bgr48be"])
def test_write(name: str, size: tuple[int, int]) -> None:
    components = random_components(name, *size)
    layout = layout_of_format(name)
    assert layout is not None
    assert format_holds(name, layout) != name.startswith("yuvj")
    frame = frame_of(wanted_of(name, components), layout, name)
    assert (frame.width, frame.height, frame.format.name) == (*size, name)
    for k, rows in enumerate(in_memory(name, components)):
        if "x" in FORMATS[name][4][k]:
            rows[..., FORMATS[name][4][k].index("x")] = 255
        lines = rows.reshape(rows.shape[0], -1)
        assert get(frame, k, lines.shape[0], lines.shape[1] * lines.itemsize) == lines.tobytes()
    assert_same(planes_of(frame)[0], wanted_of(name, components))


@pytest.mark.parametrize("name", MACRO)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_packed_422(name: str, size: tuple[int, int]) -> None:
    """Four bytes hold two pixels; the last of an odd line has chroma, too."""
    width, height = size
    rng = np.random.default_rng(3)
    even = width + width % 2
    y = rng.integers(0, 256, (height, even), np.uint8)
    u, v = (rng.integers(0, 256, (height, even // 2), np.uint8) for _ in "uv")
    parts = {"Y": iter((y[:, ::2], y[:, 1::2])), "U": iter((u,)), "V": iter((v,))}
    rows = np.stack([next(parts[c]) for c in MACRO[name]], -1).reshape(height, -1)
    frame = av.VideoFrame(width, height, name)
    put(frame, 0, rows)
    planes, layout, _ = planes_of(frame)
    assert layout == Layout("yuv", 8, 1, 0)
    assert_same(planes, (y[:, :width], u, v))


@pytest.mark.parametrize(
    "name", ["yuv420p", "nv12", "rgb24", "yuyv422", "uyvy422", "gbrp", "gray10le", "p010le", "bgra"]
)
def test_lines_from_below(name: str) -> None:
    """Some decoders and filters give pictures whose lines run upwards in memory."""
    frame = av.VideoFrame(32, 18, name)
    rng = np.random.default_rng(1)
    for plane in frame.planes:
        room = np.frombuffer(plane, np.uint8)
        room[:] = rng.integers(0, 256, room.shape, np.uint8)
        if name in ("gray10le", "p010le"):
            room.view(np.uint16)[:] = room.view(np.uint16) & (0x03FF if name == "gray10le" else 0xFFC0)
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


def test_palette() -> None:
    rng = np.random.default_rng(2)
    colours = rng.integers(0, 256, (256, 4), np.uint8)  # blue, green, red, alpha
    index = rng.integers(0, 256, (17, 33), np.uint8)
    frame = av.VideoFrame(33, 17, "pal8")
    put(frame, 0, index)
    np.frombuffer(frame.planes[1], np.uint8)[:1024] = colours.reshape(-1)
    planes, layout, alpha = planes_of(frame)
    assert layout == Layout("rgb", 8)
    assert alpha is not None
    assert_same((*planes, alpha), [colours[index][..., k] for k in (2, 1, 0, 3)])


def test_few_bits_in_words() -> None:
    """Formats that FFmpeg's scaler takes apart: nothing is lost."""
    rng = np.random.default_rng(4)
    y, u, v = (rng.integers(0, 1024, s, np.uint16) for s in ((16, 32), (16, 16), (16, 16)))
    words = np.stack((y[:, ::2], u, y[:, 1::2], v), -1).reshape(16, -1) << 6
    frame = av.VideoFrame(32, 16, "y210le")
    put(frame, 0, words)
    planes, layout, _ = planes_of(frame)
    assert layout == Layout("yuv", 10, 1, 0)
    assert_same(planes, (y, u, v))

    r, g, b = (rng.integers(0, 1024, (16, 32), np.uint32) for _ in "rgb")
    frame = av.VideoFrame(32, 16, "x2rgb10le")
    put(frame, 0, (r << 20 | g << 10 | b).astype("<u4"))
    planes, layout, _ = planes_of(frame)
    assert layout == Layout("rgb", 10)
    assert_same(planes, [c.astype(np.uint16) for c in (r, g, b)])

    for name, white in (("monow", 0), ("monob", 1)):
        bits = rng.integers(0, 2, (16, 32), np.uint8)
        frame = av.VideoFrame(32, 16, name)
        put(frame, 0, np.packbits(bits, axis=1))
        planes, layout, _ = planes_of(frame)
        assert layout == Layout("gray", 8)
        assert_same(planes, [np.where(bits == white, 255, 0).astype(np.uint8)])

    r, g, b = (rng.integers(0, 1 << n, (16, 32), np.uint16) for n in (5, 6, 5))
    frame = av.VideoFrame(32, 16, "rgb565le")
    put(frame, 0, (r << 11 | g << 5 | b).astype("<u2"))
    planes, _, _ = planes_of(frame)
    for plane, part, bits_of in zip(planes, (r, g, b), (5, 6, 5), strict=True):
        np.testing.assert_array_equal(plane >> (8 - bits_of), part)


@pytest.mark.parametrize(("name", "deeper", "shift"), [("yuv420p", "yuv420p10le", 2), ("gbrp10le", "gbrp12le", 2)])
def test_more_bits_hold_fewer(name: str, deeper: str, shift: int) -> None:
    layout, wide = planar_layout(name), planar_layout(deeper)
    assert layout is not None
    assert wide is not None
    assert format_holds(deeper, layout)
    assert not format_holds(name, wide)
    planes = wanted_of(name, random_components(name, 33, 17))
    found, _, _ = planes_of(frame_of(planes, layout, deeper))
    assert_same(found, [plane.astype(np.uint16) << shift for plane in planes])


def test_gray_in_yuv() -> None:
    """Gray is held by YUV of the same depth: luma as it is, chroma without colour."""
    layout = Layout("gray", 10)
    gray = random_components("gray10le", 33, 17)["Y"]
    assert format_holds("yuv420p10le", layout)
    planes, _, _ = planes_of(frame_of([gray], layout, "yuv420p10le"))
    assert_same(planes[:1], [gray])
    assert all((plane == 512).all() for plane in planes[1:])


def test_formats_that_are_not_read_are_named() -> None:
    for name in ("grayf32le", "xyz12le", "bayer_rggb8"):
        assert layout_of_format(name) is None
        with pytest.raises(InputError, match=name):
            planes_of(av.VideoFrame(32, 32, name))
