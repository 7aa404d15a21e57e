"""Colour conversion is compared with independent arithmetic (tests/films) and with exact shifts of pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from converted import convert_quickly
from films import Film, planes_of, read_frames, rgb_of
from films import planes as film_planes
from midframe.errors import InputError
from midframe.video.colour import (
    MATRICES,
    Colour,
    ColourTags,
    colour_of_stream,
    mask_of_changes,
    planes_to_rgb,
    planes_to_tensors,
    rgb_to_planes,
    weighted_mean_plus_difference,
)
from midframe.video.frame import Layout, planar_layout

WIDTH, HEIGHT = 64, 48
BARS = np.array([(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)]) * 0.75
FORMATS = [
    *(f"yuv{sub}p{deep}" for sub in ("420", "422", "444") for deep in ("", "10le", "12le")),
    *("gray", "gray10le", "gray12le", "gbrp", "gbrp10le", "gbrp12le"),
]
SITINGS = ("left", "topleft", "centre")
Planes = tuple[np.ndarray[Any, Any], ...]


def film_layout(film: Film) -> Layout:
    layout = planar_layout(film.pixel_format)
    assert layout is not None
    return layout


def film_colour(film: Film) -> Colour:
    """Return the colour that a drawn film has."""
    family = film_layout(film).family
    if family != "yuv":
        return Colour(family, family == "rgb" or film.full_range)
    return Colour(film.matrix_used, film.full_range, film.siting_used)


def stored_planes(film: Film, rgb: np.ndarray[Any, Any]) -> Planes:
    """Return the planes of a picture as the film stores them, in the order of `Layout`."""
    planes = planes_of(film, rgb)
    return (planes[2], planes[0], planes[1]) if film.format.is_rgb else planes


def bars() -> np.ndarray[Any, Any]:
    """Return 75 % colour bars as RGB `[HEIGHT, WIDTH, 3]`."""
    return np.repeat(BARS[None].repeat(HEIGHT, 0), WIDTH // len(BARS), axis=1)


def interpolated(film: Film, first: Planes, second: Planes, network: Callable[[Tensor, Tensor], Tensor]) -> Planes:
    """Return the frame half way between two, as a conversion makes it with a network of RGB frames."""
    layout, colour = film_layout(film), film_colour(film)
    a, b = planes_to_tensors(first), planes_to_tensors(second)
    rgb_a, rgb_b = planes_to_rgb(a, layout, colour), planes_to_rgb(b, layout, colour)
    difference = network(rgb_a, rgb_b) - torch.lerp(rgb_a, rgb_b, 0.5)
    return weighted_mean_plus_difference(a, b, 0.5, difference, layout=layout, colour=colour)


def largest_difference(a: Planes, b: Planes) -> int:
    """Return the largest difference of two frames, in code values."""
    return max(int(np.abs(x.astype(int) - y.astype(int)).max()) for x, y in zip(a, b, strict=True))


def shifted(picture: Tensor, by: int, axis: int) -> Tensor:
    """Return a picture moved by whole pixels, with its edge repeated."""
    size = picture.shape[axis]
    return picture.index_select(axis, (torch.arange(size) - by).clamp(0, size - 1))


def every_film() -> list[Film]:
    """Return films of every pixel format, matrix, range and siting; gray and RGB have no matrix."""
    films = [
        Film(WIDTH, HEIGHT, pixel_format=name, matrix=matrix, full_range=full, siting=siting)
        for name, matrix, full in itertools.product(FORMATS, ("bt601", "bt709", "bt2020"), (False, True))
        for siting in (SITINGS if "420" in name else SITINGS[:1])
    ]
    return [f for f in films if f.pixel_format.startswith("yuv") or (f.matrix == "bt709" and not f.full_range)]


def film_id(film: Film) -> str:
    return f"{film.pixel_format}-{film.matrix}-{'full' if film.full_range else 'limited'}-{film.siting}"


@pytest.mark.parametrize("film", every_film(), ids=film_id)
def test_colour_bars(film: Film) -> None:
    """Bars have the right codes, also if a network returns them for other frames, and are converted back to bars."""
    painted = torch.from_numpy(bars()).permute(2, 0, 1).float()
    expected = stored_planes(film, bars())
    if film.pixel_format.startswith("gray"):
        # A film without colour has no luma weights: the mean of the channels is taken.
        painted = painted[:1].expand(3, -1, -1)
        expected = stored_planes(film, np.repeat(bars()[..., :1], 3, axis=2))
    rng = np.random.default_rng(5)
    others = [stored_planes(film, rng.uniform(0, 1, (HEIGHT, WIDTH, 3))) for _ in "ab"]
    result = interpolated(film, others[0], others[1], lambda a, b: painted)
    inside = np.flatnonzero(np.arange(WIDTH) % (WIDTH // len(BARS)) // 2 == 2)  # away from the edges of the bars
    for plane, true in zip(result, expected, strict=True):
        columns = inside if plane.shape[1] == WIDTH else inside[::2] // 2
        assert np.abs(plane[:, columns].astype(int) - true[:, columns].astype(int)).max() <= 1
    seen = planes_to_rgb(planes_to_tensors(expected), film_layout(film), film_colour(film)).permute(1, 2, 0).numpy()
    step = 1 / (219 << (film_layout(film).depth - 8))
    np.testing.assert_allclose(seen[:, inside], painted.permute(1, 2, 0).numpy()[:, inside], atol=2 * step)


@pytest.mark.parametrize("film", every_film()[::5], ids=film_id)
def test_conversion_to_rgb_matches_the_standard(film: Film) -> None:
    rng = np.random.default_rng(1)
    rgb = rng.uniform(0, 1, (HEIGHT - 1, WIDTH - 1, 3))  # odd sizes
    film = Film(**{**vars(film), "width": WIDTH - 1, "height": HEIGHT - 1})
    kept = planes_of(film, rgb)
    found = planes_to_rgb(planes_to_tensors(stored_planes(film, rgb)), film_layout(film), film_colour(film))
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), rgb_of(film, kept), atol=2e-5)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True])
def test_every_matrix_matches_its_formula(matrix: str, full: bool) -> None:
    """H.273: E'Y = Kr R + Kg G + Kb B, Cb = (B − Y) / 2(1 − Kb), Cr = (R − Y) / 2(1 − Kr)."""
    weights = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
    weights |= {"fcc": (0.30, 0.11), "smpte240m": (0.212, 0.087)}
    red, blue = weights[matrix]
    rgb = np.random.default_rng(2).uniform(0, 1, (16, 16, 3))
    y = rgb @ (red, 1 - red - blue, blue)
    cb, cr = (rgb[..., 2] - y) / (2 * (1 - blue)), (rgb[..., 0] - y) / (2 * (1 - red))
    codes = (y * 255, cb * 255 + 128, cr * 255 + 128) if full else (y * 219 + 16, cb * 224 + 128, cr * 224 + 128)
    layout, colour = Layout("yuv", 8), Colour(matrix, full)
    back = planes_to_rgb([torch.from_numpy(c).float() for c in codes], layout, colour)
    np.testing.assert_allclose(back.permute(1, 2, 0).numpy(), rgb, atol=1e-5)
    planes = rgb_to_planes(torch.from_numpy(rgb).permute(2, 0, 1).float(), layout, colour)
    assert largest_difference(planes, tuple(np.floor(np.clip(c, 0, 255) + 0.5) for c in codes)) <= 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p", "yuv420p12le", "yuv411p", "yuv440p", "gbrp"])
