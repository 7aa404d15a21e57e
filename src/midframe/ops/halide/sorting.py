"""Sort lists of Halide expressions without branches, by minima and maxima, for median filters."""

from __future__ import annotations

import functools
from typing import Any


def sort_ascending(values: list[Any]) -> list[Any]:
    """Return expressions in ascending order, by merging sorted halves."""
    if len(values) < 2:
        return values
    half = len(values) // 2
    return merge_ascending(sort_ascending(values[:half]), sort_ascending(values[half:]))


def merge_ascending(a: list[Any], b: list[Any]) -> list[Any]:
    """Merge two ascending lists into one by Batcher's odd-even merge."""
    import halide as hl

    if not a or not b:
        return a + b
    if len(a) == len(b) == 1:
        return [hl.min(a[0], b[0]), hl.max(a[0], b[0])]
    even, odd = merge_ascending(a[::2], b[::2]), merge_ascending(a[1::2], b[1::2])
    result = even[:1]
    for low, high in zip(odd, even[1:], strict=False):
        result += [hl.min(low, high), hl.max(low, high)]
    return result + odd[len(even) - 1 :] + even[len(odd) + 1 :]


def select_rank(a: list[Any], b: list[Any], rank: int) -> Any:
    """Return the value of a rank, counted from 0, in the union of two ascending lists, without merging them.

    It is the minimum over i of the largest value among the first i of `a` and the first rank + 1 - i of `b`.
    """
    import halide as hl

    largest = []
    for i in range(max(0, rank + 1 - len(b)), min(len(a), rank + 1) + 1):
        j = rank + 1 - i
        largest.append(hl.max(a[i - 1], b[j - 1]) if i and j else a[i - 1] if i else b[j - 1])
    return functools.reduce(hl.min, largest)
