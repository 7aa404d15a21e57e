"""Steps of an alignment on the CPU: a few rows at a time, so that what lies between reading and writing stays in cache.

Frames `[2B, 1, H, W]` are `f(x, y, n, s)`, s 0 for the firsts and 1 for the seconds; motion `[B, 2, H, W]` is
`f(x, y, c, n)`. A task is some rows of a sample. Each stage of it makes one row when that is first asked for (Halide's
sliding window) and keeps those that are asked for again. Boxes are sums along x, then along y. Beyond the borders the
last pixel is repeated: for x the loops are split, so that the vectors within read memory as it lies.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from midframe.flow.steps.reference import (
    CONTRAST,
    DAMPING,
    DOUBT,
    HOPS,
    LARGEST,
    LEAST_DAMPING,
    LUMA,
    NEIGHBOURHOOD,
    NOISE,
    PREFERENCE,
)
from midframe.ops.halide.compiler import compiled
from midframe.ops.halide.layouts import LANES, variables
from midframe.ops.halide.sorting import merged, ranked, rising

STRIP = 32
"""Rows a task: the first of them need up to a dozen rows above that the task before has made as well."""


def half_luma(frames: Tensor) -> Tensor:
    """Luma at half the size."""
    frames = frames if frames.stride(3) == 1 else frames.contiguous()
    batch, _, height, width = frames.shape
    out = torch.empty((batch, 1, height // 2, width // 2))
    compiled("alignment_half_luma", __file__, _half_luma)(frames, *LUMA, out[:, 0])
    return out


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


def _half_luma() -> tuple[list[Any], list[Any]]:
    import halide as hl

    frames = hl.ImageParam(hl.Float(32), 4, "frames")
    shares = [hl.Param(hl.Float(32), name) for name in ("red", "green", "blue")]
    x, y, _, n = variables()
    out = hl.Func("out")
    pixels = [
        _sum(share * frames[2 * x + i, 2 * y + j, c, n] for c, share in enumerate(shares))
        for j in (0, 1)
        for i in (0, 1)
    ]
    out[x, y, n] = _sum(pixels) / 4
    _written(out)
    return [frames, *shares], [out]


def _normalise(radius: int) -> tuple[list[Any], list[Any]]:
    import halide as hl

    frames, noise = hl.ImageParam(hl.Float(32), 3, "frames"), hl.Param(hl.Float(32), "noise")
    x, y, _, n = variables()
    size = frames.dim(0).extent(), frames.dim(1).extent()
    given, apart, squares, out = (hl.Func(name) for name in ("given", "apart", "squares", "out"))
    given[x, y, n] = frames[_kept(x, size[0]), y, n]
    mean = _Smoothed(given, 1, radius, size)
    apart[x, y, n] = given[x, y, n] - mean.values[0]
    squares[x, y, n] = apart[x, y, n] * apart[x, y, n]
    _repeat(squares, radius, size[0])
    variance = _Smoothed(squares, 1, radius, size)
    out[x, y, n] = apart[x, y, n] / hl.sqrt(variance.values[0] + noise)

    _vectorised(apart.compute_root())
    row, task = _in_strips(apart)
    mean.rows_of(apart, row, task)
    _vectorised(given.store_at(apart, task).compute_at(apart, row))
    row, task = _written(out)
    variance.rows_of(out, row, task)
    _vectorised(squares.compute_at(variance.across_twice, y))
    return [frames, noise], [out]


def _propagate(radius: int, hops: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    import halide as hl

    frames, motion, time, doubt = _inputs()
    preference = hl.Param(hl.Float(32), "preference")
    x, y, c, n = variables()
    k = hl.Var("k")
    width, height = size = motion.dim(0).extent(), motion.dim(1).extent()
    now, before = motion, None
    for turn, hop in enumerate(hops):
        # The motion itself, the first time, then those from the left, right, above and below.
        away = [(-hop, 0), (hop, 0), (0, -hop), (0, hop)]
        away = away if turn else [(0, 0), *away]
        names = "around", "other", "unlike", "row_sums", "cost", "least", "chosen"
        around, other, unlike, row_sums, cost, least, chosen = (hl.Func(f"{name}_{turn}") for name in names)
        around[x, y, c, n] = now[_kept(x, width), y, c, n]
        candidate = hl.clamp(k, 0, len(away) - 1)
        across, down = (hl.mux(candidate, [hl.i32(far[axis]) for far in away]) for axis in (0, 1))
        across, down = hl.clamp(across, -hop, hop), hl.clamp(down, -hop, hop)
        other[x, y, c, k, n] = around[x + across, hl.clamp(y + down, 0, height - 1), c, n]
        by = [other[x, y, axis, k, n] for axis in (0, 1)]
        first, second = (_moved(frames, by, time, size, s) for s in (0, 1))
        squares = (second - first) * (second - first)
        unlike[x, y, k, n] = squares / (squares + doubt)
        _repeat(unlike, radius, width)
        row_sums[x, y, k, n] = _sum(unlike[x + i, y, k, n] for i in range(-radius, radius + 1))
        share = hl.f32(1 / (2 * radius + 1) ** 2)
        total = _sum(row_sums[x, hl.clamp(y + j, 0, height - 1), k, n] for j in range(-radius, radius + 1))
        cost[x, y, k, n] = total * share + hl.select((turn == 0) & (k == 0), 0.0, preference)
        costs = [cost[x, y, k, n] for k in range(len(away))]
        motions = [[hl.Expr(other[x, y, axis, k, n]) for k in range(len(away))] for axis in (0, 1)]
        if before is not None:
            costs.insert(0, before[x, y, n][2])
            for axis in (0, 1):
                motions[axis].insert(0, hl.Expr(around[x, y, axis, n]))
        least[x, y, n] = functools.reduce(hl.min, costs)
        found = [value == least[x, y, n] for value in costs]
        chosen[x, y, n] = hl.Tuple([*(_first_of(found, of) for of in motions), least[x, y, n]])

        _vectorised(around.compute_root())
        _in_strips(around)
        if turn + 1 < len(hops):
            _vectorised(chosen.compute_root())
            function, row, task = chosen, *_in_strips(chosen)
            now, before = _numbered(chosen), chosen
        else:
            out = _numbered(chosen)
            row, task = _written(out)
            _vectorised(chosen.compute_at(out, row))
            function = out
        for per_pixel in (cost, least):
            _vectorised(per_pixel.compute_at(chosen, x))
        cost.unroll(k)
        row_sums.store_at(function, task).compute_at(function, row).reorder(x, k, y, n)
        row_sums.vectorize(x, LANES, hl.TailStrategy.RoundUp)
        _vectorised(unlike.compute_at(row_sums, k))
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
    s = hl.Var("s")
    width, height = size = motion.dim(0).extent(), motion.dim(1).extent()
    names = "given", "brought", "seen", "products", "sums", "change"
    given, brought, seen, products, sums, change = (hl.Func(name) for name in names)
    given[x, y, c, n] = motion[_kept(x, width), y, c, n]
    brought[x, y, n, s] = _moved(frames, [given[x, y, axis, n] for axis in (0, 1)], time, size, s)
    _repeat(brought, 1, width)

    def twice_mean(i: int, j: int) -> Any:
        row = hl.clamp(y + j, 0, height - 1)
        return brought[x + i, row, n, 0] + brought[x + i, row, n, 1]

    apart = brought[x, y, n, 1] - brought[x, y, n, 0]
    across, down = (twice_mean(1, 0) - twice_mean(-1, 0)) / 4, (twice_mean(0, 1) - twice_mean(0, -1)) / 4
    seen[x, y, n] = hl.Tuple([across, down, apart, doubt / (doubt + apart * apart)])
    across, down, apart, say = _parts(seen, 4, x, y, n)
    terms = across * across, across * down, down * down, across * apart, down * apart
    products[x, y, n] = hl.Tuple([say * term for term in terms])
    _repeat(products, radius, width)
    smoothed = _Smoothed(products, 5, radius, size)
    sums[x, y, n] = hl.Tuple(smoothed.values)
    xx, xy, yy, xt, yt = _parts(sums, 5, x, y, n)
    damped = least + damping * (xx + yy)
    xx, yy = xx + damped, yy + damped
    part = 1 / (2 * (xx * yy - xy * xy))
    change[x, y, n] = hl.Tuple([(xy * yt - yy * xt) * part, (xy * xt - xx * yt) * part])
    out = hl.Func("out")
    step = hl.select(c == 0, change[x, y, n][0], change[x, y, n][1])
    out[x, y, c, n] = motion[x, y, c, n] + hl.clamp(step, -largest, largest)

    row, task = _written(out)
    _vectorised(change.compute_at(out, row))
    _vectorised(sums.compute_at(change, x))
    smoothed.rows_of(out, row, task)
    _vectorised(products.compute_at(smoothed.across_twice, y))
    _vectorised(seen.compute_at(products, x))
    _vectorised(brought.store_at(out, task).compute_at(out, row).bound(s, 0, 2).reorder(x, s, y, n))
    return [frames, motion, time, doubt, damping, least, largest], [out]


def _median() -> tuple[list[Any], list[Any]]:
    import halide as hl

    motion = hl.ImageParam(hl.Float(32), 3, "motion")
    x, y, _, n = variables()
    width, height = motion.dim(0).extent(), motion.dim(1).extent()
    columns, pairs, fours, middle, out = (hl.Func(name) for name in ("columns", "pairs", "fours", "middle", "out"))
    column = [motion[_kept(x, width), hl.clamp(y + j, 0, height - 1), n] for j in range(-2, 3)]
    columns[x, y, n] = hl.Tuple(rising(column))
    # Two neighbouring columns serve as the left two of one pixel and as the right two of another.
    pairs[x, y, n] = hl.Tuple(merged(_parts(columns, 5, x, y, n), _parts(columns, 5, x + 1, y, n)))
    left, right = _parts(pairs, 10, x - 2, y, n), _parts(pairs, 10, x + 1, y, n)
    # Of the 25, the middle one is the 13th: at most 5 of the middle column are below it, so of the 20 others 7 to 12.
    fours[x, y, n] = hl.Tuple([ranked(left, right, rank) for rank in range(7, 13)])
    middle[x, y, n] = ranked(_parts(fours, 6, x, y, n), _parts(columns, 5, x, y, n), 12 - 7)
    out[x, y, n] = middle[x, y, n]

    row, _ = _written(out)
    _vectorised(middle.compute_at(out, row))
    fours.compute_at(middle, x).vectorize(x, LANES)
    for function in (columns, pairs):
        _vectorised(function.compute_at(out, row))
    return [motion], [out]


def _parts(function: Any, count: int, *at: Any) -> list[Any]:
    return [function[at][k] for k in range(count)] if count > 1 else [function[at]]


def _first_of(found: list[Any], values: list[Any]) -> Any:
    """The first of the values that is found; the last where no other is."""
    import halide as hl

    picked = values[-1]
    for is_it, value in zip(reversed(found[:-1]), reversed(values[:-1]), strict=True):
        picked = hl.select(is_it, value, picked)
    return picked


def _inputs() -> tuple[Any, Any, Any, Any]:
    """Frames (x, y, n, s), motion (x, y, c, n), time (n), and the squared difference that halves a pixel's say."""
    import halide as hl

    sizes = (("frames", 4), ("motion", 4), ("time", 1))
    return *(hl.ImageParam(hl.Float(32), dimensions, name) for name, dimensions in sizes), hl.Param(
        hl.Float(32), "doubt"
    )


