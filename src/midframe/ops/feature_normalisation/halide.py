"""Feature normalisation on the CPU, channels-last: one pass for the sums over a pixel's channels, one for the result.

f are the C features of a pixel, s is their root mean square, m is the centre, a = f − s m, g is the gradient of the
result and e is `EPSILON`. The result needs only the sums of f², f m and m² over the channels; the gradients also need
the sums of g f and g m. (Σ and mean are over the channels.)

    s² = mean f² + e,   mean a² = mean f² − 2 s mean f m + s² mean m²,   r = 1 / sqrt(mean a² + e),   out = r (f − s m)
    k = r³ mean g a = r³ (mean g f − s mean g m),   ∂a = r g − k (f − s m),   ∂s = −Σ m ∂a,   ∂f = ∂a + f ∂s / (C s)

The gradient of the centre is the sum of −s ∂a over all pixels; the pipeline sums each row, PyTorch adds the rows.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from midframe.ops.feature_normalisation.reference import EPSILON
from midframe.ops.halide.compiler import from_float32, load_pipeline, to_float32
from midframe.ops.halide.layouts import LANES, maps_input, schedule_strips, variables


def forward(features: Tensor, centre: Tensor) -> Tensor:
    """Return the normalised features, channels-last."""
    features = _channels_last(features)
    out = torch.empty_like(features, memory_format=torch.channels_last)
    run = load_pipeline(
        f"normalise_features_{_suffix(features)}", __file__, functools.partial(_define_forward, features.dtype)
    )
    run(features, centre.contiguous(), 1 / features.shape[1], out)
    return out


def gradients(grad_out: Tensor, features: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the features, channels-last, and the gradient of the centre."""
    features = _channels_last(features)
    grad_out = _channels_last(grad_out.to(features.dtype))
    grad_features = torch.empty_like(features, memory_format=torch.channels_last)
    batch, channels, height, _ = features.shape
    grad_centre_of_rows = torch.empty((batch, height, channels))
    define = functools.partial(_define_gradients, features.dtype)
    run = load_pipeline(f"normalise_features_gradients_{_suffix(features)}", __file__, define)
    run(grad_out, features, centre.contiguous(), 1 / channels, grad_features, grad_centre_of_rows)
    return grad_features, grad_centre_of_rows.sum((0, 1))


def _channels_last(features: Tensor) -> Tensor:
    """Return features as the pipelines read them: channels-last, float32 or bfloat16."""
    features = features.float() if features.dtype is torch.float16 else features
    return features if features.stride(1) == 1 else features.contiguous(memory_format=torch.channels_last)


def _suffix(features: Tensor) -> str:
    """Return the type of the features as the last part of a pipeline's name."""
    return str(features.dtype).removeprefix("torch.")


