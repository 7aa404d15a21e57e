"""Halide pipelines of adaptive separable convolution with short dense kernels whose maps are smaller than the picture.

The kernels of a pixel lie between those of four neighbouring map pixels. Upsampled maps never exist as a whole: they
are made tile by tile, where they are used. A picture column x = scale * X + p is held as phase p at X, so that pixels
of one phase, which lie equally between map pixels, are one vector, and nothing is gathered.

T, the channels and the scale are fixed for each pipeline, so T x T taps are unrolled and their sums stay in registers.
Pictures are float32 `[B, C, H, W]`, kernels `[B, T, H / scale, W / scale]` in their own type with neighbouring columns
side by side.
"""

from __future__ import annotations

from typing import Any

import torch

from midframe.ops.halide.compiler import read, write

Definition = tuple[list[Any], list[Any]]

LANES = 16
ROWS = 8
"""Rows of the maps in a task."""


def forward(kernels: torch.dtype, channels: int, taps: int, scale: int) -> Definition:
    """(image, vertical, horizontal, replicate) -> out."""
    import halide as hl

    f = _Short(kernels, channels, taps, scale)
    total, out = hl.Func("total"), hl.Func("out")
    total[f.X, f.p, f.c, f.y, f.n] = _sum(
        f.v[f.X, f.p, i, f.y, f.n] * _sum(f.h[f.X, f.p, j, f.y, f.n] * f.pixel(f.c, i, j) for j in range(taps))
        for i in range(taps)
    )
    out[f.x, f.y, f.c, f.n] = total[f.x // scale, f.x % scale, f.c, f.y, f.n]
    out.bound(f.c, 0, channels)
    row, block, task = f.loops(out, f.c)
    f.vectors(total.compute_at(out, block)).unroll(f.c)
    f.stage(out, row, block, task)
    f.phased(f.picture, out, task)
    return [f.image, f.vertical, f.horizontal, f.replicate], [out]


def gradient_kernels(kernels: torch.dtype, channels: int, taps: int, scale: int) -> Definition:
    """(image, vertical, horizontal, grad_out, replicate) -> grad_vertical, grad_horizontal."""
    import halide as hl

    f = _Short(kernels, channels, taps, scale)
    X, p, y, n, i, j = f.X, f.p, f.y, f.n, f.i, hl.Var("j")
    grad_out = _dense("grad_out", torch.float32)
    g = f.phases(grad_out, "g", zero=True)
    product, full, rows, out = (hl.Func(name) for name in ("product", "full", "rows", "out"))
    product[X, p, i, j, y, n] = _sum(g[X, p, c, y, n] * f.pixel(c, i, j) for c in range(channels))
    full[X, p, i, y, n] = hl.Tuple(
        [
            _sum(f.h[X, p, k, y, n] * product[X, p, i, k, y, n] for k in range(taps)),
            _sum(f.v[X, p, k, y, n] * product[X, p, k, i, y, n] for k in range(taps)),
        ]
    )
    # Beyond the edge the maps repeat, so what their last pixel gets is that of rows and columns mirrored there.
    reach = range(-(scale // 2), scale + scale // 2)
    weight = {far: 1 - abs(far + 0.5 - scale / 2) / scale for far in reach}
    Y, width, height = hl.Var("Y"), f.width, f.height * scale
    parts = []
    for far in reach:
        row = scale * Y + far
        row = hl.select(row < 0, -1 - row, hl.select(row >= height, 2 * height - 1 - row, row))
        parts.append([weight[far] * full[X, p, i, hl.clamp(row, 0, height - 1), n][k] for k in range(2)])
    summed = hl.Func("summed")
    summed[X, p, i, Y, n] = hl.Tuple([_sum(part[k] for part in parts) for k in range(2)])
    rows[X, p, i, Y, n] = hl.Tuple([hl.undef(hl.Float(32))] * 2)
    inside = hl.RDom([(0, width)])
    rows[inside.x, p, i, Y, n] = summed[inside.x, p, i, Y, n]
    other = hl.RDom([(0, scale)]).x
    rows[-1, other, i, Y, n] = rows[0, scale - 1 - other, i, Y, n]
    rows[width, other, i, Y, n] = rows[width - 1, scale - 1 - other, i, Y, n]
    columns = [[weight[far] * rows[X + far // scale, far % scale, i, Y, n][k] for far in reach] for k in range(2)]
    out[X, Y, i, n] = hl.Tuple([write(_sum(column), kernels) for column in columns])

    strip, row_, task, block, lane = (hl.Var(name) for name in ("strip", "row", "task", "block", "lane"))
    guard = hl.TailStrategy.GuardWithIf
    out.bound(i, 0, taps).split(Y, strip, row_, ROWS, guard).split(X, block, lane, LANES, guard)
    out.reorder(lane, block, i, row_, strip, n).vectorize(lane).fuse(strip, n, task).parallel(task)
    rows.update(1).unscheduled()
    rows.update(2).unscheduled()
    rows.compute_at(out, i).bound(p, 0, scale)
    rows.update(0).reorder(inside.x, p).vectorize(inside.x, LANES, guard).unroll(p)
    inner = hl.Var("inner")
    full.compute_at(out, task).bound(p, 0, scale).bound(i, 0, taps)
    full.split(X, block, inner, LANES, hl.TailStrategy.RoundUp).reorder(inner, i, p, block, y).vectorize(inner)
    full.unroll(i)
    product.compute_at(full, p).vectorize(X, LANES, hl.TailStrategy.RoundUp).unroll(i).unroll(j)
    f.stage(full, y, block, None)
    f.phased(f.picture, out, task)
    f.phased(g, out, task)
    return [f.image, f.vertical, f.horizontal, grad_out, f.replicate], [out]


def gradient_image(kernels: torch.dtype, channels: int, taps: int, scale: int) -> Definition:
    """(vertical, horizontal, grad_out) -> gradient of the picture with T // 2 pixels of border on each side."""
    import halide as hl

    f = _Short(kernels, channels, taps, scale)
    X, p, c, y, n = f.X, f.p, f.c, f.y, f.n
    grad_out = _dense("grad_out", torch.float32)
    g = f.phases(grad_out, "g", zero=True)
    total, out = hl.Func("total"), hl.Func("out")
    terms = []
    for i in range(taps):
        for j in range(taps):
            column, phase, row = X + (p - j) // scale, (p - j) % scale, y - i
            weights = f.v[column, phase, i, row, n] * f.h[column, phase, j, row, n]
            terms.append([weights * g[column, phase, k, row, n] for k in range(channels)])
    total[X, p, y, n] = hl.Tuple([_sum(term[k] for term in terms) for k in range(channels)])
    made = total[f.x // scale, f.x % scale, y, n]
    out[f.x, y, c, n] = hl.mux(c, [made[k] for k in range(channels)]) if channels > 1 else made
    out.bound(c, 0, channels)
    row, block, task = f.loops(out, c)
    f.vectors(total.compute_at(out, block))
    f.stage(out, row, None, task)
    f.phased(g, out, task)
    return [f.vertical, f.horizontal, grad_out], [out]


class _Short:
    """What the pipelines share: inputs, the picture in phases, and the kernels of every pixel.

    x, y: a pixel; X: a column of the maps, p the phase of a pixel there.
    """

    def __init__(self, kernels: torch.dtype, channels: int, taps: int, scale: int) -> None:
        import halide as hl

        self.channels, self.taps, self.scale = channels, taps, scale
        self.halo = -(-(taps - 1) // scale)
        self.inside: dict[str, Any] = {}
        self.x, self.y, self.c, self.n, self.i = (hl.Var(name) for name in ("x", "y", "c", "n", "i"))
        self.X, self.p = hl.Var("X"), hl.Var("p")
        self.image = _dense("image", torch.float32)
        self.vertical, self.horizontal = (_dense(name, kernels) for name in ("vertical", "horizontal"))
        self.replicate = hl.Param(hl.Int(32), "replicate")
        self.width, self.height = self.vertical.dim(0).extent(), self.vertical.dim(1).extent()
        self.picture = self.phases(self.image, "picture", zero=self.replicate == 0)
        self.v_rows, self.v = self._upsampled(self.vertical, kernels)
        self.h_rows, self.h = self._upsampled(self.horizontal, kernels)

    def phases(self, picture: Any, name: str, zero: Any) -> Any:
        """A picture `(X, p, c, y, n)`; beyond its edge zero, or the nearest pixel."""
        import halide as hl

        p, c, y, n = self.p, self.c, self.y, self.n
        width, height = self.width * self.scale, self.height * self.scale
        outside = (y < 0) | (y >= height)

        def at(x: Any, outside: Any) -> Any:
            return hl.select(outside & zero, 0.0, picture[x, hl.clamp(y, 0, height - 1), c, n])

        made = hl.Func(name)
        inside, beyond = hl.RDom([(0, self.width)]), hl.RDom([(0, self.halo)])
        made[self.X, p, c, y, n] = hl.undef(hl.Float(32))
        made[inside.x, p, c, y, n] = at(self.scale * inside.x + p, outside)
        made[-1 - beyond.x, p, c, y, n] = at(0, True)
        made[self.width + beyond.x, p, c, y, n] = at(width - 1, True)
        self.inside[made.name()] = inside.x
        return made

    def pixel(self, c: Any, i: Any, j: Any) -> Any:
        """What tap (i, j) of the pixel at (X, p, y) reads."""
        far = self.p + j - self.taps // 2
        return self.picture[self.X + far // self.scale, far % self.scale, c, self.y + i - self.taps // 2, self.n]

    def _upsampled(self, maps: Any, kernels: torch.dtype) -> tuple[Any, Any]:
        """Kernels `(X, i, y, n)` at the picture's rows, and from these `(X, p, i, y, n)` at its pixels."""
        import halide as hl

        rows, made = hl.Func(f"{maps.name()}_rows"), hl.Func(f"{maps.name()}_made")
        y, q = self.y // self.scale, self.y % self.scale
        above, b = self._between(q)
        i, n, inside = self.i, self.n, hl.RDom([(0, self.width)]).x
        self.inside[rows.name()] = inside
        near = [read(maps[inside, hl.clamp(y + above + k, 0, self.height - 1), i, n], kernels) for k in (0, 1)]
        rows[self.X, i, self.y, n] = hl.undef(hl.Float(32))
        rows[inside, i, self.y, n] = (1 - b) * near[0] + b * near[1]
        # One column beyond is read; those further out meet gradients that are zero, so they must be numbers.
        beyond = hl.RDom([(0, self.halo + 1)]).x
        rows[-1 - beyond, i, self.y, n] = rows[0, i, self.y, n]
        rows[self.width + beyond, i, self.y, n] = rows[self.width - 1, i, self.y, n]
        left, a = self._between(self.p)
        at = [rows[self.X + left + k, self.i, self.y, self.n] for k in (0, 1)]
        made[self.X, self.p, self.i, self.y, self.n] = (1 - a) * at[0] + a * at[1]
        return rows, made

    def _between(self, phase: Any) -> tuple[Any, Any]:
        """The map pixel before a phase, -1 or 0 from its own, and the weight of the one after it."""
        import halide as hl

        far = 2 * phase + 1 - self.scale
        return far // (2 * self.scale), hl.cast(hl.Float(32), far % (2 * self.scale)) / (2 * self.scale)

    def loops(self, out: Any, c: Any) -> tuple[Any, Any, Any]:
        """Loops over a picture (x, y, c, n): its row, block of columns, and task."""
        import halide as hl

        strip, row, task, block, lane = (hl.Var(name) for name in ("strip", "row", "task", "block", "lane"))
        guard = hl.TailStrategy.GuardWithIf
        out.split(self.y, strip, row, ROWS * self.scale, guard)
        out.split(self.x, block, lane, LANES * self.scale, guard)
        out.reorder(lane, c, block, row, strip, self.n).vectorize(lane, LANES).unroll(c)
        out.fuse(strip, self.n, task).parallel(task)
        return row, block, task

    def vectors(self, sums: Any) -> Any:
        """A function of (X, p) in vectors of one phase, stored as the picture is."""
        import halide as hl

        sums.bound(self.p, 0, self.scale).reorder_storage(self.p, self.X)
        return sums.reorder(self.X, self.p).vectorize(self.X, LANES, hl.TailStrategy.RoundUp).unroll(self.p)

    def stage(self, out: Any, row: Any, block: Any, task: Any) -> None:
        """Kernels of the rows at each row, and of the pixels at each block; with a task, both for its rows."""
        import halide as hl

        for rows, made in ((self.v_rows, self.v), (self.h_rows, self.h)):
            made.bound(self.p, 0, self.scale).compute_at(out, block if task is None or block is not None else task)
            made.vectorize(self.X, LANES, hl.TailStrategy.RoundUp).unroll(self.p)
            if block is None:
                rows.compute_at(made, self.y)
            else:
                rows.compute_at(out, row)
            rows.update(1).unscheduled()
            rows.update(2).unscheduled()
            rows.update(0).vectorize(self.inside[rows.name()], LANES, hl.TailStrategy.GuardWithIf)

    def phased(self, picture: Any, out: Any, task: Any) -> None:
        import halide as hl

        picture.bound(self.p, 0, self.scale).compute_at(out, task)
        picture.update(1).unscheduled()
        picture.update(2).unscheduled()
        inside = self.inside[picture.name()]
        first = picture.update(0).reorder(inside, self.p, self.y, self.c)
        first.vectorize(inside, LANES, hl.TailStrategy.GuardWithIf).unroll(self.p)


def _dense(name: str, dtype: torch.dtype) -> Any:
    """An input whose neighbouring columns lie side by side."""
    import halide as hl

    return hl.ImageParam(hl.Float(32) if dtype is torch.float32 else hl.UInt(16), 4, name)


def _sum(terms: Any) -> Any:
    total, *rest = terms
    for term in rest:
        total = total + term
    return total
