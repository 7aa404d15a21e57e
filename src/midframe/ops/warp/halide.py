"""Backward warp on the CPU: one pass over the picture, the motion of a row worked out once for all channels.

Layouts as in `halide_maps`. The gradient of the image is a scatter: one worker owns one plane (or 16 channels) of one
sample, so the sums have one order and need no locks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.ops.halide.compiler import Run, compiled, read, write
from midframe.ops.halide.layouts import LANES, ROWS, any_strides, like, maps, ready, strips, variables, whole_vectors


def forward(image: Tensor, motion: Tensor) -> Tensor:
    """The warped image, in the image's type and memory format."""
    layout, image, kind = ready(image)
    out = like(image)
    _pipeline("forward", layout, image.dtype)(image, motion.contiguous(), _scale(image, motion), out)
    return out.to(kind)


def gradient_image(grad_out: Tensor, motion: Tensor) -> Tensor:
    """The gradient of the image: every pixel's gradient dealt out to the four it was read from."""
    layout, grad_out, kind = ready(grad_out)
    grad_image = like(grad_out)
    _pipeline("gradient_image", layout, grad_out.dtype)(
        grad_out, motion.contiguous(), _scale(grad_out, motion), grad_image
    )
    return grad_image.to(kind)


def gradient_motion(grad_out: Tensor, image: Tensor, motion: Tensor) -> Tensor:
    """The gradient of the motion, at the motion's size."""
    layout, grad_out, image, _ = ready(grad_out, image)
    size = image.shape[-2:]
    grad_motion = motion.new_empty((image.shape[0], 2, *size))
    _pipeline("gradient_motion", layout, image.dtype)(
        grad_out, image, motion.contiguous(), _scale(image, motion), grad_motion
    )
    if motion.shape[-2:] == size:
        return grad_motion
    back = torch.ops.aten.upsample_bilinear2d_backward
    summed: Tensor = back(grad_motion, list(size), list(motion.shape), False, None, None)
    return summed


def _scale(image: Tensor, motion: Tensor) -> int:
    return image.shape[-1] // motion.shape[-1]


def _pipeline(kind: str, layout: str, dtype: torch.dtype) -> Run:
    define = {"forward": _forward, "gradient_image": _gradient_image, "gradient_motion": _gradient_motion}[kind]
    name = f"warp_{kind}_{layout}_{str(dtype).removeprefix('torch.')}"
    return compiled(name, __file__, lambda: define(layout, dtype))


