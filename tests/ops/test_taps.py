"""Test tap patterns against the report's counts, tables worked out by hand, and the properties of every pattern."""

from __future__ import annotations

import pytest

from midframe.errors import SettingError
from midframe.ops import TapPattern

SIZES = [(1, 2), (3, 2), (3, 4), (5, 2), (5, 8), (11, 10)]
"""Inner and outer sizes of composite patterns."""
VARIANTS = ["rings", "axes", "literal"]


def offsets(pattern: TapPattern) -> list[tuple[int, int]]:
    return [(dy, dx) for _, _, dy, dx in pattern.taps()]


@pytest.mark.parametrize("size", [1, 3, 5, 51])
def test_dense_taps_are_centred(size: int) -> None:
    expected = [(i, j, i - size // 2, j - size // 2) for i in range(size) for j in range(size)]
    assert list(TapPattern.dense(size).taps()) == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_without_outer_taps_is_dense(variant: str) -> None:
    composite = TapPattern.composite(5, 0, variant)  # type: ignore[arg-type]
    assert composite.is_dense
    assert list(composite.taps()) == list(TapPattern.dense(5).taps())


def test_offsets_of_rings() -> None:
    taps = {(i, j): (dy, dx) for i, j, dy, dx in TapPattern.composite(3, 2).taps()}
    assert [taps[0, j] for j in range(5)] == [(-3, -3), (-3, -2), (-3, 0), (-3, 2), (-3, 3)]
    assert [taps[1, j] for j in range(5)] == [(-2, -3), (-1, -1), (-1, 0), (-1, 1), (-2, 3)]
    assert [taps[2, j] for j in range(5)] == [(0, -3), (0, -1), (0, 0), (0, 1), (0, 3)]


def test_rings_alternate_between_corners_and_edge_centres() -> None:
    """The second ring of 3/4, at distance 5, keeps its taps around the middle of each edge."""
    taps = {(i, j): (dy, dx) for i, j, dy, dx in TapPattern.composite(3, 4).taps()}
    assert [taps[0, j] for j in range(7)] == [(-5, -5), (-5, -2), (-5, -1), (-5, 0), (-5, 1), (-5, 2), (-5, 5)]
    assert [taps[1, j] for j in range(7)] == [(-2, -5), (-3, -3), (-3, -2), (-3, 0), (-3, 2), (-3, 3), (-2, 5)]


def test_offsets_of_axes() -> None:
    taps = TapPattern.composite(3, 4, "axes")
    along = [-5, -3, -1, 0, 1, 3, 5]
    assert list(taps.taps()) == [(i, j, along[i], along[j]) for i in range(7) for j in range(7)]


def test_tap_counts_of_the_report() -> None:
    """Check the report's example, d_in = 11 and d_out = 10: patches of side 31, 441 taps, 320 of them in five rings."""
    rings = TapPattern.composite(11, 10)
    assert (rings.size, rings.side, rings.reach) == (21, 31, 15)
    distances = [max(abs(dy), abs(dx)) for dy, dx in offsets(rings)]
    assert len(distances) == 441
    assert sum(distance <= 5 for distance in distances) == 121
    assert [distances.count(distance) for distance in (7, 9, 11, 13, 15)] == [48, 56, 64, 72, 80]
    assert len(list(TapPattern.composite(11, 10, "axes").taps())) == 441
    assert len(list(TapPattern.composite(11, 10, "literal").taps())) == 11**2 + 10**2


@pytest.mark.parametrize(("inner", "outer"), SIZES)
def test_covered_area_is_the_formula_of_the_report(inner: int, outer: int) -> None:
    pattern = TapPattern.composite(inner, outer)
    assert pattern.side**2 - pattern.size**2 == 2 * inner * outer + 3 * outer**2


@pytest.mark.parametrize(("inner", "outer"), SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_patterns_are_symmetric_and_read_each_pixel_once(inner: int, outer: int, variant: str) -> None:
    pattern = TapPattern.composite(inner, outer, variant)  # type: ignore[arg-type]
    places = offsets(pattern)
    assert len(set(places)) == len(places)
    assert set(places) == {(dx, dy) for dy, dx in places} == {(-dy, dx) for dy, dx in places}
    assert max(max(abs(dy), abs(dx)) for dy, dx in places) == pattern.reach
    inner_part = {(dy, dx) for dy, dx in places if max(abs(dy), abs(dx)) <= inner // 2}
    assert len(inner_part) == inner**2
    last = pattern.size - 1
    assert {pattern.offset(0, 0), pattern.offset(last, last)} == {
        (-pattern.reach, -pattern.reach),
        (pattern.reach, pattern.reach),
    }


@pytest.mark.parametrize(("inner", "outer"), SIZES)
def test_every_ring_keeps_its_corners_and_edge_centres(inner: int, outer: int) -> None:
    places = set(offsets(TapPattern.composite(inner, outer)))
    for ring in range(1, outer // 2 + 1):
        distance = inner // 2 + 2 * ring
        signs = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
        assert {(distance * a, distance * b) for a, b in signs} <= places


def test_paper_order_is_sorted_into_spatial_order() -> None:
    """The report stores the dense values first: the order of 3/2 is spatial 1 2 3 0 4."""
    stored = ["s1", "s2", "s3", "s0", "s4"]
    assert [stored[k] for k in TapPattern.composite(3, 2).from_paper_order()] == ["s0", "s1", "s2", "s3", "s4"]
    order = TapPattern.composite(11, 10).from_paper_order()
    assert sorted(order) == list(range(21))
    assert order[5:16] == list(range(11))


@pytest.mark.parametrize(
    ("inner", "outer", "variant", "message"),
    [
        pytest.param(4, 2, "rings", "4 dense taps a side; it takes an odd number", id="even inner"),
        pytest.param(0, 0, "rings", "0 dense taps a side; it takes an odd number", id="no inner"),
        pytest.param(3, 1, "axes", "1 dilated taps a side; it takes an even number", id="odd outer"),
        pytest.param(3, 2, "x", "'x' is no variant .*; there are: rings, axes, literal", id="unknown variant"),
    ],
)
def test_invalid_sizes_and_variants_are_refused(inner: int, outer: int, variant: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TapPattern.composite(inner, outer, variant)  # type: ignore[arg-type]