def _moved(frames: Any, motion: list[Any], time: Any, size: tuple[Any, Any], s: Any) -> Any:
    """Frame s of both at (x, y, n) brought to the time by the motion there: read as `midframe.ops.warp` reads."""
    import halide as hl

    x, y, _, n = variables()
    scale = hl.select(s == 0, -2 * time[n], 2 * (1 - time[n]))
    places = []
    for at, far, extent in zip((x, y), motion, size, strict=True):
        position = at + far * scale
        kept = hl.select(position > 0, hl.min(position, hl.cast(hl.Float(32), extent - 1)), 0.0)
        near = hl.clamp(hl.cast(hl.Int(32), kept), 0, extent - 1)
        places.append((near, hl.min(near + 1, extent - 1), kept - near))
    (left, right, a), (top, bottom, b) = places
    upper, lower = ((1 - a) * frames[left, row, n, s] + a * frames[right, row, n, s] for row in (top, bottom))
    return (1 - b) * upper + b * lower


def _repeat(function: Any, reach: int, width: Any) -> None:
    """Beyond the borders along x, make a function what its last pixel is.

    What stands beyond is worked out with the rest and written over: so all that is read lies side by side.
    """
    import halide as hl

    others = function.args()[1:]
    beyond = hl.RDom([(0, reach)])
    for update, (border, last) in enumerate(((-1 - beyond, 0), (width + beyond, width - 1))):
        copied = _parts(function, function.outputs(), last, *others)
        function[(border, *others)] = hl.Tuple(copied) if len(copied) > 1 else copied[0]
        function.update(update).unscheduled()


