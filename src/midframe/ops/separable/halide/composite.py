"""The Halide pipelines of composite dilation: plain sums over a list of taps `(i, j, dy, dx)`, int32 `[K, 4]`.

One vector of pixels at a time, every tap with its own offset, each channel on its own. The pattern is a run-time value.
The weight sum is left to the caller: the convolution of a picture of ones.
"""

from __future__ import annotations

from typing import Any

import torch

from midframe.ops.halide.compiler import parameter, read, write
from midframe.ops.separable.halide.dense import Definition


def forward(kernels: torch.dtype) -> Definition:
    """(image, vertical, horizontal, taps, reach, replicate, threads) -> out `[C, H, W]`, float32."""
    import halide as hl

    p = _Parts(kernels)
    x, y, c = p.x, p.y, p.c
    out, total = hl.Func("out"), hl.Func("total")
    total[x, y, c] = 0.0
    total[x, y, c] += p.pixel(x, y, c, p.tap) * p.v[x, y, p.i] * p.h[x, y, p.j]
    out[x, y, c] = total[x, y, c]

    p.split(out, p.height)
    p.stage(out)
    total.compute_at(out, p.xo).vectorize(x, p.lanes, hl.TailStrategy.RoundUp)
    total.update().vectorize(x, p.lanes, hl.TailStrategy.RoundUp)
    return [p.image, p.vertical, p.horizontal, p.taps, p.reach, p.replicate, p.threads], [out]


def gradient_kernels(kernels: torch.dtype) -> Definition:
    """(image, vertical, horizontal, grad_out, taps, reach, replicate, threads) -> grad_vertical, grad_horizontal."""
    import halide as hl

    p = _Parts(kernels)
    x, y, i = p.x, p.y, hl.Var("i")
    grad_out = parameter("grad_out", torch.float32, 3)
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
    out[x, y, i] = (write(v_part[x, y, i], kernels), write(h_part[x, y, i], kernels))

    p.split(out, p.height)
    out.reorder(p.xi, i, p.xo, y, p.strip)
    p.stage(out)
    whole = hl.TailStrategy.RoundUp
    for staged in (g, v_part, h_part, weight):
        staged.compute_at(out, p.xo).vectorize(x, p.lanes, whole)
    for summed in (v_part, h_part):
        summed.update().reorder(x, p.tap).vectorize(x, p.lanes, whole)
    weight.update().reorder(x, channel.x, tap).vectorize(x, p.lanes, whole)
    inputs = [p.image, p.vertical, p.horizontal, grad_out, p.taps, p.reach, p.replicate, p.threads]
    return inputs, [out]


def gradient_image(kernels: torch.dtype) -> Definition:
    """(grad_out, vertical, horizontal, taps, reach, threads) -> gradient of the padded picture."""
    import halide as hl

    p = _Parts(kernels)
    x, y, c = p.x, p.y, p.c
    grad_out = parameter("grad_out", torch.float32, 3)
    width, height = p.vertical.dim(0).extent(), p.height
    # Sources lie within a square of twice the reach around a pixel of the padded picture.
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = hl.clamp(hl.likely(x), 0, width - 1), hl.clamp(y, 0, height - 1)
    g, v, h, total, out = (hl.Func(name) for name in ("g", "v", "h", "total", "out"))
    g[x, y, c] = hl.select(inside, grad_out[column, row, c], 0.0)
    v[x, y, c] = read(p.vertical[column, row, c], kernels)
    h[x, y, c] = read(p.horizontal[column, row, c], kernels)
    sx, sy = x - p.reach - p.taps[3, p.tap], y - p.reach - p.taps[2, p.tap]
    sx, sy = hl.clamp(sx, x - 2 * p.reach, x), hl.clamp(sy, y - 2 * p.reach, y)
    total[x, y, c] = 0.0
    total[x, y, c] += g[sx, sy, c] * v[sx, sy, p.i] * h[sx, sy, p.j]
    out[x, y, c] = total[x, y, c]

    rows = height + 2 * p.reach
    p.split(out, rows)
    total.compute_at(out, p.xo).vectorize(x, p.lanes, hl.TailStrategy.RoundUp)
    total.update().vectorize(x, p.lanes, hl.TailStrategy.RoundUp)
    for staged, tensor in ((g, grad_out), (v, p.vertical), (h, p.horizontal)):
        p.at_root(staged, tensor, rows)
    return [grad_out, p.vertical, p.horizontal, p.taps, p.reach, p.threads], [out]


class _Parts:
    """What the pipelines share: inputs, the padded picture, the kernels of one vector of pixels."""

    def __init__(self, kernels: torch.dtype) -> None:
        import halide as hl

        self.lanes = hl.get_host_target().natural_vector_size(hl.Float(32))
        self.x, self.y, self.c = hl.Var("x"), hl.Var("y"), hl.Var("c")
        self.xi, self.xo, self.strip = hl.Var("xi"), hl.Var("xo"), hl.Var("strip")
        self.image = parameter("image", torch.float32, 3)
        self.vertical, self.horizontal = parameter("vertical", kernels, 3), parameter("horizontal", kernels, 3)
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
        self.v[x, y, c] = read(self.vertical[hl.min(x, self.width - 1), y, c], kernels)
        self.h[x, y, c] = read(self.horizontal[hl.min(x, self.width - 1), y, c], kernels)

    def pixel(self, x: Any, y: Any, c: Any, tap: Any) -> Any:
        """The pixel that a tap reads."""
        import halide as hl

        dy, dx = (hl.clamp(self.taps[n, tap], -self.reach, self.reach) for n in (2, 3))
        return self.padded[x + dx, y + dy, c]

    def split(self, out: Any, height: Any) -> None:
        import halide as hl

        guard = hl.TailStrategy.GuardWithIf
        out.split(self.y, self.strip, self.y, (height + self.threads - 1) // self.threads, guard).parallel(self.strip)
        out.split(self.x, self.xo, self.xi, self.lanes, guard).vectorize(self.xi)

    def at_root(self, staged: Any, tensor: Any, height: Any) -> None:
        import halide as hl

        guard = hl.TailStrategy.GuardWithIf
        rows = (height + 2 * self.reach + self.threads - 1) // self.threads
        staged.compute_root().split(self.y, self.strip, self.y, rows, guard).parallel(self.strip)
        staged.vectorize(self.x, self.lanes, guard).specialize(tensor.dim(0).stride() == 1)

    def stage(self, out: Any) -> None:
        import halide as hl

        self.at_root(self.padded, self.image, self.height)
        for staged, tensor in ((self.v, self.vertical), (self.h, self.horizontal)):
            staged.compute_at(out, self.xo).vectorize(self.x, self.lanes, hl.TailStrategy.RoundUp)
            staged.specialize(tensor.dim(0).stride() == 1)
