"""Define the Halide pipelines of separable convolution with composite dilation: plain sums over a list of taps.

The taps `(i, j, dy, dx)` are an int32 input `[K, 4]`, so all patterns share the pipelines. Each computes one vector of
pixels of one channel at a time, and each tap reads the image at its own offset. The caller obtains the weight sum by
convolving an additional channel of ones.
"""

from __future__ import annotations

from typing import Any

import torch

from midframe.ops.halide.compiler import from_float32, native_lanes, tensor_input, to_float32
from midframe.ops.separable.halide.dense import Definition


def forward(kernels: torch.dtype) -> Definition:
    """Define (image, vertical, horizontal, taps, reach, replicate, threads) -> out `[C, H, W]`, float32."""
    import halide as hl

    p = _Pipeline(kernels)
    x, y, c = p.x, p.y, p.c
    out, total = hl.Func("out"), hl.Func("total")
    total[x, y, c] = 0.0
    total[x, y, c] += p.pixel(x, y, c, p.tap) * p.v[x, y, p.i] * p.h[x, y, p.j]
    out[x, y, c] = total[x, y, c]

    p.schedule_output(out, p.height)
    p.schedule_inputs(out)
    total.compute_at(out, p.xo).vectorize(x, p.lanes, hl.TailStrategy.RoundUp)
    total.update().vectorize(x, p.lanes, hl.TailStrategy.RoundUp)
    return [p.image, p.vertical, p.horizontal, p.taps, p.reach, p.replicate, p.threads], [out]


def gradient_kernels(kernels: torch.dtype) -> Definition:
    """Define (image, vertical, horizontal, grad_out, taps, reach, replicate, threads) -> both kernel gradients."""
    import halide as hl

    p = _Pipeline(kernels)
    x, y, i = p.x, p.y, hl.Var("i")
    grad_out = tensor_input("grad_out", torch.float32, 3)
    channel = hl.RDom([(0, grad_out.dim(2).extent())])
    g, weight, v_part, h_part, out = (hl.Func(name) for name in ("g", "weight", "v_part", "h_part", "out"))
    tap = hl.Var("tap")
    g[x, y, p.c] = grad_out[hl.min(x, p.width - 1), y, p.c]
    weight[x, y, tap] = 0.0
    weight[x, y, tap] += g[x, y, channel.x] * p.pixel(x, y, channel.x, tap)
    v_part[x, y, i] = 0.0
    v_part[x, y, p.i] += weight[x, y, p.tap] * p.h[x, y, p.j]
    h_part[x, y, i] = 0.0
    h_part[x, y, p.j] += weight[x, y, p.tap] * p.v[x, y, p.i]
    out[x, y, i] = (from_float32(v_part[x, y, i], kernels), from_float32(h_part[x, y, i], kernels))

    p.schedule_output(out, p.height)
    out.reorder(p.xi, i, p.xo, y, p.strip)
    p.schedule_inputs(out)
    whole = hl.TailStrategy.RoundUp
    for stage in (g, v_part, h_part, weight):
        stage.compute_at(out, p.xo).vectorize(x, p.lanes, whole)
    for summed in (v_part, h_part):
        summed.update().reorder(x, p.tap).vectorize(x, p.lanes, whole)
    weight.update().reorder(x, channel.x, tap).vectorize(x, p.lanes, whole)
    inputs = [p.image, p.vertical, p.horizontal, grad_out, p.taps, p.reach, p.replicate, p.threads]
    return inputs, [out]


def gradient_image(kernels: torch.dtype) -> Definition:
    """Define (grad_out, vertical, horizontal, taps, reach, threads) -> gradient of the padded image."""
    import halide as hl

    p = _Pipeline(kernels)
    x, y, c = p.x, p.y, p.c
    grad_out = tensor_input("grad_out", torch.float32, 3)
    width, height = p.vertical.dim(0).extent(), p.height
    # The output pixels that read a pixel of the padded image lie within a square of twice the reach around it.
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = hl.clamp(hl.likely(x), 0, width - 1), hl.clamp(y, 0, height - 1)
    g, v, h, total, out = (hl.Func(name) for name in ("g", "v", "h", "total", "out"))
    g[x, y, c] = hl.select(inside, grad_out[column, row, c], 0.0)
    v[x, y, c] = to_float32(p.vertical[column, row, c], kernels)
    h[x, y, c] = to_float32(p.horizontal[column, row, c], kernels)
    reader_x, reader_y = x - p.reach - p.taps[3, p.tap], y - p.reach - p.taps[2, p.tap]
    reader_x, reader_y = hl.clamp(reader_x, x - 2 * p.reach, x), hl.clamp(reader_y, y - 2 * p.reach, y)
    total[x, y, c] = 0.0
    total[x, y, c] += g[reader_x, reader_y, c] * v[reader_x, reader_y, p.i] * h[reader_x, reader_y, p.j]
    out[x, y, c] = total[x, y, c]

    rows = height + 2 * p.reach
    p.schedule_output(out, rows)
    total.compute_at(out, p.xo).vectorize(x, p.lanes, hl.TailStrategy.RoundUp)
    total.update().vectorize(x, p.lanes, hl.TailStrategy.RoundUp)
    for stage, tensor in ((g, grad_out), (v, p.vertical), (h, p.horizontal)):
        p.compute_first(stage, tensor, rows)
    return [grad_out, p.vertical, p.horizontal, p.taps, p.reach, p.threads], [out]


