"""Define the Halide pipelines of separable convolution that upsample small kernel maps as they read them.

The kernel maps are smaller than the image by a whole factor, `scale`. The kernel of a pixel is interpolated between the
kernels of the four nearest map pixels. The upsampled maps never exist as a whole: they are computed for a block of
pixels at a time. A column x = scale * X + p of the image is stored as phase p at X. All pixels of one phase have the
same position between map pixels, so they form one vector and no gather is needed.

T, the number of channels and the scale are constants of each pipeline, so T x T taps are unrolled and their sums stay
in registers. Kernels are short and dense. Images are float32 `[B, C, H, W]`; kernel maps `[B, T, H / scale, W / scale]`
have their own type. Neighbouring columns of both are adjacent in memory.
"""

from __future__ import annotations

from typing import Any

import torch

from midframe.ops.halide.compiler import from_float32, native_lanes, to_float32
from midframe.ops.separable.halide.dense import Definition, add_terms

ROWS = 8
"""Rows of the kernel maps that one task computes."""


def forward(kernels: torch.dtype, channels: int, taps: int, scale: int) -> Definition:
    """Define (image, vertical, horizontal, replicate) -> out, the convolved image."""
    import halide as hl

    f = _Pipeline(kernels, taps, scale)
    total, out = hl.Func("total"), hl.Func("out")
    total[f.X, f.p, f.c, f.y, f.n] = add_terms(
        f.v[f.X, f.p, i, f.y, f.n] * add_terms(f.h[f.X, f.p, j, f.y, f.n] * f.pixel(f.c, i, j) for j in range(taps))
        for i in range(taps)
    )
    out[f.x, f.y, f.c, f.n] = total[f.x // scale, f.x % scale, f.c, f.y, f.n]
    out.bound(f.c, 0, channels)
    row, block, task = f.schedule_image(out, f.c)
    f.vectorise_phases(total.compute_at(out, block)).unroll(f.c)
    f.compute_kernels_per_block(out, row, block)
    f.compute_phases_per_task(f.image_phases, out, task)
    return [f.image, f.vertical, f.horizontal, f.replicate], [out]


def gradient_kernels(kernels: torch.dtype, channels: int, taps: int, scale: int) -> Definition:
    """Define (image, vertical, horizontal, grad_out, replicate) -> grad_vertical, grad_horizontal."""
    gradients = _KernelGradients(kernels, channels, taps, scale)
    gradients.schedule()
    f = gradients.pipeline
    return [f.image, f.vertical, f.horizontal, gradients.grad_out, f.replicate], [gradients.out]


class _KernelGradients:
    """The stages of `gradient_kernels` and their schedule.

    `full` holds the gradients of the upsampled kernels at every pixel of the image. Their sums over the pixels that
    read a map pixel, first down the columns (`rows`), then along the rows (`out`), are the gradients of the maps.
    """

    def __init__(self, kernels: torch.dtype, channels: int, taps: int, scale: int) -> None:
        import halide as hl

        f = self.pipeline = _Pipeline(kernels, taps, scale)
        X, p, y, n, i = f.X, f.p, f.y, f.n, f.i
        j = self.j = hl.Var("j")
        self.grad_out = _adjacent_columns("grad_out", torch.float32)
        self.g = f.phases(self.grad_out, "g", zero=True)
        self.product, self.full, self.rows, self.out = (hl.Func(name) for name in ("product", "full", "rows", "out"))
        self.product[X, p, i, j, y, n] = add_terms(self.g[X, p, c, y, n] * f.pixel(c, i, j) for c in range(channels))
        self.full[X, p, i, y, n] = hl.Tuple(
            [
                add_terms(f.h[X, p, k, y, n] * self.product[X, p, i, k, y, n] for k in range(taps)),
                add_terms(f.v[X, p, k, y, n] * self.product[X, p, k, i, y, n] for k in range(taps)),
            ]
        )
        self._sum_over_readers(kernels, scale)

    def _sum_over_readers(self, kernels: torch.dtype, scale: int) -> None:
        """Define `rows` and `out`: the transpose of the bilinear upsampling, first down the columns."""
        import halide as hl

        f, full, rows = self.pipeline, self.full, self.rows
        X, p, n, i = f.X, f.p, f.n, f.i
        # Upsampling clamps at the edge, so beyond it the gradients at the image's pixels count mirrored.
        reach = range(-(scale // 2), scale + scale // 2)
        weight = {offset: 1 - abs(offset + 0.5 - scale / 2) / scale for offset in reach}
        Y, width, height = hl.Var("Y"), f.width, f.height * scale
        terms = []
        for offset in reach:
            row = scale * Y + offset
            row = hl.select(row < 0, -1 - row, hl.select(row >= height, 2 * height - 1 - row, row))
            terms.append([weight[offset] * full[X, p, i, hl.clamp(row, 0, height - 1), n][k] for k in range(2)])
        summed = hl.Func("summed")
        summed[X, p, i, Y, n] = hl.Tuple([add_terms(term[k] for term in terms) for k in range(2)])
        rows[X, p, i, Y, n] = hl.Tuple([hl.undef(hl.Float(32))] * 2)
        self.inside, mirrored = hl.RDom([(0, width)]).x, hl.RDom([(0, scale)]).x
        rows[self.inside, p, i, Y, n] = summed[self.inside, p, i, Y, n]
        rows[-1, mirrored, i, Y, n] = rows[0, scale - 1 - mirrored, i, Y, n]
        rows[width, mirrored, i, Y, n] = rows[width - 1, scale - 1 - mirrored, i, Y, n]
        columns = [
            [weight[offset] * rows[X + offset // scale, offset % scale, i, Y, n][k] for offset in reach]
            for k in range(2)
        ]
        self.out[X, Y, i, n] = hl.Tuple([from_float32(add_terms(column), kernels) for column in columns])
        self.Y = Y

    def schedule(self) -> None:
        import halide as hl

        f, X, p, i = self.pipeline, self.pipeline.X, self.pipeline.p, self.pipeline.i
        strip, row, task, block, lane = (hl.Var(name) for name in ("strip", "row", "task", "block", "lane"))
        guard, whole = hl.TailStrategy.GuardWithIf, hl.TailStrategy.RoundUp
        self.out.bound(i, 0, f.taps).split(self.Y, strip, row, ROWS, guard).split(X, block, lane, f.lanes, guard)
        self.out.reorder(lane, block, i, row, strip, f.n).vectorize(lane).fuse(strip, f.n, task).parallel(task)
        self.rows.update(1).unscheduled()
        self.rows.update(2).unscheduled()
        self.rows.compute_at(self.out, i).bound(p, 0, f.scale)
        self.rows.update(0).reorder(self.inside, p).vectorize(self.inside, f.lanes, guard).unroll(p)
        inner = hl.Var("inner")
        self.full.compute_at(self.out, task).bound(p, 0, f.scale).bound(i, 0, f.taps)
        self.full.split(X, block, inner, f.lanes, whole).reorder(inner, i, p, block, f.y).vectorize(inner)
        self.full.unroll(i)
        self.product.compute_at(self.full, p).vectorize(X, f.lanes, whole).unroll(i).unroll(self.j)
        f.compute_kernels_per_block(self.full, f.y, block)
        f.compute_phases_per_task(f.image_phases, self.out, task)
        f.compute_phases_per_task(self.g, self.out, task)


def gradient_image(kernels: torch.dtype, channels: int, taps: int, scale: int) -> Definition:
    """Define (vertical, horizontal, grad_out) -> gradient of the image padded by T // 2 pixels on each side."""
    import halide as hl

    f = _Pipeline(kernels, taps, scale)
    X, p, c, y, n = f.X, f.p, f.c, f.y, f.n
    grad_out = _adjacent_columns("grad_out", torch.float32)
    g = f.phases(grad_out, "g", zero=True)
    total, out = hl.Func("total"), hl.Func("out")
    terms = []
    for i in range(taps):
        for j in range(taps):
            column, phase, row = X + (p - j) // scale, (p - j) % scale, y - i
            weights = f.v[column, phase, i, row, n] * f.h[column, phase, j, row, n]
            terms.append([weights * g[column, phase, k, row, n] for k in range(channels)])
    total[X, p, y, n] = hl.Tuple([add_terms(term[k] for term in terms) for k in range(channels)])
    value = total[f.x // scale, f.x % scale, y, n]
    out[f.x, y, c, n] = hl.mux(c, [value[k] for k in range(channels)]) if channels > 1 else value
    out.bound(c, 0, channels)
    _, block, task = f.schedule_image(out, c)
    f.vectorise_phases(total.compute_at(out, block))
    f.compute_kernels_per_task(out, task)
    f.compute_phases_per_task(g, out, task)
    return [f.vertical, f.horizontal, grad_out], [out]


class _Pipeline:
    """The inputs, variables and first stages that the pipelines share, and parts of their schedules.

    (x, y) is a pixel of the image, c its channel, n its sample. X is a column of the kernel maps and p the phase of a
    pixel there; i is an index of kernel values.

    `image_phases` is the image as (X, p, c, y, n), with a border. `v_rows` and `h_rows` are the kernel maps upsampled
    to the rows of the image, (X, i, y, n); `v` and `h` are upsampled to its pixels, (X, p, i, y, n).
    """

    def __init__(self, kernels: torch.dtype, taps: int, scale: int) -> None:
        import halide as hl

        self.taps, self.scale = taps, scale
        # Vectors wider than the processor's would take LLVM minutes, because all taps are unrolled.
        self.lanes = native_lanes()
        self.halo = -(-(taps - 1) // scale)  # columns of the maps that taps reach beyond the edge
        self.inside: dict[str, Any] = {}  # the variable over the columns inside of the image, by name of the function
        self.x, self.y, self.c, self.n, self.i = (hl.Var(name) for name in ("x", "y", "c", "n", "i"))
        self.X, self.p = hl.Var("X"), hl.Var("p")
        self.image = _adjacent_columns("image", torch.float32)
        self.vertical, self.horizontal = (_adjacent_columns(name, kernels) for name in ("vertical", "horizontal"))
        self.replicate = hl.Param(hl.Int(32), "replicate")
        self.width, self.height = self.vertical.dim(0).extent(), self.vertical.dim(1).extent()
        self.image_phases = self.phases(self.image, "picture", zero=self.replicate == 0)
        self.v_rows, self.v = self._upsample(self.vertical, kernels)
        self.h_rows, self.h = self._upsample(self.horizontal, kernels)

    def phases(self, image: Any, name: str, zero: Any) -> Any:
        """Return an image as a function (X, p, c, y, n); beyond its edge it is zero or repeats the nearest pixel."""
        import halide as hl

        p, c, y, n = self.p, self.c, self.y, self.n
        width, height = self.width * self.scale, self.height * self.scale
        row_outside = (y < 0) | (y >= height)

        def value(x: Any, outside: Any) -> Any:
            return hl.select(outside & zero, 0.0, image[x, hl.clamp(y, 0, height - 1), c, n])

        phases = hl.Func(name)
        inside, beyond = hl.RDom([(0, self.width)]), hl.RDom([(0, self.halo)])
        phases[self.X, p, c, y, n] = hl.undef(hl.Float(32))
        phases[inside.x, p, c, y, n] = value(self.scale * inside.x + p, row_outside)
        phases[-1 - beyond.x, p, c, y, n] = value(0, True)
        phases[self.width + beyond.x, p, c, y, n] = value(width - 1, True)
        self.inside[phases.name()] = inside.x
        return phases

    def pixel(self, c: Any, i: Any, j: Any) -> Any:
        """Return the pixel of the image that tap (i, j) of the output pixel at (X, p, y) reads."""
        column = self.p + j - self.taps // 2
        row = self.y + i - self.taps // 2
        return self.image_phases[self.X + column // self.scale, column % self.scale, c, row, self.n]

    def _upsample(self, maps: Any, kernels: torch.dtype) -> tuple[Any, Any]:
        """Return kernel maps at the rows of the image, (X, i, y, n), and at its pixels, (X, p, i, y, n)."""
        import halide as hl

        rows, upsampled = hl.Func(f"{maps.name()}_rows"), hl.Func(f"{maps.name()}_upsampled")
        y, row_phase = self.y // self.scale, self.y % self.scale
        above, b = self._neighbour(row_phase)
        i, n, inside = self.i, self.n, hl.RDom([(0, self.width)]).x
        self.inside[rows.name()] = inside
        near = [to_float32(maps[inside, hl.clamp(y + above + k, 0, self.height - 1), i, n], kernels) for k in (0, 1)]
        rows[self.X, i, self.y, n] = hl.undef(hl.Float(32))
        rows[inside, i, self.y, n] = (1 - b) * near[0] + b * near[1]
        # Only one column beyond the edge is interpolated with. The others are multiplied by gradients that are zero,
        # so they must be finite.
        beyond = hl.RDom([(0, self.halo + 1)]).x
        rows[-1 - beyond, i, self.y, n] = rows[0, i, self.y, n]
        rows[self.width + beyond, i, self.y, n] = rows[self.width - 1, i, self.y, n]
        left, a = self._neighbour(self.p)
        near = [rows[self.X + left + k, self.i, self.y, self.n] for k in (0, 1)]
        upsampled[self.X, self.p, self.i, self.y, self.n] = (1 - a) * near[0] + a * near[1]
        return rows, upsampled

    def _neighbour(self, phase: Any) -> tuple[Any, Any]:
        """Return where a phase lies between map pixels: the offset of the first, -1 or 0, and the second's weight."""
        import halide as hl

        position = 2 * phase + 1 - self.scale
        return position // (2 * self.scale), hl.cast(hl.Float(32), position % (2 * self.scale)) / (2 * self.scale)

    def schedule_image(self, out: Any, c: Any) -> tuple[Any, Any, Any]:
        """Schedule an output (x, y, c, n). Return the variables of its rows, blocks of columns, and parallel tasks."""
        import halide as hl

        strip, row, task, block, lane = (hl.Var(name) for name in ("strip", "row", "task", "block", "lane"))
        guard = hl.TailStrategy.GuardWithIf
        out.split(self.y, strip, row, ROWS * self.scale, guard)
        out.split(self.x, block, lane, self.lanes * self.scale, guard)
        out.reorder(lane, c, block, row, strip, self.n).vectorize(lane, self.lanes).unroll(c)
        out.fuse(strip, self.n, task).parallel(task)
        return row, block, task

    def vectorise_phases(self, stage: Any) -> Any:
        """Compute a stage over (X, p) in vectors of one phase, and store the phases interleaved, as in the image."""
        import halide as hl

        stage.bound(self.p, 0, self.scale).reorder_storage(self.p, self.X)
        return stage.reorder(self.X, self.p).vectorize(self.X, self.lanes, hl.TailStrategy.RoundUp).unroll(self.p)

    def compute_kernels_per_block(self, out: Any, row: Any, block: Any) -> None:
        """Upsample the kernels to a row of `out` for each of its rows, and to pixels for each block of columns."""
        for rows, upsampled in ((self.v_rows, self.v), (self.h_rows, self.h)):
            self._vectorise_kernels(rows, upsampled)
            upsampled.compute_at(out, block)
            rows.compute_at(out, row)

    def compute_kernels_per_task(self, out: Any, task: Any) -> None:
        """Upsample the kernels of all rows that a task of `out` reads before the task."""
        for rows, upsampled in ((self.v_rows, self.v), (self.h_rows, self.h)):
            self._vectorise_kernels(rows, upsampled)
            upsampled.compute_at(out, task)
            rows.compute_at(upsampled, self.y)

    def _vectorise_kernels(self, rows: Any, upsampled: Any) -> None:
        import halide as hl

        upsampled.bound(self.p, 0, self.scale)
        upsampled.vectorize(self.X, self.lanes, hl.TailStrategy.RoundUp).unroll(self.p)
        rows.update(1).unscheduled()
        rows.update(2).unscheduled()
        rows.update(0).vectorize(self.inside[rows.name()], self.lanes, hl.TailStrategy.GuardWithIf)

    def compute_phases_per_task(self, phases: Any, out: Any, task: Any) -> None:
        """Compute the phases of an image for each task of `out`."""
        import halide as hl

        phases.bound(self.p, 0, self.scale).compute_at(out, task)
        phases.update(1).unscheduled()
        phases.update(2).unscheduled()
        inside = self.inside[phases.name()]
        first = phases.update(0).reorder(inside, self.p, self.y, self.c)
        first.vectorize(inside, self.lanes, hl.TailStrategy.GuardWithIf).unroll(self.p)


def _adjacent_columns(name: str, dtype: torch.dtype) -> Any:
    """Return an input whose neighbouring columns are adjacent in memory."""
    import halide as hl

    return hl.ImageParam(hl.Float(32) if dtype is torch.float32 else hl.UInt(16), 4, name)