class _Smoothed:
    """Maps (x, y, n), known `radius` beyond the borders, averaged over boxes twice: first along x, then along y."""

    def __init__(self, maps: Any, count: int, radius: int, size: tuple[Any, Any]) -> None:
        import halide as hl

        x, y, _, n = variables()
        width, height = size
        reach = range(-radius, radius + 1)
        stages = "across", "across_twice", "down"
        self.across, self.across_twice, self.down = (hl.Func(f"{maps.name()}_{stage}") for stage in stages)

        def along_x(function: Any) -> list[Any]:
            return [_sum(_parts(function, count, x + i, y, n)[q] for i in reach) for q in range(count)]

        def along_y(function: Any) -> list[Any]:
            rows = [hl.clamp(y + j, 0, height - 1) for j in reach]
            return [_sum(_parts(function, count, x, row, n)[q] for row in rows) for q in range(count)]

        self.across[x, y, n] = hl.Tuple(along_x(maps))
        _repeat(self.across, radius, width)
        self.across_twice[x, y, n] = hl.Tuple(along_x(self.across))
        self.down[x, y, n] = hl.Tuple(along_y(self.across_twice))
        self.values = [total * hl.f32(1 / len(reach) ** 4) for total in along_y(self.down)]

    def rows_of(self, function: Any, row: Any, task: Any) -> None:
        """Make a row of each stage for a row of the function, and keep those of the task."""
        for stage in (self.across_twice, self.down):
            _vectorised(stage.store_at(function, task).compute_at(function, row))
        _vectorised(self.across.compute_at(self.across_twice, variables()[1]))


