"""Comparable features on the CPU: channels-last, one pass for the sums of a pixel's channels and one for the result.

With f the features, c the centre and g the gradient of the result, all of a pixel's numbers follow from the sums over
the channels of f², fc, c², and on the way back of gf and gc too:

    s² = mean f² + e,  mean a² = mean f² − 2 s mean fc + s² mean c²,  r = 1 / sqrt(mean a² + e),  out = r (f − s c)
    k = r³ mean ga = r³ (mean gf − s mean gc),  ∂a = r g − k (f − s c),  ∂s = −Σ c ∂a,  ∂f = ∂a + f ∂s / (C s)

The gradient of the centre is −Σ s ∂a over all pixels, summed by rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.ops.feature_normalisation.reference import EPSILON
from midframe.ops.halide.compiler import compiled, read, write
from midframe.ops.halide.layouts import LANES, maps, strips, variables

CL = torch.channels_last


def forward(features: Tensor, centre: Tensor) -> Tensor:
    """The features made comparable, channels-last."""
    features = _last(features)
    out = torch.empty_like(features, memory_format=CL)
    run = compiled(f"comparable_forward_{_suffix(features)}", __file__, lambda: _forward(features.dtype))
    run(features, centre.contiguous(), 1 / features.shape[1], out)
    return out


def gradients(grad_out: Tensor, features: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the features, channels-last, and of the centre."""
    features = _last(features)
    grad_out = _last(grad_out.to(features.dtype))
    grad_features = torch.empty_like(features, memory_format=CL)
    batch, channels, height, _ = features.shape
    by_row = torch.empty((batch, height, channels))
    run = compiled(f"comparable_gradients_{_suffix(features)}", __file__, lambda: _gradients(features.dtype))
    run(grad_out, features, centre.contiguous(), 1 / channels, grad_features, by_row)
    return grad_features, by_row.sum((0, 1))


def _last(features: Tensor) -> Tensor:
    features = features.float() if features.dtype is torch.float16 else features
    return features if features.stride(1) == 1 else features.contiguous(memory_format=CL)


def _suffix(features: Tensor) -> str:
    return str(features.dtype).removeprefix("torch.")


