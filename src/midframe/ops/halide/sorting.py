"""Sorting without branches, of lists of Halide expressions: what medians are made of."""

from __future__ import annotations

import functools
from typing import Any


def rising(values: list[Any]) -> list[Any]:
    """In rising order, by merging halves."""
    if len(values) < 2:
        return values
    half = len(values) // 2
    return merged(rising(values[:half]), rising(values[half:]))


def merged(a: list[Any], b: list[Any]) -> list[Any]:
    """Two rising lists made one: Batcher's odd-even merge."""
    import halide as hl

    if not a or not b:
        return a + b
    if len(a) == len(b) == 1:
        return [hl.min(a[0], b[0]), hl.max(a[0], b[0])]
    even, odd = merged(a[::2], b[::2]), merged(a[1::2], b[1::2])
    both = even[:1]
    for low, high in zip(odd, even[1:], strict=False):
        both += [hl.min(low, high), hl.max(low, high)]
    return both + odd[len(even) - 1 :] + even[len(odd) + 1 :]


def ranked(a: list[Any], b: list[Any], rank: int) -> Any:
    """The value of a rank, from 0, of two rising lists: the least that the first i of a and rank + 1 - i of b reach."""
    import halide as hl

    reached = []
    for i in range(max(0, rank + 1 - len(b)), min(len(a), rank + 1) + 1):
        j = rank + 1 - i
        reached.append(hl.max(a[i - 1], b[j - 1]) if i and j else a[i - 1] if i else b[j - 1])
    return functools.reduce(hl.min, reached)
