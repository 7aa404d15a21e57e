"""The backward warp on the CPU, in one pass; the sampling positions of a row are computed once for all channels.

The layouts are those of `ops.halide.layouts`. The gradient of the image adds to scattered pixels: each plane (or block
of 16 channels) of a sample is summed by one task, so no locks are needed and the order of the sums is fixed.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from midframe.ops.halide.compiler import Run, from_float32, load_pipeline, to_float32
from midframe.ops.halide.layouts import (
    LANES,
    ROWS,
    Layout,
    allow_any_strides,
    maps_input,
    new_like,
    require_whole_vectors,
    schedule_strips,
    to_common_layout,
    variables,
)


def forward(image: Tensor, flow: Tensor) -> Tensor:
    """Return the warped image in the type of the image."""
    layout, image, dtype = to_common_layout(image)
    out = new_like(image)
    _pipeline("forward", layout, image.dtype)(image, flow.contiguous(), _scale(image, flow), out)
    return out.to(dtype)


def gradient_image(grad_out: Tensor, flow: Tensor) -> Tensor:
    """Return the gradient of the image: `grad_out` added, with bilinear weights, to the pixels that were sampled."""
    layout, grad_out, dtype = to_common_layout(grad_out)
    grad_image = new_like(grad_out)
    run = _pipeline("gradient_image", layout, grad_out.dtype)
    run(grad_out, flow.contiguous(), _scale(grad_out, flow), grad_image)
    return grad_image.to(dtype)


def gradient_flow(grad_out: Tensor, image: Tensor, flow: Tensor) -> Tensor:
    """Return the gradient of the flow, at the size of the flow."""
    layout, grad_out, image, _ = to_common_layout(grad_out, image)
    size = image.shape[-2:]
    grad_flow = flow.new_empty((image.shape[0], 2, *size))
    run = _pipeline("gradient_flow", layout, image.dtype)
    run(grad_out, image, flow.contiguous(), _scale(image, flow), grad_flow)
    if flow.shape[-2:] == size:
        return grad_flow
    upsample_backward = torch.ops.aten.upsample_bilinear2d_backward
    small_grad_flow: Tensor = upsample_backward(grad_flow, list(size), list(flow.shape), False, None, None)
    return small_grad_flow


def _scale(image: Tensor, flow: Tensor) -> int:
    """Return the width of the image divided by that of the flow."""
    return image.shape[-1] // flow.shape[-1]


def _pipeline(kind: str, layout: Layout, dtype: torch.dtype) -> Run:
    """Return the compiled pipeline for images of this layout and type."""
    definitions = {
        "forward": _define_forward,
        "gradient_image": _define_gradient_image,
        "gradient_flow": _define_gradient_flow,
    }
    name = f"warp_{kind}_{layout}_{str(dtype).removeprefix('torch.')}"
    return load_pipeline(name, __file__, functools.partial(definitions[kind], layout, dtype))


def _define_forward(layout: Layout, dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Define the pipeline of `forward`. Return its inputs and its outputs."""
    import halide as hl

    image, (flow, scale) = maps_input("image", layout, dtype), _flow_inputs()
    x, y, c, n = variables()
    positions = _SamplingPositions(flow, scale, image.dim(0).extent(), image.dim(1).extent())
    a, b = positions.weights(x, y, n)
    corner = _corner_reader(image, positions, c, dtype)
    upper = (1 - a) * corner(0, 0) + a * corner(1, 0)
    lower = (1 - a) * corner(0, 1) + a * corner(1, 1)
    out = hl.Func("out")
    out[x, y, c, n] = from_float32((1 - b) * upper + b * lower, dtype)
    row = schedule_strips(out, layout)
    positions.schedule(out, row)
    return [image, flow, scale], [out]