def _define_forward(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Define the pipeline of `forward`. Return its inputs and its outputs."""
    import halide as hl

    features, centre, inverse_channels = _inputs(dtype)
    x, y, c, n = variables()
    pixel_sums, centre_squares = _pixel_sums(features, None, centre, dtype)
    factors = hl.Func("factors")
    s, r = _magnitude_and_factor(pixel_sums, centre_squares, inverse_channels)
    factors[x, y, n] = hl.Tuple([s * r, r])
    out = hl.Func("out")
    value = to_float32(features[x, y, c, n], dtype)
    out[x, y, c, n] = from_float32(factors[x, y, n][1] * value - factors[x, y, n][0] * centre[c], dtype)
    row = schedule_strips(out, "channels_last")
    factors.compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
    pixel_sums.schedule(out, row)
    return [features, centre, inverse_channels], [out]


def _define_gradients(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Define the pipeline of `gradients`. Return its inputs and its outputs."""
    import halide as hl

    features, centre, inverse_channels = _inputs(dtype)
    grad = maps_input("grad", "channels_last", dtype)
    x, y, c, n = variables()
    pixel_sums, centre_squares = _pixel_sums(features, grad, centre, dtype)
    s, r = _magnitude_and_factor(pixel_sums, centre_squares, inverse_channels)
    fm, gf, gm = (pixel_sums.sums[k, x, y, n] for k in (1, 2, 3))
    k = r * r * r * inverse_channels * (gf - s * gm)
    grad_s = k * (fm - s * centre_squares) - r * gm
    # The gradient of the features is factors 0, 1, 2 times g, f, m. Factors 3, 4, 5 are for the gradient of the centre.
    factors, grad_features = hl.Func("factors"), hl.Func("grad_features")
    factors[x, y, n] = hl.Tuple([r, grad_s * inverse_channels / s - k, k * s, s * r, s * k, s * s * k])
    factor = factors[x, y, n]
    f, g = to_float32(features[x, y, c, n], dtype), to_float32(grad[x, y, c, n], dtype)
    grad_features[x, y, c, n] = from_float32(factor[0] * g + factor[1] * f + factor[2] * centre[c], dtype)
    schedule_strips(grad_features, "channels_last")

    column, total, grad_centre = hl.RDom([(0, features.dim(0).extent())]), hl.Func("total"), hl.Func("grad_centre")
    factor = factors[column.x, y, n]
    f, g = to_float32(features[column.x, y, c, n], dtype), to_float32(grad[column.x, y, c, n], dtype)
    total[c, y, n] = 0.0
    total[c, y, n] += factor[4] * f - factor[3] * g - factor[5] * centre[c]
    grad_centre[c, y, n] = total[c, y, n]
    block, lane, task = hl.Var("block"), hl.Var("lane"), hl.Var("task")
    _set_whole_vectors(grad_centre.output_buffer().dim(0))
    grad_centre.split(c, block, lane, LANES).reorder(lane, block, y, n).vectorize(lane)
    grad_centre.fuse(y, n, task).parallel(task)
    total.compute_at(grad_centre, block).vectorize(c, LANES).update().reorder(c, column.x).vectorize(c, LANES)

    factors.compute_root().vectorize(x, LANES, hl.TailStrategy.GuardWithIf).fuse(y, n, task).parallel(task)
    pixel_sums.schedule(factors, task)
    return [grad, features, centre, inverse_channels], [grad_features, grad_centre]


def _inputs(dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Return the inputs features, centre and 1 / C."""
    import halide as hl

    centre = hl.ImageParam(hl.Float(32), 1, "centre")
    _set_whole_vectors(centre.dim(0))
    return maps_input("features", "channels_last", dtype), centre, hl.Param(hl.Float(32), "inverse_channels")


def _set_whole_vectors(dimension: Any) -> None:
    """Tell Halide that a dimension of channels starts at 0 and that its extent is a multiple of 16."""
    dimension.set_bounds(0, dimension.extent() // LANES * LANES)


class _PixelSums:
    """Sums over the channels of a pixel: `sums[k, x, y, n]` is the sum of the k-th term."""

    def __init__(self, terms: list[Any], blocks: Any) -> None:
        """terms: expressions of the channel `c` (0..15) in the block `blocks.x` of 16 channels, at (x, y, n)."""
        import halide as hl

        x, y, c, n = variables()
        count = len(terms)
        self.count, self.blocks, self.lanes = count, blocks, hl.RDom([(0, LANES)])
        self.partial_sums, self.sums, self.k = hl.Func("partial_sums"), hl.Func("sums"), hl.Var("k")
        self.partial_sums[c, x, y, n] = hl.Tuple([hl.f32(0)] * count)
        self.partial_sums[c, x, y, n] = hl.Tuple([self.partial_sums[c, x, y, n][j] + terms[j] for j in range(count)])
        self.sums[self.k, x, y, n] = 0.0
        lane_sums = [self.partial_sums[self.lanes.x, x, y, n][j] for j in range(count)]
        self.sums[self.k, x, y, n] += hl.mux(self.k, lane_sums)

    def schedule(self, consumer: Any, loop: Any) -> None:
        """Compute the sums within a loop of the consumer, one vector of channels at a time."""
        x, y, c, n = variables()
        self.sums.compute_at(consumer, loop).bound(self.k, 0, self.count).reorder(self.k, x).unroll(self.k)
        self.sums.reorder_storage(x, self.k, y, n)
        self.sums.update().reorder(self.lanes.x, self.k, x).unroll(self.k).atomic().vectorize(self.lanes.x, LANES)
        self.partial_sums.compute_at(self.sums, x).vectorize(c, LANES)
        self.partial_sums.update().reorder(c, self.blocks.x).vectorize(c, LANES)


def _pixel_sums(features: Any, grad: Any, centre: Any, dtype: torch.dtype) -> tuple[_PixelSums, Any]:
    """Return the sums of f², f m and, if there is a gradient, g f and g m for every pixel, and the sum of m²."""
    import halide as hl

    x, y, c, n = variables()
    channels = features.dim(2).extent()
    blocks = hl.RDom([(0, channels // LANES)])
    channel = c + LANES * blocks.x
    f, m = to_float32(features[x, y, channel, n], dtype), centre[channel]
    terms = [f * f, f * m]
    if grad is not None:
        g = to_float32(grad[x, y, channel, n], dtype)
        terms += [g * f, g * m]
    all_channels, centre_squares = hl.RDom([(0, channels)]), hl.Func("centre_squares")
    centre_squares[()] = 0.0
    centre_squares[()] += centre[all_channels.x] * centre[all_channels.x]
    centre_squares.compute_root()
    return _PixelSums(terms, blocks), centre_squares[()]


def _magnitude_and_factor(pixel_sums: _PixelSums, centre_squares: Any, inverse_channels: Any) -> tuple[Any, Any]:
    """Return s and r of a pixel: its root mean square, and the reciprocal root mean square of a = f − s m."""
    import halide as hl

    x, y, _, n = variables()
    mean_squares = pixel_sums.sums[0, x, y, n] * inverse_channels
    s = hl.sqrt(mean_squares + hl.f32(EPSILON))
    mean_products = 2 * s * pixel_sums.sums[1, x, y, n] * inverse_channels
    variance = hl.max(mean_squares - mean_products + s * s * centre_squares * inverse_channels, 0.0)
    return s, 1 / hl.sqrt(variance + hl.f32(EPSILON))
