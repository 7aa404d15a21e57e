"""Which pixels the taps of an adaptive kernel read: densely around the centre, or spread out towards the edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from midframe.errors import SettingError

Reading = Literal["rings", "axes", "literal"]


@dataclass(frozen=True)
class TapPattern:
    """The offsets `(dy, dx)` of the taps `(i, j)` of a kernel with `size` values a side.

    `TapPattern.dense(T)`: `dy = i - T//2`, `dx = j - T//2`, T odd. `TapPattern.composite(inner, outer, reading)`: the
    report's composite dilation (its section 7), a dense square of `inner` (odd) taps a side in the middle and `outer`
    (even) kernel values a side that are spread over a square of side `inner + 2 * outer`. Indices are spatial: kernel
    value 0 belongs to the top or left end. Raises `SettingError` for sizes that cannot be centred.

    The report's text, formula and figure differ, so there are three readings:

    - `rings` (the text): ring r of the T x T kernel goes to the square ring at distance `inner//2 + 2r`, gathered at
      its corners on odd rings and at the middle of its edges on even ones; T^2 taps.
    - `axes`: each axis on its own sends a distance s beyond the dense part to `2s - inner//2`; T^2 taps.
    - `literal` (the two sums of the formula): the dense square, and the `axes` offsets for outer x outer values only;
      `inner^2 + outer^2` taps.

    With `outer = 0` every reading is the dense pattern.
    """

    inner: int
    outer: int = 0
    reading: Reading = "rings"

    def __post_init__(self) -> None:
        if self.inner < 1 or self.inner % 2 == 0:
            raise SettingError(f"a kernel has {self.inner} dense taps a side; it takes an odd number from 1 up")
        if self.outer < 0 or self.outer % 2 == 1:
            raise SettingError(f"a kernel has {self.outer} dilated taps a side; it takes an even number, or 0")
        if self.reading not in get_args(Reading):
            known = ", ".join(get_args(Reading))
            raise SettingError(f"'{self.reading}' is no reading of composite dilation; there are: {known}")

    @classmethod
    def dense(cls, size: int) -> TapPattern:
        """All taps of a square of side `size` (odd), the report's section 1."""
        return cls(size)

    @classmethod
    def composite(cls, inner: int, outer: int, reading: Reading = "rings") -> TapPattern:
        """A dense square of side `inner` (odd) inside `outer` (even) dilated values a side, the report's section 7."""
        return cls(inner, outer, reading)

    @property
    def is_dense(self) -> bool:
        return self.outer == 0

    @property
    def size(self) -> int:
        """Kernel values a side: the T of `vertical` and `horizontal`."""
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
        """The `(dy, dx)` of tap `(i, j)`, None where the reading has no such tap."""
        half = self.inner // 2
        u, v = i - self.size // 2, j - self.size // 2
        ring = max(abs(u), abs(v)) - half
        if ring <= 0:
            return u, v
        if self.reading == "rings":
            return _on_ring(u, half, ring), _on_ring(v, half, ring)
        if self.reading == "literal" and min(abs(u), abs(v)) <= half:
            return None
        return _on_axis(u, half), _on_axis(v, half)

    def taps(self) -> Iterator[tuple[int, int, int, int]]:
        """Every tap as `(i, j, dy, dx)`, row by row."""
        for i in range(self.size):
            for j in range(self.size):
                offset = self.offset(i, j)
                if offset is not None:
                    yield (i, j, *offset)

    def from_paper_order(self) -> list[int]:
        """The report stores the dense values first: `spatial = stored[:, pattern.from_paper_order()]` sorts them."""
        before = self.outer // 2
        dilated = list(range(self.inner, self.size))
        return dilated[:before] + list(range(self.inner)) + dilated[before:]


def _on_ring(s: int, half: int, ring: int) -> int:
    """Where a coordinate of ring `ring` of the kernel lies on its ring of the picture."""
    sign = (s > 0) - (s < 0)
    if abs(s) == half + ring:
        return sign * (half + 2 * ring)
    return s + sign * ring if ring % 2 == 1 else s


def _on_axis(s: int, half: int) -> int:
    return s if abs(s) <= half else (1 if s > 0 else -1) * (2 * abs(s) - half)
