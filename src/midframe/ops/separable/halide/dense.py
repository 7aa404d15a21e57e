"""Define the Halide pipelines of separable convolution with dense kernels: forward and gradients.

One output pixel takes T^2 multiply-adds per channel. A naive loop loads one unaligned vector of the image for each of
them. Instead, outputs are computed in tiles that are one vector wide and `rows` high. An image vector, loaded once,
serves every row of the tile: image row y + i belongs to tap i of row y, to tap i - 1 of row y + 1, and so on. A kernel
value, loaded once, serves all channels. The rows x channels sums of a tile stay in registers during the inner loop, so
its speed is limited by arithmetic, not by loads. A tile reads a band of rows + T - 1 image rows.

The kernel values of a tile are first copied to a buffer as float32, so strides and types cost nothing in the inner
loop. The last tile of a row is shifted left to end at the edge, so maps must be at least `MIN_WIDTH` wide. T, border
and sizes are run-time values. The rows of an output are split into one strip per thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from midframe.ops.halide.compiler import from_float32, native_lanes, tensor_input, to_float32

Definition = tuple[list[Any], list[Any]]
"""The arguments and the output functions of a pipeline."""

ROWS_IN_CACHE = 19
"""Rows of a band whose kernel values and pixels fit the first-level cache together."""

MIN_WIDTH = 16
"""The least width of the kernel maps in pixels: the longest vector of any processor. The image may be narrower."""


def forward(kernels: torch.dtype, channels: int) -> Definition:
    """Define (image, vertical, horizontal, replicate, threads) -> out, weight_sum, both `[channels, H, W]` float32.

    The weight sum is the same for all channels, so its buffer should have stride 0 along the channels.
    """
    import halide as hl

    p = _Pipeline(kernels)
    x, y, c, yi, yo, r = p.x, p.y, p.c, p.yi, p.yo, p.r
    across, down = hl.RDom([(0, p.taps)]), hl.RDom([(0, p.band)])

    row_sum, total, out = hl.Func("row_sum"), hl.Func("total"), hl.Func("out")
    row_sum[x, yi, c, yo, r] = 0.0
    row_sum[x, yi, c, yo, r] += p.h[x, yi, yo, across.x] * p.padded[x + across.x, yo * p.rows + r, c]
    total[x, yi, c, yo] = 0.0
    total[x, yi, c, yo] += p.v_band[x, yi, yo, down.x] * row_sum[x, yi, c, yo, down.x]
    yi_, yo_ = y % p.rows, y // p.rows
    out[x, y, c] = (total[x, yi_, c, yo_], p.v_sum[x, yi_, yo_] * p.h_sum[x, yi_, yo_])

    p.schedule_tiles(out, p.height, 1, hl.TailStrategy.ShiftInwards)
    out.bound(c, 0, channels).reorder(p.xi, c, yi, p.xo, yo, p.strip).unroll(c)
    p.schedule_inputs(out)
    for stage in (p.v_sum, p.h_sum, total):
        stage.compute_at(out, p.xo)
    p.keep_in_registers(total, c)
    p.keep_in_registers(total.update().reorder(x, yi, c, down.x), c)
    row_sum.compute_at(total, down.x)
    p.keep_in_registers(row_sum, c)
    p.keep_in_registers(row_sum.update().reorder(x, c, yi, across.x), c)
    return [p.image, p.vertical, p.horizontal, p.replicate, p.threads], [out]


def gradient_kernels(kernels: torch.dtype, channels: int) -> Definition:
    """Define (image, vertical, horizontal, grad_out, grad_weight_sum, replicate, threads) -> both kernel gradients.

    grad_vertical[i] = sum over c of grad_out[c] * (sum over j of horizontal[j] * image[c] at tap (i, j)), and the same
    with rows and columns exchanged. The weight sum is the convolution of an image of ones, so grad_weight_sum adds
    terms of the same form, with 1 in place of the image.
    """
    gradients = _KernelGradients(kernels, channels)
    gradients.schedule()
    p = gradients.pipeline
    inputs = [p.image, p.vertical, p.horizontal, gradients.grad_out, gradients.grad_sum, p.replicate, p.threads]
    return inputs, [gradients.out]


class _KernelGradients:
    """The stages of `gradient_kernels` and their schedule.

    `g` is grad_out and `gs` grad_weight_sum, in tiles. `row_sum` sums a row of the band over the taps of the horizontal
    kernel; `column_sum` sums a column of taps over a block of rows of the band, weighted by the vertical kernel.
    `v_part` is the gradient of the vertical kernel, indexed by the row of the band, and `h_part` the gradient of the
    horizontal kernel, indexed by the tap.
    """

    def __init__(self, kernels: torch.dtype, channels: int) -> None:
        import halide as hl

        p = self.pipeline = _Pipeline(kernels)
        x, y, c, yi, yo, r, i = p.x, p.y, p.c, p.yi, p.yo, p.r, hl.Var("i")
        self.i = i
        self.grad_out = tensor_input("grad_out", torch.float32, 3)
        self.grad_sum = tensor_input("grad_weight_sum", torch.float32, 2)
        row = hl.min(yo * p.rows + yi, p.height - 1)
        self.g, self.gs = hl.Func("g"), hl.Func("gs")
        self.g[x, yi, c, yo] = self.grad_out[x, row, c]
        self.gs[x, yi, yo] = self.grad_sum[x, row]

        self.across = hl.RDom([(0, p.taps)])
        self.row_sum, self.column_sum = hl.Func("row_sum"), hl.Func("column_sum")
        self.row_sum[x, yi, c, yo, r] = 0.0
        self.row_sum[x, yi, c, yo, r] += p.h[x, yi, yo, self.across.x] * p.padded[x + self.across.x, yo * p.rows + r, c]
        # The rows of a band are summed in blocks. While the loop runs over the columns of taps, the kernel values and
        # pixels of a block stay in the first-level cache.
        blocks = (p.band + ROWS_IN_CACHE - 1) // ROWS_IN_CACHE
        block, self.rows = hl.Var("block"), hl.RDom([(0, (p.band + blocks - 1) // blocks)])
        row = block * ((p.band + blocks - 1) // blocks) + self.rows.x
        self.column_sum[x, yi, c, yo, i, block] = 0.0
        self.column_sum[x, yi, c, yo, i, block] += p.v_band[x, yi, yo, row] * p.padded[x + i, yo * p.rows + row, c]

        self.v_part, self.h_part, self.down = hl.Func("v_part"), hl.Func("h_part"), hl.RDom([(0, blocks)])
        row_term = add_terms(self.g[x, yi, c, yo] * self.row_sum[x, yi, c, yo, r] for c in range(channels))
        weight_term = hl.select(p.row_is_valid(yo * p.rows + r), self.gs[x, yi, yo] * p.h_sum[x, yi, yo], 0.0)
        self.v_part[x, yi, yo, r] = row_term + weight_term
        self.h_part[x, yi, yo, i] = hl.select(p.column_is_valid(x + i), self.gs[x, yi, yo] * p.v_sum[x, yi, yo], 0.0)
        self.h_part[x, yi, yo, i] += add_terms(
            self.g[x, yi, c, yo] * self.column_sum[x, yi, c, yo, i, self.down.x] for c in range(channels)
        )
        self.out = hl.Func("out")
        yi_, yo_ = y % p.rows, y // p.rows
        v_gradient, h_gradient = self.v_part[x, yi_, yo_, i + yi_], self.h_part[x, yi_, yo_, i]
        self.out[x, y, i] = (from_float32(v_gradient, kernels), from_float32(h_gradient, kernels))

    def schedule(self) -> None:
        """Compute all stages for one tile at a time, with their sums in registers."""
        import halide as hl

        p, x, yi, yo, i = self.pipeline, self.pipeline.x, self.pipeline.yi, self.pipeline.yo, self.i
        round_up = hl.TailStrategy.RoundUp
        p.schedule_tiles(self.out, p.height, 1, hl.TailStrategy.ShiftInwards)
        self.out.reorder(p.xi, i, yi, p.xo, yo, p.strip)
        p.schedule_inputs(self.out)
        for stage in (p.v_sum, p.h_sum, self.g, self.gs, self.v_part, self.h_part):
            stage.compute_at(self.out, p.xo)
        for stage in (self.g, self.gs):
            stage.vectorize(x, p.lanes, round_up).unroll(yi)
        for stage, loop in ((self.v_part, p.r), (self.h_part, i)):
            stage.reorder(x, yi, yo, loop).reorder_storage(x, yi, loop, yo)
            stage.vectorize(x, p.lanes, round_up).unroll(yi)
        self.h_part.update().reorder(x, yi, i, self.down.x).vectorize(x, p.lanes, round_up).unroll(yi)
        for sums, part, loop, reduction in (
            (self.row_sum, self.v_part, p.r, self.across),
            (self.column_sum, self.h_part, i, self.rows),
        ):
            sums.compute_at(part, loop)
            p.keep_in_registers(sums, p.c)
            p.keep_in_registers(sums.update().reorder(x, p.c, yi, reduction.x), p.c)


def gradient_image(kernels: torch.dtype, channels: int) -> Definition:
    """Define (grad_out, vertical, horizontal, threads) -> gradient of the padded image, `[channels, H+T-1, W+T-1]`.

    Tap (i, j) of the output pixel (x - j, y - i) reads the pixel (x, y) of the padded image. A tile of the padded image
    sums over the output rows r whose taps read it (`total`), and in each of these rows over j (`part`). The product
    of a horizontal kernel value and the gradient is used for all rows of the tile.
    """
    import halide as hl

    p = _Pipeline(kernels)
    x, y, c, yi, yo, r, j = p.x, p.y, p.c, p.yi, p.yo, p.r, hl.Var("j")
    across, down = hl.RDom([(0, p.taps)]), hl.RDom([(0, p.band)])
    grad_out = tensor_input("grad_out", torch.float32, 3)

    source = yo * p.rows + r - (p.taps - 1)
    width = p.horizontal.dim(0).extent()
    column, row = hl.clamp(hl.likely(x), 0, width - 1), hl.clamp(source, 0, p.height - 1)
    inside = (x >= 0) & (x < width) & (source >= 0) & (source < p.height)
    g, v, h = hl.Func("g"), hl.Func("v"), hl.Func("h")
    g[x, c, yo, r] = hl.select(inside, grad_out[column, row, c], 0.0)
    h[x, j, yo, r] = to_float32(p.horizontal[hl.clamp(hl.likely(x - j), 0, width - 1), row, j], kernels)
    i = yi + p.taps - 1 - r
    value = to_float32(p.vertical[column, row, hl.clamp(i, 0, p.taps - 1)], kernels)
    v[x, yi, yo, r] = hl.select((i >= 0) & (i < p.taps), value, 0.0)

    part, total, out = hl.Func("part"), hl.Func("total"), hl.Func("out")
    reader = x - across.x
    part[x, yi, c, yo, r] = 0.0
    part[x, yi, c, yo, r] += h[x, across.x, yo, r] * g[reader, c, yo, r] * v[reader, yi, yo, r]
    total[x, yi, c, yo] = 0.0
    total[x, yi, c, yo] += part[x, yi, c, yo, down.x]
    out[x, y, c] = total[x, y % p.rows, c, y // p.rows]

    p.schedule_tiles(out, p.height + p.taps - 1, 4, hl.TailStrategy.GuardWithIf)
    out.bound(c, 0, channels).reorder(p.xi, c, yi, yo, p.xo, p.strip).unroll(c)
    total.compute_at(out, p.xo)
    p.keep_in_registers(total, c)
    round_up, vector = hl.TailStrategy.RoundUp, hl.Var("vector")
    total.update().split(x, vector, x, p.lanes, round_up).reorder(x, yi, c, vector, down.x)
    total.update().vectorize(x).unroll(yi).unroll(c)
    for stage, tensor in ((g, grad_out), (h, p.horizontal), (v, p.vertical)):
        stage.compute_at(total, down.x).vectorize(x, p.lanes, round_up)
        stage.specialize(tensor.dim(0).stride() == 1)
    part.compute_at(total, vector)
    p.keep_in_registers(part, c)
    p.keep_in_registers(part.update().reorder(x, yi, c, across.x), c)
    return [grad_out, p.vertical, p.horizontal, p.threads], [out]


def add_terms(terms: Iterable[Any]) -> Any:
    """Return the sum of Halide expressions. The built-in `sum` would add a 0."""
    total, *rest = terms
    for term in rest:
        total = total + term
    return total


class _Pipeline:
    """The inputs, variables and first stages that the pipelines share, and parts of their schedules.

    A pixel of an output is (x, y), c is its channel. In a tile, yi is the row inside of the tile and yo the index of
    the tile; r counts the image rows of the tile's band.

    `padded` is the image with its border. `h` and `v_band` are the kernel values of a tile in float32. `v_band` has a
    value for each row of the tile and each row of the band; it is zero if the former does not read the latter. `h_sum`
    and `v_sum` are the sums of both kernels over the taps that count in the weight sum.
    """

    def __init__(self, kernels: torch.dtype) -> None:
        import halide as hl

        self.lanes = native_lanes()
        self.rows = 6 if self.lanes >= 16 else 4
        self.x, self.y, self.c, self.yi, self.yo, self.r = (hl.Var(name) for name in ("x", "y", "c", "yi", "yo", "r"))
        self.xi, self.xo, self.strip = hl.Var("xi"), hl.Var("xo"), hl.Var("strip")
        self.image = tensor_input("image", torch.float32, 3)
        self.vertical, self.horizontal = tensor_input("vertical", kernels, 3), tensor_input("horizontal", kernels, 3)
        self.replicate, self.threads = hl.Param(hl.Int(32), "replicate"), hl.Param(hl.Int(32), "threads")
        self.width, self.height = self.image.dim(0).extent(), self.vertical.dim(1).extent()
        self.taps = self.vertical.dim(2).extent()
        self.half = self.taps // 2
        self.band = self.taps + self.rows - 1
        self.padded, self.h, self.v_band = hl.Func("padded"), hl.Func("h"), hl.Func("v_band")
        self.h_sum, self.v_sum = hl.Func("h_sum"), hl.Func("v_sum")
        self._define_inputs(kernels)
        self._define_weight_sums()

    def _define_inputs(self, kernels: torch.dtype) -> None:
        import halide as hl

        x, y, c, yi, yo, r = self.x, self.y, self.c, self.yi, self.yo, self.r
        column = hl.clamp(hl.likely(x - self.half), 0, self.width - 1)
        row = hl.clamp(y - self.half, 0, self.height - 1)
        valid = self.row_is_valid(y) & self.column_is_valid(x)
        self.padded[x, y, c] = hl.select(valid, self.image[column, row, c], 0.0)

        row = hl.min(yo * self.rows + yi, self.height - 1)
        self.h[x, yi, yo, r] = to_float32(self.horizontal[x, row, r], kernels)
        i = r - yi
        value = to_float32(self.vertical[x, row, hl.clamp(i, 0, self.taps - 1)], kernels)
        self.v_band[x, yi, yo, r] = hl.select((i >= 0) & (i < self.taps), value, 0.0)

    def _define_weight_sums(self) -> None:
        import halide as hl

        x, yi, yo = self.x, self.yi, self.yo
        across, down = hl.RDom([(0, self.taps)]), hl.RDom([(0, self.band)])
        self.h_sum[x, yi, yo] = 0.0
        self.h_sum[x, yi, yo] += hl.select(self.column_is_valid(x + across.x), self.h[x, yi, yo, across.x], 0.0)
        self.v_sum[x, yi, yo] = 0.0
        valid = self.row_is_valid(yo * self.rows + down.x)
        self.v_sum[x, yi, yo] += hl.select(valid, self.v_band[x, yi, yo, down.x], 0.0)

    def row_is_valid(self, y: Any) -> Any:
        """Return whether row y of the padded image counts in the weight sum: it is in the image or replicated."""
        return (self.replicate != 0) | ((y >= self.half) & (y < self.height + self.half))

    def column_is_valid(self, x: Any) -> Any:
        """Return whether column x of the padded image counts in the weight sum."""
        return (self.replicate != 0) | ((x >= self.half) & (x < self.width + self.half))

    def schedule_tiles(self, out: Any, height: Any, vectors: int, tail: Any) -> None:
        """Split an output into tiles that are `vectors` vectors wide, and its rows into one strip per thread.

        tail: the strategy for the last tile of a row if the width is no multiple of the tile's.
        """
        import halide as hl

        guard = hl.TailStrategy.GuardWithIf
        tile_rows = (height + self.rows * self.threads - 1) // (self.rows * self.threads)
        out.split(self.y, self.yo, self.yi, self.rows, guard)
        out.split(self.x, self.xo, self.xi, vectors * self.lanes, tail)
        out.split(self.yo, self.strip, self.yo, tile_rows, guard).vectorize(self.xi, self.lanes).parallel(self.strip)

    def schedule_inputs(self, out: Any) -> None:
        """Compute the padded image before everything else, and the kernel values at each tile of `out`."""
        import halide as hl

        guard, round_up = hl.TailStrategy.GuardWithIf, hl.TailStrategy.RoundUp
        rows = (self.height + 2 * self.half + self.threads - 1) // self.threads
        self.padded.compute_root().split(self.y, self.strip, self.y, rows, guard).parallel(self.strip)
        self.padded.vectorize(self.x, self.lanes, guard).specialize(self.image.dim(0).stride() == 1)
        for stage, kernel in ((self.h, self.horizontal), (self.v_band, self.vertical)):
            stage.compute_at(out, self.xo).reorder_storage(self.x, self.yi, self.r, self.yo)
            stage.vectorize(self.x, self.lanes, round_up).unroll(self.yi).specialize(kernel.dim(0).stride() == 1)
        for sums in (self.h_sum, self.v_sum):
            sums.vectorize(self.x, self.lanes, round_up).unroll(self.yi)
            sums.update().vectorize(self.x, self.lanes, round_up).unroll(self.yi)

    def keep_in_registers(self, stage: Any, c: Any) -> None:
        """Unroll a stage over the rows and channels of a tile, so that its sums, one vector each, stay in registers."""
        import halide as hl

        stage.vectorize(self.x, self.lanes, hl.TailStrategy.RoundUp).unroll(self.yi).unroll(c)
