"""Define which pixels the taps of an adaptive kernel read: a dense square, or one that spreads towards its edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from midframe.errors import SettingError

Variant = Literal["rings", "axes", "literal"]
"""How composite dilation is read from the report: see `TapPattern`."""


@dataclass(frozen=True)
class TapPattern:
    """The offset `(dy, dx)` in pixels of each tap `(i, j)` of a kernel with T x T taps.

    Create it with `TapPattern.dense(T)`, which reads a square without gaps, or with
    `TapPattern.composite(inner, outer, variant)`, the composite dilation of the report's section 7. A composite pattern
    has a dense square of `inner` x `inner` taps in the middle. Around it, `outer` further kernel values per side are
    spread out, so that the pattern covers a square of side `inner + 2 * outer`. Tap indices are spatial: index 0 is the
    topmost or leftmost tap. Raises `SettingError` for sizes that cannot be centred and for unknown variants.

    The text, the formula and the figure of the report contradict each other, so there are three variants. Ring r is the
    square of taps at distance r from the dense square; h = `inner // 2`.

    - `rings` follows the text. Ring r moves to distance h + 2r. The taps of odd rings gather at its corners, those of
      even rings at the middle of its edges. T^2 taps.
    - `axes` moves each coordinate separately: a distance s > h becomes 2s - h. T^2 taps.
    - `literal` follows the two sums of the formula: the dense square, and the offsets of `axes` for taps whose row and
      column both lie outside of the dense part. `inner^2 + outer^2` taps.

    With `outer` = 0 all variants are the dense pattern.
    """

    inner: int
    """Taps per side of the dense square; odd."""
    outer: int = 0
    """Kernel values per side that are spread out; even, 0 for a dense pattern."""
    variant: Variant = "rings"
    """Which offsets the spread taps have."""

    def __post_init__(self) -> None:
        if self.inner < 1 or self.inner % 2 == 0:
            raise SettingError(f"a kernel has {self.inner} dense taps a side; it takes an odd number from 1 up")
        if self.outer < 0 or self.outer % 2 == 1:
            raise SettingError(f"a kernel has {self.outer} dilated taps a side; it takes an even number, or 0")
        if self.variant not in get_args(Variant):
            known = ", ".join(get_args(Variant))
            raise SettingError(f"'{self.variant}' is no variant of composite dilation; there are: {known}")

    @classmethod
    def dense(cls, size: int) -> TapPattern:
        """Return the pattern of `size` x `size` (odd) taps without gaps, the report's section 1."""
        return cls(size)

    @classmethod
    def composite(cls, inner: int, outer: int, variant: Variant = "rings") -> TapPattern:
        """Return a pattern of composite dilation, the report's section 7."""
        return cls(inner, outer, variant)

    @property
    def is_dense(self) -> bool:
        """True if the taps have no gaps between them."""
        return self.outer == 0

    @property
    def size(self) -> int:
        """Kernel values per side: the T of the maps `vertical` and `horizontal`."""
        return self.inner + self.outer

    @property
    def reach(self) -> int:
        """The largest offset, in pixels."""
        return self.inner // 2 + self.outer

    @property
    def side(self) -> int:
        """The side of the square that the taps cover, in pixels."""
        return 2 * self.reach + 1

    def offset(self, i: int, j: int) -> tuple[int, int] | None:
        """Return the `(dy, dx)` of tap `(i, j)`, None if the variant `literal` has no such tap."""
        half = self.inner // 2
        u, v = i - self.size // 2, j - self.size // 2
        ring = max(abs(u), abs(v)) - half
        if ring <= 0:
            return u, v
        if self.variant == "rings":
            return _ring_offset(u, half, ring), _ring_offset(v, half, ring)
        if self.variant == "literal" and min(abs(u), abs(v)) <= half:
            return None
        return _axis_offset(u, half), _axis_offset(v, half)

    def taps(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield every tap as `(i, j, dy, dx)`, row by row."""
        for i in range(self.size):
            for j in range(self.size):
                offset = self.offset(i, j)
                if offset is not None:
                    yield (i, j, *offset)

    def from_paper_order(self) -> list[int]:
        """Return the indices that sort kernel values from the report's order into spatial order.

        The report stores the dense values first: `spatial = stored[:, pattern.from_paper_order()]`.
        """
        before = self.outer // 2
        dilated = list(range(self.inner, self.size))
        return dilated[:before] + list(range(self.inner)) + dilated[before:]


def _ring_offset(s: int, half: int, ring: int) -> int:
    """Return the offset of a tap of a ring along one axis, from its distance `s` to the centre of the kernel."""
    sign = (s > 0) - (s < 0)
    if abs(s) == half + ring:
        return sign * (half + 2 * ring)
    return s + sign * ring if ring % 2 == 1 else s


def _axis_offset(s: int, half: int) -> int:
    """Return the offset of the variant `axes` along one axis, from the distance `s` to the centre of the kernel."""
    return s if abs(s) <= half else (1 if s > 0 else -1) * (2 * abs(s) - half)