class _Pipeline:
    """The inputs, variables and first stages that the pipelines share, and parts of their schedules.

    `tap` runs over the list of taps; `i` and `j` are the indices of its kernel values. `padded` is the image with its
    border; `v` and `h` are the kernel values of one vector of pixels.
    """

    def __init__(self, kernels: torch.dtype) -> None:
        import halide as hl

        self.lanes = native_lanes()
        self.x, self.y, self.c = hl.Var("x"), hl.Var("y"), hl.Var("c")
        self.xi, self.xo, self.strip = hl.Var("xi"), hl.Var("xo"), hl.Var("strip")
        self.image = tensor_input("image", torch.float32, 3)
        self.vertical, self.horizontal = tensor_input("vertical", kernels, 3), tensor_input("horizontal", kernels, 3)
        self.taps, self.reach = hl.ImageParam(hl.Int(32), 2, "taps"), hl.Param(hl.Int(32), "reach")
        self.replicate, self.threads = hl.Param(hl.Int(32), "replicate"), hl.Param(hl.Int(32), "threads")
        self.width, self.height = self.vertical.dim(0).extent(), self.vertical.dim(1).extent()
        size = self.vertical.dim(2).extent()
        x, y, c = self.x, self.y, self.c

        tap = hl.RDom([(0, self.taps.dim(1).extent())])
        self.tap = tap.x
        self.i, self.j = (hl.clamp(self.taps[n, tap.x], 0, size - 1) for n in (0, 1))
        inside = (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)
        column, row = hl.clamp(hl.likely(x), 0, self.width - 1), hl.clamp(y, 0, self.height - 1)
        self.padded, self.v, self.h = hl.Func("padded"), hl.Func("v"), hl.Func("h")
        self.padded[x, y, c] = hl.select((self.replicate != 0) | inside, self.image[column, row, c], 0.0)
        self.v[x, y, c] = to_float32(self.vertical[hl.min(x, self.width - 1), y, c], kernels)
        self.h[x, y, c] = to_float32(self.horizontal[hl.min(x, self.width - 1), y, c], kernels)

    def pixel(self, x: Any, y: Any, c: Any, tap: Any) -> Any:
        """Return the pixel of the image that a tap of the output pixel (x, y) reads."""
        import halide as hl

        dy, dx = (hl.clamp(self.taps[n, tap], -self.reach, self.reach) for n in (2, 3))
        return self.padded[x + dx, y + dy, c]

    def schedule_output(self, out: Any, height: Any) -> None:
        """Split the rows of an output into one strip per thread, and its columns into vectors."""
        import halide as hl

        guard = hl.TailStrategy.GuardWithIf
        out.split(self.y, self.strip, self.y, (height + self.threads - 1) // self.threads, guard).parallel(self.strip)
        out.split(self.x, self.xo, self.xi, self.lanes, guard).vectorize(self.xi)

    def compute_first(self, stage: Any, tensor: Any, height: Any) -> None:
        """Compute a stage that copies a tensor before everything else, in parallel."""
        import halide as hl

        guard = hl.TailStrategy.GuardWithIf
        rows = (height + 2 * self.reach + self.threads - 1) // self.threads
        stage.compute_root().split(self.y, self.strip, self.y, rows, guard).parallel(self.strip)
        stage.vectorize(self.x, self.lanes, guard).specialize(tensor.dim(0).stride() == 1)

    def schedule_inputs(self, out: Any) -> None:
        """Compute the padded image before everything else, and the kernel values at each vector of `out`."""
        import halide as hl

        self.compute_first(self.padded, self.image, self.height)
        for stage, tensor in ((self.v, self.vertical), (self.h, self.horizontal)):
            stage.compute_at(out, self.xo).vectorize(self.x, self.lanes, hl.TailStrategy.RoundUp)
            stage.specialize(tensor.dim(0).stride() == 1)
