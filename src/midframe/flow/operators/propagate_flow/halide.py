"""PatchMatch propagation on the CPU, in one pass over the frames for each distance to the neighbours."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from midframe.flow.operators.halide.box_filter import repeat_border_columns
from midframe.flow.operators.halide.schedules import (
    clamp_column,
    schedule_output,
    split_into_tasks,
    sum_of,
    vectorise,
)
from midframe.flow.operators.halide.warping import frame_flow_time_inputs, separate_frames, warped_pixel
from midframe.flow.operators.propagate_flow.reference import NEIGHBOUR_OFFSETS, NEIGHBOUR_PENALTY
from midframe.flow.operators.reference import ROBUST_SCALE, WINDOW_RADIUS
from midframe.ops.halide.compiler import load_pipeline
from midframe.ops.halide.layouts import LANES, variables


def forward(frames: Tensor, flow: Tensor, time: Tensor) -> Tensor:
    """Return the flow `[B, 2, H, W]` after both passes."""
    out = torch.empty(flow.shape)
    name = "_".join(map(str, ("propagate_flow", WINDOW_RADIUS, *NEIGHBOUR_OFFSETS)))
    run = load_pipeline(name, __file__, functools.partial(_define, WINDOW_RADIUS, NEIGHBOUR_OFFSETS))
    run(separate_frames(frames), flow.contiguous(), time.contiguous(), ROBUST_SCALE, NEIGHBOUR_PENALTY, out)
    return out


@dataclass(frozen=True)
class _Inputs:
    """The inputs of the pipeline."""

    frames: Any
    """(x, y, n, s)"""
    flow: Any
    """(x, y, c, n)"""
    time: Any
    """(n)"""
    robust_scale: Any
    penalty: Any
    """Added to the cost of a neighbour's flow."""

    @property
    def size(self) -> tuple[Any, Any]:
        """Width and height."""
        return self.flow.dim(0).extent(), self.flow.dim(1).extent()


@dataclass(frozen=True)
class _Pass:
    """The functions of one pass, which tries the neighbours at one distance. k counts the candidates."""

    padded: Any
    """(x, y, c, n): the flow before the pass, with the border columns repeated."""
    candidate: Any
    """(x, y, c, k, n): the flow of the k-th candidate for a pixel."""
    robust: Any
    """(x, y, k, n): the Geman-McClure cost of the residual."""
    row_sums: Any
    """(x, y, k, n): `robust` summed along the rows of the window."""
    cost: Any
    """(x, y, k, n): the mean of `robust` in the window, with the penalty."""
    lowest: Any
    """(x, y, n): the lowest cost."""
    best: Any
    """(x, y, n): the flow that has the lowest cost, and this cost: a tuple (horizontal, vertical, cost)."""