@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize("axis", [0, 1])
def test_an_edge_shifted_by_chroma_samples_is_exact(name: str, siting: str, axis: int) -> None:
    """A network that shifts the picture by whole chroma samples shifts the planes; no ghost of the edge remains."""
    film = Film(WIDTH, HEIGHT, pixel_format=name, matrix="bt709", siting=siting if "420" in name else "left")
    layout, colour = film_layout(film), film_colour(film)
    colour = Colour(colour.matrix, colour.full_range, siting)  # type: ignore[arg-type]
    red, blue = ([layout.peak * k // 255 for k in codes] for codes in ((63, 102, 240), (32, 240, 118)))
    sizes = layout.sizes(WIDTH, HEIGHT)
    steps = [size[axis] * 4 // (HEIGHT, WIDTH)[axis] for size in sizes]  # 4 luma pixels, in samples of each plane

    def picture(shift: int) -> Planes:
        out = []
        for size, step, *codes in zip(sizes, steps, red, blue, strict=True):
            at = size[axis] // 2 + shift * step
            plane = np.full(size, codes[1], layout.dtype)
            plane[(slice(None),) * axis + (slice(None, at),)] = codes[0]
            out.append(plane)
        return tuple(out)

    a, b = planes_to_tensors(picture(-1)), planes_to_tensors(picture(1))
    rgb = [planes_to_rgb(planes, layout, colour) for planes in (a, b)]
    for moved in (shifted(rgb[0], 4, axis + 1), shifted(rgb[1], -4, axis + 1)):
        difference = moved - torch.lerp(rgb[0], rgb[1], 0.5)
        assert (
            largest_difference(
                weighted_mean_plus_difference(a, b, 0.5, difference, layout=layout, colour=colour), picture(0)
            )
            <= 1
        )


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "yuv422p"])
@pytest.mark.parametrize("siting", SITINGS)
def test_an_edge_shifted_by_half_a_chroma_sample_is_at_the_right_place(name: str, siting: str) -> None:
    """A shift of one pixel is half a chroma sample; the edge is where the drawn film has it."""
    film = Film(WIDTH, HEIGHT, scene="edge", speed=(2.0, 0.0), pixel_format=name, matrix="bt601", siting=siting)
    first, second = (film_planes(film, Fraction(k, 24)) for k in (4, 5))
    true = film_planes(film, Fraction(9, 48))
    result = interpolated(film, first, second, lambda a, b: shifted(a, 1, 2))
    for found, expected, plane in zip(result, true, first, strict=True):
        inside = slice(3, -3)
        shift = (found.astype(float) - expected)[:, inside].sum(1) / float(np.ptp(plane))
        assert np.abs(shift).max() < 0.05  # samples


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(0, 0), (1, 0), (1, 1), (0, 1), (2, 0)]),
    st.sampled_from([8, 10, 12]),
    st.sampled_from(SITINGS),
    st.sampled_from([(64, 48), (33, 17), (18, 31)]),
    st.booleans(),
)
def test_frames_that_the_network_leaves_unchanged_are_exact(
    seed: int, shifts: tuple[int, int], depth: int, siting: Any, size: tuple[int, int], full: bool
) -> None:
    """For any codes, out of gamut too: equal frames stay equal, and the mean in RGB gives the mean of the planes."""
    layout, colour = Layout("yuv", depth, *shifts), Colour("bt2020", full, siting)
    rng = np.random.default_rng(seed)
    first, second = (
        tuple(rng.integers(0, layout.peak + 1, s).astype(layout.dtype) for s in layout.sizes(*size)) for _ in "ab"
    )
    a, b = planes_to_tensors(first), planes_to_tensors(second)
    rgb_a, rgb_b = planes_to_rgb(a, layout, colour), planes_to_rgb(b, layout, colour)
    zero = torch.zeros_like(rgb_a)
    assert largest_difference(weighted_mean_plus_difference(a, a, 0.3, zero, layout=layout, colour=colour), first) == 0
    difference = rgb_a * 0.5 + rgb_b * 0.5 - torch.lerp(rgb_a, rgb_b, 0.5)
    mean = tuple(((x.astype(int) + y + 1) // 2).astype(layout.dtype) for x, y in zip(first, second, strict=True))
    assert (
        largest_difference(weighted_mean_plus_difference(a, b, 0.5, difference, layout=layout, colour=colour), mean)
        <= 1
    )


@pytest.mark.parametrize("time", [Fraction(1, 4), Fraction(1, 3), Fraction(5, 7), Fraction(1, 1000)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_weighted_mean_matches_integer_arithmetic(time: Fraction, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, np.iinfo(dtype).max, (40, 50), dtype, endpoint=True) for _ in "ab")
    p, q = time.numerator, time.denominator
    exact = (2 * (a.astype(np.int64) * (q - p) + b.astype(np.int64) * p) + q) // (2 * q)
    layout, colour = Layout("gray", 8 * a.itemsize), Colour("gray", True)
    unchanged = torch.zeros(3, 40, 50)
    (found,) = weighted_mean_plus_difference(
        planes_to_tensors((a,)), planes_to_tensors((b,)), float(time), unchanged, layout=layout, colour=colour
    )
    assert found.dtype == dtype
    wrong = found != exact
    assert np.abs(found.astype(int) - exact).max() <= 1
    assert wrong.mean() <= (0 if q == 4 else 0.01)


@pytest.mark.parametrize("shifts", [(1, 1), (1, 0), (0, 0), (2, 2)])
@pytest.mark.parametrize("size", [(64, 48), (61, 47)])
def test_the_mask_of_changes_matches_a_loop(shifts: tuple[int, int], size: tuple[int, int]) -> None:
    layout = Layout("yuv", 8, *shifts)
    rng = np.random.default_rng(5)
    first = [np.zeros(s, np.uint8) for s in layout.sizes(*size)]
    second = [plane.copy() for plane in first]
    points = [(k, *(int(rng.integers(n)) for n in second[k].shape)) for k in (0, 1, 2)]
    for k, y, x in points:
        second[k][y, x] = 1
    expected = np.zeros(first[0].shape, bool)
    for k, y, x in points:
        sy, sx = (0, 0) if k == 0 else (layout.shift_y, layout.shift_x)
        top, bottom = (y << sy) - 4, (y + 1 << sy) + 4
        left, right = (x << sx) - 4, (x + 1 << sx) + 4
        expected[max(top, 0) : bottom, max(left, 0) : right] = True
    # At an odd edge a chroma sample covers pixels beyond the picture; from those, nothing spreads.
    mask = mask_of_changes(planes_to_tensors(first), planes_to_tensors(second), layout, 4).numpy()
    inside = (slice(0, size[1] - 4), slice(0, size[0] - 4))
    assert np.array_equal(mask[inside] > 0, expected[inside])


def test_codes_are_clipped_only_at_the_end() -> None:
    """A difference beyond white gives the largest code and does not wrap around."""
    layout, colour = Layout("yuv", 8, 1, 1), Colour("bt709", False)
    for value, code in ((2.0, 255), (-2.0, 0)):
        planes = [np.full(s, 128, np.uint8) for s in layout.sizes(32, 32)]
        tensors = planes_to_tensors(planes)
        result = weighted_mean_plus_difference(
            tensors, tensors, 0.5, torch.full((3, 32, 32), value), layout=layout, colour=colour
        )
        assert (result[0] == code).all()
        assert (result[1] == 128).all()
        assert (result[2] == 128).all()


def test_missing_tags_are_guessed_by_convention() -> None:
    def guess(height: int, **tags: int) -> Colour:
        return colour_of_stream(Layout("yuv", 8, 1, 1), ColourTags(**tags), height=height, codec="h264")

    assert guess(719).matrix == "bt601"
    assert guess(720).matrix == "bt709"
    assert len(guess(720).guessed) == 2
    assert not guess(720).full_range
    assert guess(720, matrix=5, range=1).guessed == ()
    assert guess(480, matrix=1).matrix == "bt709"
    assert guess(480, range=2).full_range
    assert [guess(480, matrix=m).matrix for m in (4, 5, 6, 7, 9)] == ["fcc", "bt601", "bt601", "smpte240m", "bt2020"]
    assert guess(480, matrix=9, transfer=16).siting == guess(480, matrix=9, transfer=18).siting == "topleft"
    assert guess(480, matrix=9, transfer=14).siting == "left"
    assert (
        colour_of_stream(Layout("yuv", 8, 1, 1), height=480, codec="mjpeg", full_range_format=True).siting == "centre"
    )


@pytest.mark.parametrize("matrix", [8, 10, 11, 12, 13, 14, 15, 16, 17])
def test_unsupported_matrices_are_refused(matrix: int) -> None:
    with pytest.raises(InputError, match=r"which Midframe does not convert; it knows .*bt709") as caught:
        colour_of_stream(Layout("yuv", 8, 1, 1), ColourTags(matrix=matrix), height=480, codec="h264")
    assert "\n" not in str(caught.value)


def test_a_film_with_an_unsupported_matrix_is_refused(tmp_path: Path) -> None:
    path, target = tmp_path / "ycgco.mkv", tmp_path / "out.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
        stream.codec_context.colorspace = 8
        for k in range(3):
            frame = av.VideoFrame(32, 32, "yuv444p")
            frame.colorspace, frame.pts = 8, k
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(InputError, match="YCgCo") as caught:
        convert_quickly(path, target)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("matrix", [None, "bt709"])
def test_a_guess_is_reported_and_not_written(
    matrix: str | None, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    film = Film(frames=4, matrix=matrix, codec="ffv1")
    summary = convert_quickly(film_factory(film, ".mkv"), tmp_path / "out.mkv")
    guesses = [w for w in summary.warnings if "does not say its colours" in w]
    assert len(guesses) == (1 if matrix is None else 0)
    with av.open(str(tmp_path / "out.mkv")) as out:
        frame = next(out.decode(video=0))
    assert int(frame.colorspace) == (2 if matrix is None else 1)


def test_full_range_stays_full_range(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(frames=4, pixel_format="yuvj420p", matrix="bt601", codec="mjpeg", scene="noise")
    convert_quickly(film_factory(film, ".mov"), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        frame = next(out.decode(video=0))
        assert frame.format.name == "yuvj420p" or int(frame.color_range) == 2
    source = read_frames(film_factory(film, ".mov"))[0].planes[0]
    target = read_frames(tmp_path / "out.mp4")[0].planes[0]
    assert np.abs(source.astype(int) - target).mean() < 3  # limited range would be some 8 codes off


@pytest.mark.parametrize("shifts", [(1, 1), (1, 0), (0, 0)])
@pytest.mark.parametrize("siting", SITINGS)
def test_a_deeper_layout_changes_nothing_but_the_depth(shifts: tuple[int, int], siting: Any) -> None:
    """From 8 to 10 bits every code is multiplied by 4, and chroma is not filtered."""
    layout, colour = Layout("yuv", 8, *shifts), Colour("bt709", False, siting)
    rng = np.random.default_rng(9)
    planes = [rng.integers(0, 256, size, np.uint8) for size in layout.sizes(64, 48)]
    wide = Layout("yuv", 10, *shifts)
    found = rgb_to_planes(planes_to_rgb(planes_to_tensors(planes), layout, colour), wide, colour, layout)
    for plane_found, plane in zip(found, planes, strict=True):
        np.testing.assert_array_equal(plane_found, plane.astype(np.uint16) * 4)


def test_chroma_of_rgb_pictures_is_low_pass_filtered() -> None:
    """Red and blue stripes of one pixel become their mean, without overshoot."""
    rgb = torch.zeros(3, 32, 32)
    rgb[0, :, ::2] = rgb[2, :, 1::2] = 1
    layout, colour = Layout("yuv", 8, 1, 1), Colour("bt709", True)
    for siting in SITINGS:
        planes = rgb_to_planes(rgb, layout, Colour("bt709", True, siting), Layout("rgb", 8))  # type: ignore[arg-type]
        mean = rgb_to_planes(rgb.mean(2, keepdim=True).expand(-1, -1, 32), layout, colour)
        assert largest_difference(planes[1:], tuple(np.full((16, 16), p[8, 8]) for p in mean[1:])) <= (
            1 if siting == "centre" else 64
        )
        assert largest_difference(tuple(p[:, 1:] for p in planes[1:]), tuple(p[:, 1:] for p in mean[1:])) <= 1