def _define_gradient_image(layout: Layout, dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Define the pipeline of `gradient_image`. Return its inputs and its outputs."""
    import halide as hl

    grad, (flow, scale) = maps_input("grad", layout, dtype), _flow_inputs()
    x, y, c, n = variables()
    width, height = grad.dim(0).extent(), grad.dim(1).extent()
    positions = _SamplingPositions(flow, scale, width, height)
    # r[0] and r[1] choose one of the four pixels around a position, r[2] and r[3] the pixel of `grad`.
    r = hl.RDom([(0, 2), (0, 2), (0, width), (0, height)])
    left, top = positions.corner(r[2], r[3], n)
    a, b = positions.weights(r[2], r[3], n)
    target_x = hl.clamp(left + r[0], 0, width - 1)
    target_y = hl.clamp(top + r[1], 0, height - 1)
    weight = hl.select(r[0] == 0, 1 - a, a) * hl.select(r[1] == 0, 1 - b, b)
    total, out, task = hl.Func("total"), hl.Func("out"), hl.Var("task")
    total[x, y, c, n] = 0.0
    total[target_x, target_y, c, n] += weight * to_float32(grad[r[2], r[3], c, n], dtype)
    out[x, y, c, n] = from_float32(total[x, y, c, n], dtype)
    if layout == "channels_last":
        block, lane = hl.Var("block"), hl.Var("lane")
        require_whole_vectors(out)
        out.split(c, block, lane, LANES).reorder(lane, x, y, block, n).vectorize(lane)
        out.fuse(block, n, task).parallel(task)
        total.compute_at(out, task).reorder_storage(c, x, y, n).reorder(c, x, y).vectorize(c, LANES)
        total.update().reorder(c, r[0], r[1], r[2], r[3]).vectorize(c, LANES).unroll(r[0]).unroll(r[1])
    else:
        allow_any_strides(out)
        out.fuse(c, n, task).parallel(task)
        total.compute_at(out, task).vectorize(x, LANES, hl.TailStrategy.RoundUp)
        total.update().unroll(r[0]).unroll(r[1])
    positions.schedule(out, task)
    return [grad, flow, scale], [out]


def _define_gradient_flow(layout: Layout, dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Define the pipeline of `gradient_flow`. Return its inputs and its outputs."""
    import halide as hl

    image, (flow, scale) = maps_input("image", layout, dtype), _flow_inputs()
    grad = maps_input("grad", layout, dtype)
    x, y, c, n = variables()
    positions = _SamplingPositions(flow, scale, image.dim(0).extent(), image.dim(1).extent())
    a, b = positions.weights(x, y, n)

    def products(channel: Any) -> tuple[Any, Any]:
        """Return the gradient of the result times the slopes of the image along x and y, in one channel."""
        corner = _corner_reader(image, positions, channel, dtype)
        g = to_float32(grad[x, y, channel, n], dtype)
        slope_x = (1 - b) * (corner(1, 0) - corner(0, 0)) + b * (corner(1, 1) - corner(0, 1))
        slope_y = (1 - a) * (corner(0, 1) - corner(0, 0)) + a * (corner(1, 1) - corner(1, 0))
        return g * slope_x, g * slope_y

    sum_over_channels = _sum_in_vectors if layout == "channels_last" else _sum_in_planes
    is_interior = hl.select(c == 0, *positions.interior(x, y, n)) > 0
    out, row = sum_over_channels(products, image.dim(2).extent(), is_interior)
    positions.schedule(out, row)
    return [grad, image, flow, scale], [out]


def _sum_in_vectors(products: Any, channels: Any, is_interior: Any) -> tuple[Any, Any]:
    """Sum the products over the channels of a channels-last image, in vectors of 16 channels.

    The vectors are added first, then the 16 lanes of the result.

    products: a function of a channel that returns two products, for x and y. is_interior: a condition on (x, y, c, n);
    the gradient is zero if it is false.
    Returns the scheduled gradient of the flow (x, y, c, n) and its loop variable over the rows of a task.
    """
    import halide as hl

    x, y, c, n = variables()
    partial, total, out = hl.Func("partial"), hl.Func("total"), hl.Func("out")
    blocks, lanes = hl.RDom([(0, channels // LANES)]), hl.RDom([(0, LANES)])
    partial[c, x, y, n] = hl.Tuple([hl.f32(0), hl.f32(0)])
    terms = products(c + LANES * blocks[0])
    partial[c, x, y, n] = hl.Tuple([partial[c, x, y, n][axis] + terms[axis] for axis in range(2)])
    total[c, x, y, n] = 0.0
    total[c, x, y, n] += hl.select(c == 0, partial[lanes[0], x, y, n][0], partial[lanes[0], x, y, n][1])
    out[x, y, c, n] = hl.select(is_interior, total[c, x, y, n], 0.0)

    row, group, task = hl.Var("row"), hl.Var("group"), hl.Var("task")
    out.bound(c, 0, 2).split(y, group, row, ROWS, hl.TailStrategy.GuardWithIf)
    out.reorder(c, x, row, group, n).unroll(c)
    total.compute_at(out, x).unroll(c).update().unroll(c).atomic().vectorize(lanes[0], LANES)
    partial.compute_at(out, x).vectorize(c, LANES).update().reorder(c, blocks[0]).vectorize(c, LANES)
    out.fuse(group, n, task).parallel(task)
    return out, row


def _sum_in_planes(products: Any, channels: Any, is_interior: Any) -> tuple[Any, Any]:
    """Sum the products over the channels of an image in the layout `planar`, in vectors of 16 pixels of a row.

    Arguments and result are those of `_sum_in_vectors`.
    """
    import halide as hl

    x, y, c, n = variables()
    partial, total, out = hl.Func("partial"), hl.Func("total"), hl.Func("out")
    channel = hl.RDom([(0, channels)])
    partial[x, y, n] = hl.Tuple([hl.f32(0), hl.f32(0)])
    terms = products(channel[0])
    partial[x, y, n] = hl.Tuple([partial[x, y, n][axis] + terms[axis] for axis in range(2)])
    total[c, x, y, n] = hl.select(c == 0, partial[x, y, n][0], partial[x, y, n][1])
    out[x, y, c, n] = hl.select(is_interior, total[c, x, y, n], 0.0)

    row, group, task, lane, block = (hl.Var(name) for name in ("row", "group", "task", "lane", "block"))
    out.bound(c, 0, 2).split(y, group, row, ROWS, hl.TailStrategy.GuardWithIf)
    out.split(x, block, lane, LANES, hl.TailStrategy.GuardWithIf)
    out.reorder(lane, c, block, row, group, n).unroll(c).vectorize(lane)
    partial.compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
    partial.update().reorder(x, channel[0]).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
    out.fuse(group, n, task).parallel(task)
    return out, row


def _flow_inputs() -> tuple[Any, Any]:
    """Return the inputs flow and scale, the size of the image divided by that of the flow."""
    import halide as hl

    return hl.ImageParam(hl.Float(32), 4, "flow"), hl.Param(hl.Int(32), "scale")


class _SamplingPositions:
    """The position in the image that each pixel samples."""

    def __init__(self, flow: Any, scale: Any, width: Any, height: Any) -> None:
        import halide as hl

        x, y, c, n = variables()
        self.scale = scale
        # The flow is upsampled to the rows of the image, then to its columns.
        # `values`: column and row of the upper left pixel, two bilinear weights, two flags of the interior.
        self.upsampled_rows, self.values = hl.Func("upsampled_rows"), hl.Func("positions")
        top, bottom, b = _upsampling_neighbours(y, scale, flow.dim(1).extent())
        self.upsampled_rows[x, y, c, n] = (1 - b) * flow[x, top, c, n] + b * flow[x, bottom, c, n]
        left, right, a = _upsampling_neighbours(x, scale, flow.dim(0).extent())
        corners, weights, interior = [], [], []
        for axis, (pixel, extent) in enumerate(((x, width), (y, height))):
            upsampled = (1 - a) * self.upsampled_rows[left, y, axis, n] + a * self.upsampled_rows[right, y, axis, n]
            position = pixel + hl.select(scale == 1, flow[x, y, axis, n], upsampled)
            last = hl.cast(hl.Float(32), extent - 1)
            clamped = hl.select(position > 0, hl.min(position, last), 0.0)
            corner = hl.clamp(hl.cast(hl.Int(32), clamped), 0, extent - 1)
            corners.append(corner)
            weights.append(clamped - corner)
            interior.append(hl.f32(hl.select((position > 0) & (position < last), 1.0, 0.0)))
        self.values[x, y, n] = hl.Tuple([*corners, *weights, *interior])

    def corner(self, x: Any, y: Any, n: Any) -> tuple[Any, Any]:
        """Return the column and the row of the upper left one of the four pixels around the position."""
        return self.values[x, y, n][0], self.values[x, y, n][1]

    def weights(self, x: Any, y: Any, n: Any) -> tuple[Any, Any]:
        """Return the bilinear weights of the right and of the lower pixels."""
        return self.values[x, y, n][2], self.values[x, y, n][3]

    def interior(self, x: Any, y: Any, n: Any) -> tuple[Any, Any]:
        """Return, for each axis, 1.0 if the position is inside of the image, 0.0 if it is on the border or outside."""
        return self.values[x, y, n][4], self.values[x, y, n][5]

    def schedule(self, consumer: Any, loop: Any) -> None:
        """Compute the positions once for all channels, within a loop of the consumer."""
        import halide as hl

        x, y, _, _ = variables()
        self.values.compute_at(consumer, loop).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
        self.values.specialize(self.scale == 1)
        self.upsampled_rows.compute_at(self.values, y).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)


def _upsampling_neighbours(pixel: Any, scale: Any, extent: Any) -> tuple[Any, Any, Any]:
    """Return, along one axis, the two flow pixels around a pixel of the image, and the weight of the second one."""
    import halide as hl

    position = hl.max((pixel + 0.5) / hl.cast(hl.Float(32), scale) - 0.5, 0.0)
    corner = hl.clamp(hl.cast(hl.Int(32), position), 0, extent - 1)
    return corner, hl.min(corner + 1, extent - 1), position - corner


def _corner_reader(image: Any, positions: _SamplingPositions, channel: Any, dtype: torch.dtype) -> Any:
    """Return a function corner(right, down), with arguments 0 or 1, that reads one of the four pixels of (x, y, n).

    Pixels outside of the image are replaced by the nearest pixel inside.
    """
    import halide as hl

    x, y, _, n = variables()
    width, height = image.dim(0).extent(), image.dim(1).extent()
    left, top = positions.corner(x, y, n)

    def corner(right: int, down: int) -> Any:
        column, row = hl.clamp(left + right, 0, width - 1), hl.clamp(top + down, 0, height - 1)
        return to_float32(image[column, row, channel, n], dtype)

    return corner
