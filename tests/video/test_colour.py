"""Made frames have the right colours: held against arithmetic of their own (tests/films) and against exact shifts."""

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

from converted import quick
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


def layout_of(film: Film) -> Layout:
    layout = planar_layout(film.pixel_format)
    assert layout is not None
    return layout


def colour_of(film: Film) -> Colour:
    """What Midframe is told of a film that is drawn."""
    family = layout_of(film).family
    if family != "yuv":
        return Colour(family, family == "rgb" or film.full_range)
    return Colour(film.matrix_used, film.full_range, film.siting_used)


def stored(film: Film, rgb: np.ndarray[Any, Any]) -> Planes:
    """The planes of a picture as the film holds them, in the order that Midframe has them."""
    planes = planes_of(film, rgb)
    return (planes[2], planes[0], planes[1]) if film.format.is_rgb else planes


def bars() -> np.ndarray[Any, Any]:
    return np.repeat(BARS[None].repeat(HEIGHT, 0), WIDTH // len(BARS), axis=1)


def interpolated(film: Film, first: Planes, second: Planes, network: Callable[[Tensor, Tensor], Tensor]) -> Planes:
    """The frame half way between two, as the convert road makes it."""
    layout, colour = layout_of(film), colour_of(film)
    a, b = planes_to_tensors(first), planes_to_tensors(second)
    rgb_a, rgb_b = planes_to_rgb(a, layout, colour), planes_to_rgb(b, layout, colour)
    change = network(rgb_a, rgb_b) - torch.lerp(rgb_a, rgb_b, 0.5)
    return weighted_mean_plus_difference(a, b, 0.5, change, layout=layout, colour=colour)


def largest(a: Planes, b: Planes) -> int:
    """The largest difference of two frames."""
    return max(int(np.abs(x.astype(int) - y.astype(int)).max()) for x, y in zip(a, b, strict=True))


def shifted(picture: Tensor, by: int, axis: int) -> Tensor:
    """A picture moved by whole pixels, its edge held."""
    size = picture.shape[axis]
    return picture.index_select(axis, (torch.arange(size) - by).clamp(0, size - 1))


def every_film() -> list[Film]:
    films = [
        Film(WIDTH, HEIGHT, pixel_format=name, matrix=matrix, full_range=full, siting=siting)
        for name, matrix, full in itertools.product(FORMATS, ("bt601", "bt709", "bt2020"), (False, True))
        for siting in (SITINGS if "420" in name else SITINGS[:1])
    ]
    return [f for f in films if f.pixel_format.startswith("yuv") or (f.matrix == "bt709" and not f.full_range)]


@pytest.mark.parametrize("film", every_film(), ids=lambda f: f"{f.pixel_format}-{f.matrix}-{f.full_range}-{f.siting}")
def test_bars(film: Film) -> None:
    """Bars that a network paints have the codes of bars, whatever the frames were; bars that it sees are bars."""
    painted = torch.from_numpy(bars()).permute(2, 0, 1).float()
    wanted = stored(film, bars())
    if film.pixel_format.startswith("gray"):
        # A film without colour has no luma weights: the mean of the channels is taken.
        painted = painted[:1].expand(3, -1, -1)
        wanted = stored(film, np.repeat(bars()[..., :1], 3, axis=2))
    rng = np.random.default_rng(5)
    others = [stored(film, rng.uniform(0, 1, (HEIGHT, WIDTH, 3))) for _ in "ab"]
    got = interpolated(film, others[0], others[1], lambda a, b: painted)
    inside = np.flatnonzero(np.arange(WIDTH) % (WIDTH // len(BARS)) // 2 == 2)  # away from the edges of the bars
    for mine, true in zip(got, wanted, strict=True):
        columns = inside if mine.shape[1] == WIDTH else inside[::2] // 2
        assert np.abs(mine[:, columns].astype(int) - true[:, columns].astype(int)).max() <= 1
    seen = planes_to_rgb(planes_to_tensors(wanted), layout_of(film), colour_of(film)).permute(1, 2, 0).numpy()
    step = 1 / (219 << (layout_of(film).depth - 8))
    np.testing.assert_allclose(seen[:, inside], painted.permute(1, 2, 0).numpy()[:, inside], atol=2 * step)


@pytest.mark.parametrize(
    "film", every_film()[::5], ids=lambda f: f"{f.pixel_format}-{f.matrix}-{f.full_range}-{f.siting}"
)
def test_to_rgb_is_what_the_standard_says(film: Film) -> None:
    rng = np.random.default_rng(1)
    rgb = rng.uniform(0, 1, (HEIGHT - 1, WIDTH - 1, 3))  # odd sizes
    film = Film(**{**vars(film), "width": WIDTH - 1, "height": HEIGHT - 1})
    kept = planes_of(film, rgb)
    mine = planes_to_rgb(planes_to_tensors(stored(film, rgb)), layout_of(film), colour_of(film))
    np.testing.assert_allclose(mine.permute(1, 2, 0).numpy(), rgb_of(film, kept), atol=2e-5)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True])
def test_every_matrix_by_the_formula(matrix: str, full: bool) -> None:
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
    assert largest(planes, tuple(np.floor(np.clip(c, 0, 255) + 0.5) for c in codes)) <= 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p", "yuv420p12le", "yuv411p", "yuv440p", "gbrp"])
@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize("axis", [0, 1])
def test_moved_edge_of_saturated_colour(name: str, siting: str, axis: int) -> None:
    """A network that shifts the picture by whole chroma samples shifts the planes, and leaves nothing behind."""
    film = Film(WIDTH, HEIGHT, pixel_format=name, matrix="bt709", siting=siting if "420" in name else "left")
    layout, colour = layout_of(film), colour_of(film)
    colour = Colour(colour.matrix, colour.full_range, siting)  # type: ignore[arg-type]
    red, blue = ([layout.peak * k // 255 for k in codes] for codes in ((63, 102, 240), (32, 240, 118)))
    sizes = layout.sizes(WIDTH, HEIGHT)
    steps = [size[axis] * 4 // (HEIGHT, WIDTH)[axis] for size in sizes]  # what 4 pixels are in each plane

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
        change = moved - torch.lerp(rgb[0], rgb[1], 0.5)
        assert largest(weighted_mean_plus_difference(a, b, 0.5, change, layout=layout, colour=colour), picture(0)) <= 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "yuv422p"])
@pytest.mark.parametrize("siting", SITINGS)
def test_half_a_chroma_sample_moves_by_half(name: str, siting: str) -> None:
    """Moved by one pixel, chroma moves by half a sample: the edge stands where the true film has it."""
    film = Film(WIDTH, HEIGHT, scene="edge", speed=(2.0, 0.0), pixel_format=name, matrix="bt601", siting=siting)
    first, second = (film_planes(film, Fraction(k, 24)) for k in (4, 5))
    true = film_planes(film, Fraction(9, 48))
    got = interpolated(film, first, second, lambda a, b: shifted(a, 1, 2))
    for mine, wanted, plane in zip(got, true, first, strict=True):
        inside = slice(3, -3)
        shift = (mine.astype(float) - wanted)[:, inside].sum(1) / float(np.ptp(plane))
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
def test_what_the_network_leaves_alone_stays(
    seed: int, shifts: tuple[int, int], depth: int, siting: Any, size: tuple[int, int], full: bool
) -> None:
    """Any codes, out of gamut too: equal frames stay as they are, and the mean in RGB is the mean of the planes."""
    layout, colour = Layout("yuv", depth, *shifts), Colour("bt2020", full, siting)
    rng = np.random.default_rng(seed)
    first, second = (
        tuple(rng.integers(0, layout.peak + 1, s).astype(layout.dtype) for s in layout.sizes(*size)) for _ in "ab"
    )
    a, b = planes_to_tensors(first), planes_to_tensors(second)
    rgb_a, rgb_b = planes_to_rgb(a, layout, colour), planes_to_rgb(b, layout, colour)
    zero = torch.zeros_like(rgb_a)
    assert largest(weighted_mean_plus_difference(a, a, 0.3, zero, layout=layout, colour=colour), first) == 0
    change = rgb_a * 0.5 + rgb_b * 0.5 - torch.lerp(rgb_a, rgb_b, 0.5)
    mean = tuple(((x.astype(int) + y + 1) // 2).astype(layout.dtype) for x, y in zip(first, second, strict=True))
    assert largest(weighted_mean_plus_difference(a, b, 0.5, change, layout=layout, colour=colour), mean) <= 1


@pytest.mark.parametrize("time", [Fraction(1, 4), Fraction(1, 3), Fraction(5, 7), Fraction(1, 1000)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_weighted_mean_by_whole_numbers(time: Fraction, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, np.iinfo(dtype).max, (40, 50), dtype, endpoint=True) for _ in "ab")
    p, q = time.numerator, time.denominator
    exact = (2 * (a.astype(np.int64) * (q - p) + b.astype(np.int64) * p) + q) // (2 * q)
    layout, colour = Layout("gray", 8 * a.itemsize), Colour("gray", True)
    unchanged = torch.zeros(3, 40, 50)
    (mine,) = weighted_mean_plus_difference(
        planes_to_tensors((a,)), planes_to_tensors((b,)), float(time), unchanged, layout=layout, colour=colour
    )
    assert mine.dtype == dtype
    wrong = mine != exact
    assert np.abs(mine.astype(int) - exact).max() <= 1
    assert wrong.mean() <= (0 if q == 4 else 0.01)


@pytest.mark.parametrize("shifts", [(1, 1), (1, 0), (0, 0), (2, 2)])
@pytest.mark.parametrize("size", [(64, 48), (61, 47)])
def test_what_moves_within_a_radius_by_loops(shifts: tuple[int, int], size: tuple[int, int]) -> None:
    layout = Layout("yuv", 8, *shifts)
    rng = np.random.default_rng(5)
    first = [np.zeros(s, np.uint8) for s in layout.sizes(*size)]
    second = [plane.copy() for plane in first]
    points = [(k, *(int(rng.integers(n)) for n in second[k].shape)) for k in (0, 1, 2)]
    for k, y, x in points:
        second[k][y, x] = 1
    wanted = np.zeros(first[0].shape, bool)
    for k, y, x in points:
        sy, sx = (0, 0) if k == 0 else (layout.shift_y, layout.shift_x)
        top, bottom = (y << sy) - 4, (y + 1 << sy) + 4
        left, right = (x << sx) - 4, (x + 1 << sx) + 4
        wanted[max(top, 0) : bottom, max(left, 0) : right] = True
    # A cell may reach beyond an odd edge, where there is no pixel from which anything could spread.
    found = mask_of_changes(planes_to_tensors(first), planes_to_tensors(second), layout, 4).numpy()
    inside = (slice(0, size[1] - 4), slice(0, size[0] - 4))
    assert np.array_equal(found[inside] > 0, wanted[inside])


def test_codes_are_clipped_only_at_the_end() -> None:
    """A change beyond white gives the largest code, and does not wrap."""
    layout, colour = Layout("yuv", 8, 1, 1), Colour("bt709", False)
    for value, code in ((2.0, 255), (-2.0, 0)):
        planes = [np.full(s, 128, np.uint8) for s in layout.sizes(32, 32)]
        tensors = planes_to_tensors(planes)
        got = weighted_mean_plus_difference(
            tensors, tensors, 0.5, torch.full((3, 32, 32), value), layout=layout, colour=colour
        )
        assert (got[0] == code).all()
        assert (got[1] == 128).all()
        assert (got[2] == 128).all()


def test_untagged() -> None:
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
def test_matrices_that_are_not_known_are_refused(matrix: int) -> None:
    with pytest.raises(InputError) as caught:
        colour_of_stream(Layout("yuv", 8, 1, 1), ColourTags(matrix=matrix), height=480, codec="h264")
    assert "\n" not in str(caught.value)
    assert "bt709" in str(caught.value)


def test_a_film_of_such_a_matrix_is_refused(tmp_path: Path) -> None:
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
        quick(path, target)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("matrix", [None, "bt709"])
def test_a_guess_is_said_and_not_written(matrix: str | None, film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(frames=4, matrix=matrix, codec="ffv1")
    summary = quick(film_factory(film, ".mkv"), tmp_path / "out.mkv")
    said = [w for w in summary.warnings if "does not say its colours" in w]
    assert len(said) == (1 if matrix is None else 0)
    with av.open(str(tmp_path / "out.mkv")) as out:
        frame = next(out.decode(video=0))
    assert int(frame.colorspace) == (2 if matrix is None else 1)


def test_full_range_stays_full_range(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = Film(frames=4, pixel_format="yuvj420p", matrix="bt601", codec="mjpeg", scene="noise")
    quick(film_factory(film, ".mov"), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        frame = next(out.decode(video=0))
        assert frame.format.name == "yuvj420p" or int(frame.color_range) == 2
    source = read_frames(film_factory(film, ".mov"))[0].planes[0]
    target = read_frames(tmp_path / "out.mp4")[0].planes[0]
    assert np.abs(source.astype(int) - target).mean() < 3  # limited range would be some 8 codes off


@pytest.mark.parametrize("shifts", [(1, 1), (1, 0), (0, 0)])
@pytest.mark.parametrize("siting", SITINGS)
def test_more_bits_change_nothing_else(shifts: tuple[int, int], siting: Any) -> None:
    """8 bits written with 10: every code times 4, the chroma not filtered."""
    layout, colour = Layout("yuv", 8, *shifts), Colour("bt709", False, siting)
    rng = np.random.default_rng(9)
    planes = [rng.integers(0, 256, size, np.uint8) for size in layout.sizes(64, 48)]
    wide = Layout("yuv", 10, *shifts)
    found = rgb_to_planes(planes_to_rgb(planes_to_tensors(planes), layout, colour), wide, colour, layout)
    for mine, plane in zip(found, planes, strict=True):
        np.testing.assert_array_equal(mine, plane.astype(np.uint16) * 4)


def test_chroma_of_rgb_is_smoothed() -> None:
    """Stripes of one pixel, red and blue, become their mean, and overshoot nowhere."""
    rgb = torch.zeros(3, 32, 32)
    rgb[0, :, ::2] = rgb[2, :, 1::2] = 1
    layout, colour = Layout("yuv", 8, 1, 1), Colour("bt709", True)
    for siting in SITINGS:
        planes = rgb_to_planes(rgb, layout, Colour("bt709", True, siting), Layout("rgb", 8))  # type: ignore[arg-type]
        mean = rgb_to_planes(rgb.mean(2, keepdim=True).expand(-1, -1, 32), layout, colour)
        assert largest(planes[1:], tuple(np.full((16, 16), p[8, 8]) for p in mean[1:])) <= (
            1 if siting == "centre" else 64
        )
        assert largest(tuple(p[:, 1:] for p in planes[1:]), tuple(p[:, 1:] for p in mean[1:])) <= 1
