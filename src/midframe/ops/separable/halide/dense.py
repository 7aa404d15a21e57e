"""The Halide pipelines of dense adaptive separable convolution, forward and backward.

One output pixel takes T^2 multiply-adds for each channel; read naively, each of them loads its own unaligned vector of
the picture. Here a tile is one vector of pixels wide and `rows` high. A picture vector, loaded once, serves every row
of the tile: picture row y + i belongs to tap i of row y, to tap i - 1 of row y + 1, and so on. A kernel value, loaded
once, serves all channels. So rows x channels sums stay in registers over the inner loop, which is bound by arithmetic.
The price is the band: rows + T - 1 picture rows are visited for T taps.

Kernel values are staged tile by tile, converted to float32, with rows clamped to the map: strides and types
cost nothing in the inner loop. The last tile of a row is shifted inwards, so a map must be `MIN_WIDTH` wide. T, border
and sizes are run-time values. Rows are split into one strip for each thread.
"""

from __future__ import annotations

from typing import Any

import torch

from midframe.ops.halide.compiler import parameter, read, write

Definition = tuple[list[Any], list[Any]]

ROWS_IN_CACHE = 19
"""Rows of a band whose kernel values and pixels fit the first-level cache together."""

MIN_WIDTH = 16
"""The least width of the maps in pixels, the longest vector of any processor. The picture may be narrower."""


def forward(kernels: torch.dtype, channels: int) -> Definition:
    """(image, vertical, horizontal, replicate, threads) -> out, weight_sum, both `[channels, H, W]` float32.

    The weight sum is the same for all channels: give its buffer a stride of 0 there.
    """
    import halide as hl

    p = _Parts(kernels)
    x, y, c, yi, yo, r = p.x, p.y, p.c, p.yi, p.yo, p.r
    across, down = hl.RDom([(0, p.taps)]), hl.RDom([(0, p.band)])

    row_sum, total, out = hl.Func("row_sum"), hl.Func("total"), hl.Func("out")
    row_sum[x, yi, c, yo, r] = 0.0
    row_sum[x, yi, c, yo, r] += p.h[x, yi, yo, across.x] * p.padded[x + across.x, yo * p.rows + r, c]
    total[x, yi, c, yo] = 0.0
    total[x, yi, c, yo] += p.v_band[x, yi, yo, down.x] * row_sum[x, yi, c, yo, down.x]
    yi_, yo_ = y % p.rows, y // p.rows
    out[x, y, c] = (total[x, yi_, c, yo_], p.v_sum[x, yi_, yo_] * p.h_sum[x, yi_, yo_])

    p.tile(out, p.height, 1, hl.TailStrategy.ShiftInwards)
    out.bound(c, 0, channels).reorder(p.xi, c, yi, p.xo, yo, p.strip).unroll(c)
    p.stage(out)
    for staged in (p.v_sum, p.h_sum, total):
        staged.compute_at(out, p.xo)
    p.registers(total, c)
    p.registers(total.update().reorder(x, yi, c, down.x), c)
    row_sum.compute_at(total, down.x)
    p.registers(row_sum, c)
    p.registers(row_sum.update().reorder(x, c, yi, across.x), c)
    return [p.image, p.vertical, p.horizontal, p.replicate, p.threads], [out]