def _vectorised(function: Any) -> Any:
    """Whole vectors along x: there is room for more than is asked for."""
    import halide as hl

    return function.vectorize(variables()[0], LANES, hl.TailStrategy.RoundUp)


def _kept(x: Any, width: Any) -> Any:
    """A column within the picture; most are, so loops are split where that begins and ends."""
    import halide as hl

    return hl.clamp(hl.likely(x), 0, width - 1)


def _sum(values: Iterable[Any]) -> Any:
    return functools.reduce(operator.add, values)


def _written(out: Any) -> tuple[Any, Any]:
    """Loops over an output (x, y, n) or (x, y, c, n). Returns the variables of a row and of a task."""
    import halide as hl

    x, y, c, n = variables()
    if out.dimensions() == 4:
        out.bound(c, 0, 2).reorder(x, c, y, n)
    out.vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
    return _in_strips(out)


def _in_strips(function: Any) -> tuple[Any, Any]:
    """Tasks of some rows of a sample. Returns the variables of a row and of a task."""
    import halide as hl

    _, y, _, n = variables()
    row, strip, task = hl.Var("row"), hl.Var("strip"), hl.Var("task")
    function.split(y, strip, row, STRIP, hl.TailStrategy.GuardWithIf).fuse(strip, n, task).parallel(task)
    return row, task