def _define(radius: int, offsets: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    """Define the pipeline. Return its inputs and its outputs."""
    import halide as hl

    frames, flow, time = frame_flow_time_inputs()
    inputs = _Inputs(frames, flow, time, hl.Param(hl.Float(32), "robust_scale"), hl.Param(hl.Float(32), "penalty"))
    before: _Pass | None = None
    for index, offset in enumerate(offsets):
        last = index + 1 == len(offsets)
        current = _define_pass(inputs, before, offset, radius, index)
        vectorise(current.padded.compute_root())
        split_into_tasks(current.padded)
        if last:
            out = _flow_of(current)
            row, task = schedule_output(out)
            vectorise(current.best.compute_at(out, row))
            _schedule_pass(current, out, row, task)
        else:
            vectorise(current.best.compute_root())
            _schedule_pass(current, current.best, *split_into_tasks(current.best))
        before = current
    return [frames, flow, time, inputs.robust_scale, inputs.penalty], [out]


def _define_pass(inputs: _Inputs, before: _Pass | None, offset: int, radius: int, index: int) -> _Pass:
    """Define the pass over the neighbours at a distance of `offset`, after the pass `before` (None: the first)."""
    import halide as hl

    x, y, c, n = variables()
    k = hl.Var("k")
    width, height = inputs.size
    shifts = [(-offset, 0), (offset, 0), (0, -offset), (0, offset)]
    if before is None:
        shifts.insert(0, (0, 0))  # the pixel's own flow, whose cost is not known yet
    names = "padded", "candidate", "robust", "row_sums", "cost", "lowest", "best"
    current = _Pass(*(hl.Func(f"{name}_{index}") for name in names))

    flow = inputs.flow if before is None else _flow_of(before)
    current.padded[x, y, c, n] = flow[clamp_column(x, width), y, c, n]
    # The clamps change no value of a valid k. They tell Halide the bounds of the neighbours' positions.
    candidate_index = hl.clamp(k, 0, len(shifts) - 1)
    dx, dy = (hl.clamp(hl.mux(candidate_index, [hl.i32(s[axis]) for s in shifts]), -offset, offset) for axis in (0, 1))
    current.candidate[x, y, c, k, n] = current.padded[x + dx, hl.clamp(y + dy, 0, height - 1), c, n]

    candidate = [current.candidate[x, y, axis, k, n] for axis in (0, 1)]
    first, second = (warped_pixel(inputs.frames, candidate, inputs.time, inputs.size, s) for s in (0, 1))
    squares = (second - first) * (second - first)
    current.robust[x, y, k, n] = squares / (squares + inputs.robust_scale)
    repeat_border_columns(current.robust, radius, width)
    window = range(-radius, radius + 1)
    current.row_sums[x, y, k, n] = sum_of(current.robust[x + i, y, k, n] for i in window)
    total = sum_of(current.row_sums[x, hl.clamp(y + j, 0, height - 1), k, n] for j in window)
    penalty = hl.select((before is None) & (k == 0), 0.0, inputs.penalty)
    current.cost[x, y, k, n] = total * hl.f32(1 / len(window) ** 2) + penalty
    _define_best(current, before, len(shifts))
    return current


def _define_best(current: _Pass, before: _Pass | None, count: int) -> None:
    """Define the lowest cost and the first flow that has it, among the candidates and the result of `before`."""
    import halide as hl

    x, y, _, n = variables()
    costs = [current.cost[x, y, k, n] for k in range(count)]
    flows = [[hl.Expr(current.candidate[x, y, axis, k, n]) for k in range(count)] for axis in (0, 1)]
    if before is not None:
        costs.insert(0, before.best[x, y, n][2])
        for axis in (0, 1):
            flows[axis].insert(0, hl.Expr(current.padded[x, y, axis, n]))
    current.lowest[x, y, n] = functools.reduce(hl.min, costs)
    is_lowest = [cost == current.lowest[x, y, n] for cost in costs]
    components = (_first_where(is_lowest, values) for values in flows)
    current.best[x, y, n] = hl.Tuple([*components, current.lowest[x, y, n]])


def _schedule_pass(current: _Pass, consumer: Any, row: Any, task: Any) -> None:
    """Compute a pass row by row within the consumer, and keep the row sums for the duration of a task."""
    import halide as hl

    x, y, _, n = variables()
    k = hl.Var("k")
    for stage in (current.cost, current.lowest):
        vectorise(stage.compute_at(current.best, x))
    current.cost.unroll(k)
    current.row_sums.store_at(consumer, task).compute_at(consumer, row).reorder(x, k, y, n)
    current.row_sums.vectorize(x, LANES, hl.TailStrategy.RoundUp)
    vectorise(current.robust.compute_at(current.row_sums, k))


def _flow_of(result: _Pass) -> Any:
    """Return the flow that a pass chose, as a function (x, y, c, n)."""
    import halide as hl

    x, y, c, n = variables()
    flow = hl.Func("chosen_flow")
    flow[x, y, c, n] = hl.select(c == 0, result.best[x, y, n][0], result.best[x, y, n][1])
    return flow


def _first_where(conditions: list[Any], values: list[Any]) -> Any:
    """Return the first value whose condition holds. The last condition is not tested: it is assumed to hold."""
    import halide as hl

    chosen = values[-1]
    for condition, value in zip(reversed(conditions[:-1]), reversed(values[:-1]), strict=True):
        chosen = hl.select(condition, value, chosen)
    return chosen
