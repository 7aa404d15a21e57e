"""Steps of an alignment on the CPU: a few rows at a time, so that what lies between reading and writing stays in cache.

Frames `[2B, 1, H, W]` are `f(x, y, n, s)`, s 0 for the firsts and 1 for the seconds; motion `[B, 2, H, W]` is
`f(x, y, c, n)`. A task is some rows of a sample. Each stage of it makes one row when that is first asked for (Halide's
sliding window) and keeps those that are asked for again. Boxes are sums along x, then along y. Beyond the borders the
last pixel is repeated: for x the loops are split, so that the vectors within read memory as it lies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.ops.alignment.reference import (
    CONTRAST,
    DAMPING,
    DOUBT,
    HOPS,
    LARGEST,
    LEAST_DAMPING,
    NEIGHBOURHOOD,
    NOISE,
    PREFERENCE,
)
from midframe.ops.halide_build import compiled
from midframe.ops.halide_maps import LANES, variables

STRIP = 32
"""Rows a task: the first of them need up to a dozen rows above that the task before has made as well."""


def normalise_contrast(frames: Tensor) -> Tensor:
    """Frames of local mean 0 and contrast 1."""
    frames = frames.contiguous()
    out = torch.empty_like(frames)
    run = compiled(f"alignment_normalise_{CONTRAST}", __file__, lambda: _normalise(CONTRAST))
    run(frames[:, 0], NOISE, out[:, 0])
    return out


def propagate_motion(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    """The motion, at every pixel its own or that of a neighbour by which the frames agree better."""
    out = torch.empty(motion.shape)
    name = "_".join(map(str, ("alignment_propagate", NEIGHBOURHOOD, *HOPS)))
    run = compiled(name, __file__, lambda: _propagate(NEIGHBOURHOOD, HOPS))
    run(_by_frame(frames), motion.contiguous(), time.contiguous(), DOUBT, PREFERENCE, out)
    return out


def correct_motion(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    """The motion by which the frames agree better, by least squares."""
    out = torch.empty(motion.shape)
    run = compiled(f"alignment_correct_{NEIGHBOURHOOD}", __file__, lambda: _correct(NEIGHBOURHOOD))
    numbers = DOUBT, DAMPING, LEAST_DAMPING, LARGEST
    run(_by_frame(frames), motion.contiguous(), time.contiguous(), *numbers, out)
    return out


def median_motion(motion: Tensor) -> Tensor:
    """The median of each number and those within two pixels of it."""
    out = torch.empty(motion.shape)
    run = compiled("alignment_median", __file__, _median)
    run(motion.contiguous().flatten(0, 1), out.flatten(0, 1))
    return out


def _by_frame(frames: Tensor) -> Tensor:
    """`[2B, 1, H, W]` as `[2, B, H, W]`."""
    return frames.contiguous().view(2, -1, *frames.shape[2:])


def _normalise(radius: int) -> tuple[list[Any], list[Any]]:
    import halide as hl

    frames, noise = hl.ImageParam(hl.Float(32), 3, "frames"), hl.Param(hl.Float(32), "noise")
    x, y, _, n = variables()
    size = frames.dim(0).extent(), frames.dim(1).extent()
    apart, out = hl.Func("apart"), hl.Func("out")
    given = hl.Func("given")
    given[x, y, n] = frames[hl.clamp(x, 0, size[0] - 1), y, n]
    mean = _Smoothed("mean", lambda at: [given[at]], radius, size)
    apart[x, y, n] = given[x, y, n] - mean.values[0]
    variance = _Smoothed("variance", lambda at: [apart[at] * apart[at]], radius, size)
    out[x, y, n] = apart[x, y, n] / hl.sqrt(variance.values[0] + noise)

    apart.compute_root().vectorize(x, LANES, hl.TailStrategy.RoundUp)
    mean.rows_of(apart, *_in_strips(apart))
    row, task = _written(out)
    variance.rows_of(out, row, task)
    return [frames, noise], [out]


def _propagate(radius: int, hops: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    import halide as hl

    frames, motion, time, doubt = _inputs()
    preference = hl.Param(hl.Float(32), "preference")
    x, y, c, n = variables()
    k = hl.Var("k")
    width, height = size = motion.dim(0).extent(), motion.dim(1).extent()
    now, best = motion, None
    for turn, hop in enumerate(hops):
        # The motion itself, the first time, then those from the left, right, above and below.
        away = [(-hop, 0), (hop, 0), (0, -hop), (0, hop)]
        away = away if turn else [(0, 0), *away]
        around, other, unlike, row_sums, chosen = (
            hl.Func(f"{name}_{turn}") for name in ("around", "other", "unlike", "row_sums", "chosen")
        )
        around[x, y, c, n] = now[_kept(x, width), y, c, n]
        candidate = hl.clamp(k, 0, len(away) - 1)
        across, down = (hl.mux(candidate, [hl.i32(far[axis]) for far in away]) for axis in (0, 1))
        across, down = (hl.unsafe_promise_clamped(far, -hop, hop) for far in (across, down))
        other[x, y, c, k, n] = around[x + across, hl.clamp(y + down, 0, height - 1), c, n]
        first, second = _moved(frames, [other[x, y, axis, k, n] for axis in (0, 1)], time, size)
        squares = (second - first) * (second - first)
        unlike[x, y, k, n] = squares / (squares + doubt)
        row_sums[x, y, k, n] = _sum(unlike[_kept(x + i, width), y, k, n] for i in range(-radius, radius + 1))
        share = 1 / (2 * radius + 1) ** 2
        costs = [
            _sum(row_sums[x, hl.clamp(y + j, 0, height - 1), k, n] for j in range(-radius, radius + 1)) * share
            for k in range(len(away))
        ]
        values = [around[x, y, 0, n], around[x, y, 1, n], costs.pop(0) if best is None else best[x, y, n][2]]
        for k_, cost in enumerate(costs, len(away) - len(costs)):
            taken = [other[x, y, 0, k_, n], other[x, y, 1, k_, n], cost + preference]
            better = taken[2] < values[2]
            values = [hl.select(better, new, old) for new, old in zip(taken, values, strict=True)]
        chosen[x, y, n] = hl.Tuple(values)

        around.compute_root().vectorize(x, LANES, hl.TailStrategy.RoundUp)
        _in_strips(around)
        if turn + 1 < len(hops):
            chosen.compute_root().vectorize(x, LANES, hl.TailStrategy.RoundUp)
            function, row, task = chosen, *_in_strips(chosen)
            now, best = _numbered(chosen), chosen
        else:
            out = _numbered(chosen)
            row, task = _written(out)
            chosen.compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.RoundUp)
            function = out
        row_sums.store_at(function, task).compute_at(function, row).reorder(x, k, y, n)
        row_sums.vectorize(x, LANES, hl.TailStrategy.RoundUp)
        unlike.compute_at(row_sums, k).vectorize(x, LANES, hl.TailStrategy.RoundUp)
    return [frames, motion, time, doubt, preference], [out]


def _numbered(pair: Any) -> Any:
    """The first two values of a function of (x, y, n), as one of (x, y, c, n)."""
    import halide as hl

    x, y, c, n = variables()
    function = hl.Func("numbered")
    function[x, y, c, n] = hl.select(c == 0, pair[x, y, n][0], pair[x, y, n][1])
    return function


def _correct(radius: int) -> tuple[list[Any], list[Any]]:
    import halide as hl

    frames, motion, time, doubt = _inputs()
    damping, least, largest = (hl.Param(hl.Float(32), name) for name in ("damping", "least", "largest"))
    x, y, c, n = variables()
    width, height = size = motion.dim(0).extent(), motion.dim(1).extent()
    given, brought, products, changed = (hl.Func(name) for name in ("given", "brought", "products", "changed"))
    given[x, y, c, n] = motion[hl.clamp(x, 0, width - 1), y, c, n]
    first, second = _moved(frames, [given[x, y, axis, n] for axis in (0, 1)], time, size)
    brought[x, y, n] = hl.Tuple([second - first, (first + second) / 2])

    def mean(i: int, j: int) -> Any:
        return brought[_kept(x + i, width), hl.clamp(y + j, 0, height - 1), n][1]

    apart = brought[x, y, n][0]
    across, down = (mean(1, 0) - mean(-1, 0)) / 2, (mean(0, 1) - mean(0, -1)) / 2
    say = doubt / (doubt + apart * apart)
    products[x, y, n] = hl.Tuple(
        [say * across * across, say * across * down, say * down * down, say * across * apart, say * down * apart]
    )
    smoothed = _Smoothed("products", lambda at: [products[at][q] for q in range(5)], radius, size)
    xx, xy, yy, xt, yt = smoothed.values
    damped = least + damping * (xx + yy)
    xx, yy = xx + damped, yy + damped
    part = 1 / (2 * (xx * yy - xy * xy))
    changes = (xy * yt - yy * xt) * part, (xy * xt - xx * yt) * part
    changed[x, y, n] = hl.Tuple(
        [given[x, y, axis, n] + hl.clamp(change, -largest, largest) for axis, change in enumerate(changes)]
    )
    out = _numbered(changed)

    row, task = _written(out)
    changed.compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.RoundUp)
    smoothed.rows_of(out, row, task)
    products.compute_at(smoothed.across_twice, y).vectorize(x, LANES, hl.TailStrategy.RoundUp)
    brought.store_at(out, task).compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.RoundUp)
    return [frames, motion, time, doubt, damping, least, largest], [out]


def _median() -> tuple[list[Any], list[Any]]:
    import halide as hl

    motion = hl.ImageParam(hl.Float(32), 3, "motion")
    x, y, _, n = variables()
    width, height = motion.dim(0).extent(), motion.dim(1).extent()
    columns, pairs, fours, middle, out = (hl.Func(name) for name in ("columns", "pairs", "fours", "middle", "out"))
    column = [motion[_kept(x, width), hl.clamp(y + j, 0, height - 1), n] for j in range(-2, 3)]
    columns[x, y, n] = hl.Tuple(_sorted(column))
    # Two neighbouring columns serve as the left two of one pixel and as the right two of another.
    pairs[x, y, n] = hl.Tuple(_merged(_parts(columns, 5, x, y, n), _parts(columns, 5, x + 1, y, n)))
    left, right = _parts(pairs, 10, x - 2, y, n), _parts(pairs, 10, x + 1, y, n)
    # Of the 25, the middle one is the 13th: at most 5 of the middle column are below it, so of the 20 others 7 to 12.
    fours[x, y, n] = hl.Tuple([_ranked(left, right, rank) for rank in range(7, 13)])
    middle[x, y, n] = _ranked(_parts(fours, 6, x, y, n), _parts(columns, 5, x, y, n), 12 - 7)
    out[x, y, n] = middle[x, y, n]

    row, task = _written(out)
    middle.compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.RoundUp)
    fours.compute_at(middle, x).vectorize(x, LANES)
    for function in (columns, pairs):
        function.compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.RoundUp)
    return [motion], [out]


def _parts(function: Any, count: int, *at: Any) -> list[Any]:
    return [function[at][k] for k in range(count)]


def _sorted(values: list[Any]) -> list[Any]:
    """In rising order, by merging halves."""
    if len(values) < 2:
        return values
    half = len(values) // 2
    return _merged(_sorted(values[:half]), _sorted(values[half:]))


def _merged(a: list[Any], b: list[Any]) -> list[Any]:
    """Two rising lists made one: Batcher's odd-even merge."""
    import halide as hl

    if not a or not b:
        return a + b
    if len(a) == len(b) == 1:
        return [hl.min(a[0], b[0]), hl.max(a[0], b[0])]
    even, odd = _merged(a[::2], b[::2]), _merged(a[1::2], b[1::2])
    if len(a) % 2:
        # With a of odd length the odd places of b fall between the even ones of both.
        even, odd = _merged(a[::2], b[1::2]), _merged(a[1::2], b[::2])
    raise NotImplementedError


def _ranked(a: list[Any], b: list[Any], rank: int) -> Any:
    """The value of a rank, from 0, of two rising lists: the least that the first i of a and rank + 1 - i of b reach."""
    import halide as hl

    reached = []
    for i in range(max(0, rank + 1 - len(b)), min(len(a), rank + 1) + 1):
        j = rank + 1 - i
        reached.append(hl.max(a[i - 1], b[j - 1]) if i and j else a[i - 1] if i else b[j - 1])
    least = reached[0]
    for value in reached[1:]:
        least = hl.min(least, value)
    return least