def gradient_kernels(kernels: torch.dtype, channels: int) -> Definition:
    """(image, vertical, horizontal, grad_out, grad_weight_sum, replicate, threads) -> both gradients `[T, H, W]`.

    grad_vertical[i] = sum over c of grad_out[c] * (sum over j of horizontal[j] * picture[c] at (i, j)), and the same
    the other way round; the weight sum adds the same for a picture of ones.
    """
    import halide as hl

    p = _Parts(kernels)
    x, y, c, yi, yo, r, i = p.x, p.y, p.c, p.yi, p.yo, p.r, hl.Var("i")
    across = hl.RDom([(0, p.taps)])
    grad_out, grad_sum = parameter("grad_out", torch.float32, 3), parameter("grad_weight_sum", torch.float32, 2)
    row = hl.min(yo * p.rows + yi, p.height - 1)
    g, gs = hl.Func("g"), hl.Func("gs")
    g[x, yi, c, yo] = grad_out[x, row, c]
    gs[x, yi, yo] = grad_sum[x, row]

    row_sum, column_sum = hl.Func("row_sum"), hl.Func("column_sum")
    row_sum[x, yi, c, yo, r] = 0.0
    row_sum[x, yi, c, yo, r] += p.h[x, yi, yo, across.x] * p.padded[x + across.x, yo * p.rows + r, c]
    # The rows of a band in blocks: a block's kernel values and pixels stay in the first-level cache while j goes by.
    blocks = (p.band + ROWS_IN_CACHE - 1) // ROWS_IN_CACHE
    block, rows = hl.Var("block"), hl.RDom([(0, (p.band + blocks - 1) // blocks)])
    row = block * ((p.band + blocks - 1) // blocks) + rows.x
    column_sum[x, yi, c, yo, i, block] = 0.0
    column_sum[x, yi, c, yo, i, block] += p.v_band[x, yi, yo, row] * p.padded[x + i, yo * p.rows + row, c]

    v_part, h_part, down = hl.Func("v_part"), hl.Func("h_part"), hl.RDom([(0, blocks)])
    v_part[x, yi, yo, r] = _sum(g[x, yi, c, yo] * row_sum[x, yi, c, yo, r] for c in range(channels)) + hl.select(
        p.row_counts(yo * p.rows + r), gs[x, yi, yo] * p.h_sum[x, yi, yo], 0.0
    )
    h_part[x, yi, yo, i] = hl.select(p.column_counts(x + i), gs[x, yi, yo] * p.v_sum[x, yi, yo], 0.0)
    h_part[x, yi, yo, i] += _sum(g[x, yi, c, yo] * column_sum[x, yi, c, yo, i, down.x] for c in range(channels))
    out = hl.Func("out")
    yi_, yo_ = y % p.rows, y // p.rows
    out[x, y, i] = (write(v_part[x, yi_, yo_, i + yi_], kernels), write(h_part[x, yi_, yo_, i], kernels))

    p.tile(out, p.height, 1, hl.TailStrategy.ShiftInwards)
    out.reorder(p.xi, i, yi, p.xo, yo, p.strip)
    p.stage(out)
    for staged in (p.v_sum, p.h_sum, g, gs, v_part, h_part):
        staged.compute_at(out, p.xo)
    for staged in (g, gs):
        staged.vectorize(x, p.lanes, hl.TailStrategy.RoundUp).unroll(yi)
    for staged, loop in ((v_part, r), (h_part, i)):
        staged.reorder(x, yi, yo, loop).reorder_storage(x, yi, loop, yo)
        staged.vectorize(x, p.lanes, hl.TailStrategy.RoundUp).unroll(yi)
    h_part.update().reorder(x, yi, i, down.x).vectorize(x, p.lanes, hl.TailStrategy.RoundUp).unroll(yi)
    for sums, part, loop, reduction in ((row_sum, v_part, r, across), (column_sum, h_part, i, rows)):
        sums.compute_at(part, loop)
        p.registers(sums, c)
        p.registers(sums.update().reorder(x, c, yi, reduction.x), c)
    inputs = [p.image, p.vertical, p.horizontal, grad_out, grad_sum, p.replicate, p.threads]
    return inputs, [out]


def gradient_image(kernels: torch.dtype, channels: int) -> Definition:
    """(grad_out, vertical, horizontal, threads) -> gradient of the padded picture, `[channels, H + T - 1, W + T - 1]`.

    Its pixel (x, y) was read by tap (i, j) of the output pixel (x - j, y - i). A tile sums over the output rows r that
    read it, and for each over j: the product of horizontal kernel and gradient serves all rows of the tile.
    """
    import halide as hl

    p = _Parts(kernels)
    x, y, c, yi, yo, r, j = p.x, p.y, p.c, p.yi, p.yo, p.r, hl.Var("j")
    across, above = hl.RDom([(0, p.taps)]), hl.RDom([(0, p.band)])
    grad_out = parameter("grad_out", torch.float32, 3)

    source = yo * p.rows + r - (p.taps - 1)
    width = p.horizontal.dim(0).extent()
    column, row = hl.clamp(hl.likely(x), 0, width - 1), hl.clamp(source, 0, p.height - 1)
    inside = (x >= 0) & (x < width) & (source >= 0) & (source < p.height)
    g, v, h = hl.Func("g"), hl.Func("v"), hl.Func("h")
    g[x, c, yo, r] = hl.select(inside, grad_out[column, row, c], 0.0)
    h[x, j, yo, r] = read(p.horizontal[hl.clamp(hl.likely(x - j), 0, width - 1), row, j], kernels)
    i = yi + p.taps - 1 - r
    value = read(p.vertical[column, row, hl.clamp(i, 0, p.taps - 1)], kernels)
    v[x, yi, yo, r] = hl.select((i >= 0) & (i < p.taps), value, 0.0)

    part, total, out = hl.Func("part"), hl.Func("total"), hl.Func("out")
    at = x - across.x
    part[x, yi, c, yo, r] = 0.0
    part[x, yi, c, yo, r] += h[x, across.x, yo, r] * g[at, c, yo, r] * v[at, yi, yo, r]
    total[x, yi, c, yo] = 0.0
    total[x, yi, c, yo] += part[x, yi, c, yo, above.x]
    out[x, y, c] = total[x, y % p.rows, c, y // p.rows]

    p.tile(out, p.height + p.taps - 1, 4, hl.TailStrategy.GuardWithIf)
    out.bound(c, 0, channels).reorder(p.xi, c, yi, yo, p.xo, p.strip).unroll(c)
    total.compute_at(out, p.xo)
    p.registers(total, c)
    whole, vector = hl.TailStrategy.RoundUp, hl.Var("vector")
    total.update().split(x, vector, x, p.lanes, whole).reorder(x, yi, c, vector, above.x)
    total.update().vectorize(x).unroll(yi).unroll(c)
    for staged, tensor in ((g, grad_out), (h, p.horizontal), (v, p.vertical)):
        staged.compute_at(total, above.x).vectorize(x, p.lanes, whole)
        staged.specialize(tensor.dim(0).stride() == 1)
    part.compute_at(total, vector)
    p.registers(part, c)
    p.registers(part.update().reorder(x, yi, c, across.x), c)
    return [grad_out, p.vertical, p.horizontal, p.threads], [out]


def _sum(terms: Any) -> Any:
    total, *rest = terms
    for term in rest:
        total = total + term
    return total


class _Parts:
    """What the pipelines share: inputs, the padded picture, the staged kernels of a tile, and how tiles are scheduled.

    A tile has the coordinates x, yi (row inside) and yo (which tile); r counts the picture rows of its band.
    """

    def __init__(self, kernels: torch.dtype) -> None:
        import halide as hl

        self.lanes = hl.get_host_target().natural_vector_size(hl.Float(32))
        self.rows = 6 if self.lanes >= 16 else 4
        self.x, self.y, self.c, self.yi, self.yo, self.r = (hl.Var(name) for name in ("x", "y", "c", "yi", "yo", "r"))
        self.xi, self.xo, self.strip = hl.Var("xi"), hl.Var("xo"), hl.Var("strip")
        self.image = parameter("image", torch.float32, 3)
        self.vertical, self.horizontal = parameter("vertical", kernels, 3), parameter("horizontal", kernels, 3)
        self.replicate, self.threads = hl.Param(hl.Int(32), "replicate"), hl.Param(hl.Int(32), "threads")
        self.width, self.height = self.image.dim(0).extent(), self.vertical.dim(1).extent()
        self.taps = self.vertical.dim(2).extent()
        self.half = self.taps // 2
        self.band = self.taps + self.rows - 1
        x, y, c, yi, yo, r = self.x, self.y, self.c, self.yi, self.yo, self.r

        self.padded = hl.Func("padded")
        column = hl.clamp(hl.likely(x - self.half), 0, self.width - 1)
        row = hl.clamp(y - self.half, 0, self.height - 1)
        counts = self.row_counts(y) & self.column_counts(x)
        self.padded[x, y, c] = hl.select(counts, self.image[column, row, c], 0.0)

        row = hl.min(yo * self.rows + yi, self.height - 1)
        self.h = hl.Func("h")
        self.h[x, yi, yo, r] = read(self.horizontal[x, row, r], kernels)
        self.v_band = hl.Func("v_band")
        i = r - yi
        value = read(self.vertical[x, row, hl.clamp(i, 0, self.taps - 1)], kernels)
        self.v_band[x, yi, yo, r] = hl.select((i >= 0) & (i < self.taps), value, 0.0)

        across, down = hl.RDom([(0, self.taps)]), hl.RDom([(0, self.band)])
        self.h_sum, self.v_sum = hl.Func("h_sum"), hl.Func("v_sum")
        self.h_sum[x, yi, yo] = 0.0
        self.h_sum[x, yi, yo] += hl.select(self.column_counts(x + across.x), self.h[x, yi, yo, across.x], 0.0)
        self.v_sum[x, yi, yo] = 0.0
        counts = self.row_counts(yo * self.rows + down.x)
        self.v_sum[x, yi, yo] += hl.select(counts, self.v_band[x, yi, yo, down.x], 0.0)

    def row_counts(self, y: Any) -> Any:
        """Whether taps on row y of the padded picture count."""
        return (self.replicate != 0) | ((y >= self.half) & (y < self.height + self.half))

    def column_counts(self, x: Any) -> Any:
        return (self.replicate != 0) | ((x >= self.half) & (x < self.width + self.half))

    def tile(self, out: Any, height: Any, vectors: int, beyond: Any) -> None:
        """Split an output into tiles `vectors` wide, and their rows into one strip for each thread.

        beyond: what the last tile of a row does, if it does not fit.
        """
        import halide as hl

        guard = hl.TailStrategy.GuardWithIf
        tile_rows = (height + self.rows * self.threads - 1) // (self.rows * self.threads)
        out.split(self.y, self.yo, self.yi, self.rows, guard).split(
            self.x, self.xo, self.xi, vectors * self.lanes, beyond
        )
        out.split(self.yo, self.strip, self.yo, tile_rows, guard).vectorize(self.xi, self.lanes).parallel(self.strip)

    def stage(self, out: Any) -> None:
        """Compute the padded picture first and the kernels at each tile of `out`."""
        import halide as hl

        guard, whole = hl.TailStrategy.GuardWithIf, hl.TailStrategy.RoundUp
        rows = (self.height + 2 * self.half + self.threads - 1) // self.threads
        self.padded.compute_root().split(self.y, self.strip, self.y, rows, guard).parallel(self.strip)
        self.padded.vectorize(self.x, self.lanes, guard).specialize(self.image.dim(0).stride() == 1)
        for staged, kernel in ((self.h, self.horizontal), (self.v_band, self.vertical)):
            staged.compute_at(out, self.xo).reorder_storage(self.x, self.yi, self.r, self.yo)
            staged.vectorize(self.x, self.lanes, whole).unroll(self.yi).specialize(kernel.dim(0).stride() == 1)
        for sums in (self.h_sum, self.v_sum):
            sums.vectorize(self.x, self.lanes, whole).unroll(self.yi)
            sums.update().vectorize(self.x, self.lanes, whole).unroll(self.yi)

    def registers(self, stage: Any, c: Any) -> None:
        """Keep the sums of a tile, one vector for each row and channel, in registers."""
        import halide as hl

        stage.vectorize(self.x, self.lanes, hl.TailStrategy.RoundUp).unroll(self.yi).unroll(c)
