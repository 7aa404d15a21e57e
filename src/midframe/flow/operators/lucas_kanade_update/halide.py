"""The Lucas-Kanade update on the CPU, in one pass: all intermediate results of a few rows stay in the cache."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from midframe.flow.operators.halide.box_filter import BoxFilterTwice, repeat_border_columns
from midframe.flow.operators.halide.schedules import clamp_column, schedule_output, values_at, vectorise
from midframe.flow.operators.halide.warping import frame_flow_time_inputs, separate_frames, warped_pixel
from midframe.flow.operators.lucas_kanade_update.reference import ABSOLUTE_DAMPING, MAX_UPDATE, RELATIVE_DAMPING
from midframe.flow.operators.reference import ROBUST_SCALE, WINDOW_RADIUS
from midframe.ops.halide.compiler import load_pipeline
from midframe.ops.halide.layouts import variables


def forward(frames: Tensor, flow: Tensor, time: Tensor) -> Tensor:
    """Return the updated flow `[B, 2, H, W]`."""
    out = torch.empty(flow.shape)
    define = functools.partial(_define, WINDOW_RADIUS)
    run = load_pipeline(f"lucas_kanade_update_{WINDOW_RADIUS}", __file__, define)
    parameters = ROBUST_SCALE, RELATIVE_DAMPING, ABSOLUTE_DAMPING, MAX_UPDATE
    run(separate_frames(frames), flow.contiguous(), time.contiguous(), *parameters, out)
    return out


def _define(radius: int) -> tuple[list[Any], list[Any]]:
    """Define the pipeline. Return its inputs and its outputs."""
    import halide as hl

    frames, flow, time = frame_flow_time_inputs()
    names = "robust_scale", "relative_damping", "absolute_damping", "max_update"
    robust_scale, relative_damping, absolute_damping, max_update = (hl.Param(hl.Float(32), name) for name in names)
    x, y, c, n = variables()
    s = hl.Var("s")
    width, height = size = flow.dim(0).extent(), flow.dim(1).extent()
    functions = "flow_padded", "warped", "derivatives", "products", "means", "update"
    flow_padded, warped, derivatives, products, means, update = (hl.Func(name) for name in functions)
    flow_padded[x, y, c, n] = flow[clamp_column(x, width), y, c, n]
    warped[x, y, n, s] = warped_pixel(frames, [flow_padded[x, y, axis, n] for axis in (0, 1)], time, size, s)
    repeat_border_columns(warped, 1, width)

    ix, iy, it = _derivatives(warped, height)
    derivatives[x, y, n] = hl.Tuple([ix, iy, it, robust_scale / (robust_scale + it * it)])
    ix, iy, it, weight = values_at(derivatives, 4, x, y, n)
    terms = ix * ix, ix * iy, iy * iy, ix * it, iy * it
    products[x, y, n] = hl.Tuple([weight * term for term in terms])
    repeat_border_columns(products, radius, width)
    window = BoxFilterTwice(products, 5, radius, size)
    means[x, y, n] = hl.Tuple(window.values)
    xx, xy, yy, xt, yt = values_at(means, 5, x, y, n)
    damping = absolute_damping + relative_damping * (xx + yy)
    xx, yy = xx + damping, yy + damping
    inverse = 1 / (2 * (xx * yy - xy * xy))
    update[x, y, n] = hl.Tuple([(xy * yt - yy * xt) * inverse, (xy * xt - xx * yt) * inverse])
    out = hl.Func("out")
    component = hl.select(c == 0, update[x, y, n][0], update[x, y, n][1])
    out[x, y, c, n] = flow[x, y, c, n] + hl.clamp(component, -max_update, max_update)

    row, task = schedule_output(out)
    vectorise(update.compute_at(out, row))
    vectorise(means.compute_at(update, x))
    window.schedule(out, row, task)
    vectorise(products.compute_at(window.across_twice, y))
    vectorise(derivatives.compute_at(products, x))
    vectorise(warped.store_at(out, task).compute_at(out, row).bound(s, 0, 2).reorder(x, s, y, n))
    return [frames, flow, time, robust_scale, relative_damping, absolute_damping, max_update], [out]


def _derivatives(warped: Any, height: Any) -> tuple[Any, Any, Any]:
    """Return Ix and Iy of the mean of both warped frames (x, y, n, s), by central differences, and It."""
    import halide as hl

    x, y, _, n = variables()

    def sum_of_both(dx: int, dy: int) -> Any:
        row = hl.clamp(y + dy, 0, height - 1)
        return warped[x + dx, row, n, 0] + warped[x + dx, row, n, 1]

    ix = (sum_of_both(1, 0) - sum_of_both(-1, 0)) / 4
    iy = (sum_of_both(0, 1) - sum_of_both(0, -1)) / 4
    return ix, iy, warped[x, y, n, 1] - warped[x, y, n, 0]