def _forward(layout: str, dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    import halide as hl

    image, (motion, scale) = maps("image", layout, dtype), _motion_inputs()
    x, y, c, n = variables()
    place = _Place(motion, scale, image.dim(0).extent(), image.dim(1).extent())
    a, b = place[x, y, n][2], place[x, y, n][3]
    corner = _corners(image, place[x, y, n], c, n, dtype)
    upper = (1 - a) * corner(0, 0) + a * corner(1, 0)
    lower = (1 - a) * corner(0, 1) + a * corner(1, 1)
    out = hl.Func("out")
    out[x, y, c, n] = write((1 - b) * upper + b * lower, dtype)
    row = strips(out, layout)
    place.at(out, row)
    return [image, motion, scale], [out]


def _gradient_image(layout: str, dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    import halide as hl

    grad, (motion, scale) = maps("grad", layout, dtype), _motion_inputs()
    x, y, c, n = variables()
    width, height = grad.dim(0).extent(), grad.dim(1).extent()
    place = _Place(motion, scale, width, height)
    r = hl.RDom([(0, 2), (0, 2), (0, width), (0, height)])
    left, top, a, b = (place[r[2], r[3], n][k] for k in range(4))
    to_x = hl.clamp(left + r[0], 0, width - 1)
    to_y = hl.clamp(top + r[1], 0, height - 1)
    weight = hl.select(r[0] == 0, 1 - a, a) * hl.select(r[1] == 0, 1 - b, b)
    total, out, task = hl.Func("total"), hl.Func("out"), hl.Var("task")
    total[x, y, c, n] = 0.0
    total[to_x, to_y, c, n] += weight * read(grad[r[2], r[3], c, n], dtype)
    out[x, y, c, n] = write(total[x, y, c, n], dtype)
    if layout == "last":
        block, lane = hl.Var("block"), hl.Var("lane")
        whole_vectors(out)
        out.split(c, block, lane, LANES).reorder(lane, x, y, block, n).vectorize(lane)
        out.fuse(block, n, task).parallel(task)
        total.compute_at(out, task).reorder_storage(c, x, y, n).reorder(c, x, y).vectorize(c, LANES)
        total.update().reorder(c, r[0], r[1], r[2], r[3]).vectorize(c, LANES).unroll(r[0]).unroll(r[1])
    else:
        any_strides(out)
        out.fuse(c, n, task).parallel(task)
        total.compute_at(out, task).vectorize(x, LANES, hl.TailStrategy.RoundUp)
        total.update().unroll(r[0]).unroll(r[1])
    place.at(out, task)
    return [grad, motion, scale], [out]


def _gradient_motion(layout: str, dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    import halide as hl

    image, (motion, scale) = maps("image", layout, dtype), _motion_inputs()
    grad = maps("grad", layout, dtype)
    x, y, c, n = variables()
    channels = image.dim(2).extent()
    place = _Place(motion, scale, image.dim(0).extent(), image.dim(1).extent())
    a, b = place[x, y, n][2], place[x, y, n][3]

    def slopes(channel: Any) -> tuple[Any, Any]:
        corner = _corners(image, place[x, y, n], channel, n, dtype)
        g = read(grad[x, y, channel, n], dtype)
        along_x = (1 - b) * (corner(1, 0) - corner(0, 0)) + b * (corner(1, 1) - corner(0, 1))
        along_y = (1 - a) * (corner(0, 1) - corner(0, 0)) + a * (corner(1, 1) - corner(1, 0))
        return g * along_x, g * along_y

    part, total, out = hl.Func("part"), hl.Func("total"), hl.Func("out")
    if layout == "last":
        blocks, lanes = hl.RDom([(0, channels // LANES)]), hl.RDom([(0, LANES)])
        part[c, x, y, n] = hl.Tuple([hl.f32(0), hl.f32(0)])
        more = slopes(c + LANES * blocks[0])
        part[c, x, y, n] = hl.Tuple([part[c, x, y, n][k] + more[k] for k in range(2)])
        total[c, x, y, n] = 0.0
        total[c, x, y, n] += hl.select(c == 0, part[lanes[0], x, y, n][0], part[lanes[0], x, y, n][1])
    else:
        blocks = hl.RDom([(0, channels)])
        part[x, y, n] = hl.Tuple([hl.f32(0), hl.f32(0)])
        more = slopes(blocks[0])
        part[x, y, n] = hl.Tuple([part[x, y, n][k] + more[k] for k in range(2)])
        total[c, x, y, n] = hl.select(c == 0, part[x, y, n][0], part[x, y, n][1])
    inside = hl.select(c == 0, place[x, y, n][4], place[x, y, n][5])
    out[x, y, c, n] = hl.select(inside > 0, total[c, x, y, n], 0.0)

    row, group, task, lane, block = (hl.Var(name) for name in ("row", "group", "task", "lane", "block"))
    out.bound(c, 0, 2).split(y, group, row, ROWS, hl.TailStrategy.GuardWithIf)
    if layout == "last":
        out.reorder(c, x, row, group, n).unroll(c)
        total.compute_at(out, x).unroll(c).update().unroll(c).atomic().vectorize(lanes[0], LANES)
        part.compute_at(out, x).vectorize(c, LANES).update().reorder(c, blocks[0]).vectorize(c, LANES)
    else:
        out.split(x, block, lane, LANES, hl.TailStrategy.GuardWithIf)
        out.reorder(lane, c, block, row, group, n).unroll(c).vectorize(lane)
        part.compute_at(out, row).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
        part.update().reorder(x, blocks[0]).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
    out.fuse(group, n, task).parallel(task)
    place.at(out, row)
    return [grad, image, motion, scale], [out]


def _motion_inputs() -> tuple[Any, Any]:
    """The motion, and by how much it is smaller than the picture."""
    import halide as hl

    return hl.ImageParam(hl.Float(32), 4, "motion"), hl.Param(hl.Int(32), "scale")


class _Place:
    """For a pixel (x, y, n): the corner read (column, row), weights of the next, and whether it may move (x, y)."""

    def __init__(self, motion: Any, scale: Any, width: Any, height: Any) -> None:
        import halide as hl

        x, y, c, n = variables()
        self.scale = scale
        # The motion upsampled to the picture's rows, then to its columns.
        self.rows, self.values = hl.Func("motion_rows"), hl.Func("place")
        top, bottom, b = _between(y, scale, motion.dim(1).extent())
        self.rows[x, y, c, n] = (1 - b) * motion[x, top, c, n] + b * motion[x, bottom, c, n]
        left, right, a = _between(x, scale, motion.dim(0).extent())
        values, free = [], []
        for axis, (at, extent) in enumerate(((x, width), (y, height))):
            upsampled = (1 - a) * self.rows[left, y, axis, n] + a * self.rows[right, y, axis, n]
            position = at + hl.select(scale == 1, motion[x, y, axis, n], upsampled)
            last = hl.cast(hl.Float(32), extent - 1)
            kept = hl.select(position > 0, hl.min(position, last), 0.0)
            corner = hl.clamp(hl.cast(hl.Int(32), kept), 0, extent - 1)
            values.append((corner, kept - corner))
            free.append(hl.select((position > 0) & (position < last), 1.0, 0.0))
        (corner_x, weight_x), (corner_y, weight_y) = values
        self.values[x, y, n] = hl.Tuple([corner_x, corner_y, weight_x, weight_y, hl.f32(free[0]), hl.f32(free[1])])

    def __getitem__(self, pixel: tuple[Any, ...]) -> Any:
        return self.values[pixel]

    def at(self, function: Any, loop: Any) -> None:
        """Work it out once for all channels."""
        import halide as hl

        x, y, _, _ = variables()
        self.values.compute_at(function, loop).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
        self.values.specialize(self.scale == 1)
        self.rows.compute_at(self.values, y).vectorize(x, LANES, hl.TailStrategy.GuardWithIf)


def _between(at: Any, scale: Any, extent: Any) -> tuple[Any, Any, Any]:
    """The two map pixels that a pixel of the picture lies between, and the weight of the second."""
    import halide as hl

    place = hl.max((at + 0.5) / hl.cast(hl.Float(32), scale) - 0.5, 0.0)
    near = hl.clamp(hl.cast(hl.Int(32), place), 0, extent - 1)
    return near, hl.min(near + 1, extent - 1), place - near


def _corners(image: Any, place: Any, channel: Any, n: Any, dtype: torch.dtype) -> Any:
    """corner(q, r): the pixel q to the right of and r below the corner, or the last one there is."""
    import halide as hl

    width, height = image.dim(0).extent(), image.dim(1).extent()
    left, top = place[0], place[1]
    return lambda q, r: read(
        image[hl.clamp(left + q, 0, width - 1), hl.clamp(top + r, 0, height - 1), channel, n], dtype
    )