def _forward(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    import halide as hl

    features, centre, share = _inputs(dtype)
    x, y, c, n = variables()
    pixel, squares = _pixel_sums(features, None, centre, dtype)
    numbers = hl.Func("numbers")
    s, r = _root_and_factor(pixel, squares, share)
    numbers[x, y, n] = hl.Tuple([s * r, r])
    out = hl.Func("out")
    value = read(features[x, y, c, n], dtype)
    out[x, y, c, n] = write(numbers[x, y, n][1] * value - numbers[x, y, n][0] * centre[c], dtype)
    row = strips(out, "last")
    numbers.compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
    pixel.compute(out, row)
    return [features, centre, share], [out]


def _gradients(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    import halide as hl

    features, centre, share = _inputs(dtype)
    grad = maps("grad", "last", dtype)
    x, y, c, n = variables()
    pixel, squares = _pixel_sums(features, grad, centre, dtype)
    s, r = _root_and_factor(pixel, squares, share)
    fc, gf, gc = (pixel.sums[k, x, y, n] for k in (1, 2, 3))
    k = r * r * r * share * (gf - s * gc)
    grad_s = k * (fc - s * squares) - r * gc
    numbers, by_pixel, by_row = hl.Func("numbers"), hl.Func("grad_features"), hl.Func("by_row")
    numbers[x, y, n] = hl.Tuple([r, grad_s * share / s - k, k * s, s * r, s * k, s * s * k])
    at = numbers[x, y, n]
    f, g = read(features[x, y, c, n], dtype), read(grad[x, y, c, n], dtype)
    by_pixel[x, y, c, n] = write(at[0] * g + at[1] * f + at[2] * centre[c], dtype)
    strips(by_pixel, "last")

    along, total = hl.RDom([(0, features.dim(0).extent())]), hl.Func("total")
    at = numbers[along.x, y, n]
    f, g = read(features[along.x, y, c, n], dtype), read(grad[along.x, y, c, n], dtype)
    total[c, y, n] = 0.0
    total[c, y, n] += at[4] * f - at[3] * g - at[5] * centre[c]
    by_row[c, y, n] = total[c, y, n]
    block, lane, task = hl.Var("block"), hl.Var("lane"), hl.Var("task")
    buffer = by_row.output_buffer().dim(0)
    buffer.set_bounds(0, buffer.extent() // LANES * LANES)
    by_row.split(c, block, lane, LANES).reorder(lane, block, y, n).vectorize(lane).fuse(y, n, task).parallel(task)
    total.compute_at(by_row, block).vectorize(c, LANES).update().reorder(c, along.x).vectorize(c, LANES)

    numbers.compute_root().vectorize(x, LANES, hl.TailStrategy.GuardWithIf).fuse(y, n, task).parallel(task)
    pixel.compute(numbers, task)
    return [grad, features, centre, share], [by_pixel, by_row]


def _inputs(dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Features, centre, and 1 / channels."""
    import halide as hl

    centre = hl.ImageParam(hl.Float(32), 1, "centre")
    centre.dim(0).set_bounds(0, centre.dim(0).extent() // LANES * LANES)
    return maps("features", "last", dtype), centre, hl.Param(hl.Float(32), "share")


class _Sums:
    """Sums over a pixel's channels, `sums[k, x, y, n]`: f², fc, and with a gradient gf and gc."""

    def __init__(self, terms: Any, count: int, blocks: Any) -> None:
        import halide as hl

        x, y, c, n = variables()
        self.count, self.blocks, self.lanes = count, blocks, hl.RDom([(0, LANES)])
        self.part, self.sums, self.k = hl.Func("part"), hl.Func("sums"), hl.Var("k")
        self.part[c, x, y, n] = hl.Tuple([hl.f32(0)] * count)
        self.part[c, x, y, n] = hl.Tuple([self.part[c, x, y, n][j] + terms[j] for j in range(count)])
        self.sums[self.k, x, y, n] = 0.0
        self.sums[self.k, x, y, n] += hl.mux(self.k, [self.part[self.lanes.x, x, y, n][j] for j in range(count)])

    def compute(self, function: Any, loop: Any) -> None:
        x, y, c, n = variables()
        self.sums.compute_at(function, loop).bound(self.k, 0, self.count).reorder(self.k, x).unroll(self.k)
        self.sums.reorder_storage(x, self.k, y, n)
        self.sums.update().reorder(self.lanes.x, self.k, x).unroll(self.k).atomic().vectorize(self.lanes.x, LANES)
        self.part.compute_at(self.sums, x).vectorize(c, LANES)
        self.part.update().reorder(c, self.blocks.x).vectorize(c, LANES)


def _pixel_sums(features: Any, grad: Any, centre: Any, dtype: torch.dtype) -> tuple[_Sums, Any]:
    """The sums of every pixel, and that of the centre's squares."""
    import halide as hl

    x, y, c, n = variables()
    channels = features.dim(2).extent()
    blocks = hl.RDom([(0, channels // LANES)])
    channel = c + LANES * blocks.x
    f, m = read(features[x, y, channel, n], dtype), centre[channel]
    terms = [f * f, f * m]
    if grad is not None:
        g = read(grad[x, y, channel, n], dtype)
        terms += [g * f, g * m]
    every, squares = hl.RDom([(0, channels)]), hl.Func("squares")
    squares[()] = 0.0
    squares[()] += centre[every.x] * centre[every.x]
    squares.compute_root()
    return _Sums(terms, len(terms), blocks), squares[()]


def _root_and_factor(pixel: _Sums, squares: Any, share: Any) -> tuple[Any, Any]:
    """The root of a pixel's mean square, and what its features less the centre are multiplied by."""
    import halide as hl

    x, y, _, n = variables()
    mean = pixel.sums[0, x, y, n] * share
    s = hl.sqrt(mean + hl.f32(EPSILON))
    apart = hl.max(mean - 2 * s * pixel.sums[1, x, y, n] * share + s * s * squares * share, 0.0)
    return s, 1 / hl.sqrt(apart + hl.f32(EPSILON))
