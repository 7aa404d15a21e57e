"""The median filter on the CPU: the columns of the window are sorted, then merged; neighbouring pixels share both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.flow.operators.halide.schedules import clamp_column, schedule_output, values_at, vectorise
from midframe.ops.halide.compiler import load_pipeline
from midframe.ops.halide.layouts import LANES, variables
from midframe.ops.halide.sorting import merge_ascending, select_rank, sort_ascending


def forward(flow: Tensor) -> Tensor:
    """Return the filtered maps `[B, C, H, W]`."""
    out = torch.empty(flow.shape)
    run = load_pipeline("median_filter", __file__, _define)
    run(flow.contiguous().flatten(0, 1), out.flatten(0, 1))
    return out


def _define() -> tuple[list[Any], list[Any]]:
    """Define the pipeline. Return its inputs and its outputs."""
    import halide as hl

    flow = hl.ImageParam(hl.Float(32), 3, "flow")
    x, y, _, n = variables()
    width, height = flow.dim(0).extent(), flow.dim(1).extent()
    names = "columns", "column_pairs", "middle_ranks", "median", "out"
    columns, column_pairs, middle_ranks, median, out = (hl.Func(name) for name in names)
    column = [flow[clamp_column(x, width), hl.clamp(y + dy, 0, height - 1), n] for dy in range(-2, 3)]
    columns[x, y, n] = hl.Tuple(sort_ascending(column))
    # The pair (x, x + 1) is the left pair in the window of the pixel x + 2 and the right pair in that of x - 1.
    column_pairs[x, y, n] = hl.Tuple(
        merge_ascending(values_at(columns, 5, x, y, n), values_at(columns, 5, x + 1, y, n))
    )
    left, right = values_at(column_pairs, 10, x - 2, y, n), values_at(column_pairs, 10, x + 1, y, n)
    # The median of 25 values has rank 12, counted from 0. Between 0 and 5 of the middle column's values are below it,
    # so among the 20 values of both pairs only the ranks 7 to 12 can be the median.
    middle_ranks[x, y, n] = hl.Tuple([select_rank(left, right, rank) for rank in range(7, 13)])
    median[x, y, n] = select_rank(values_at(middle_ranks, 6, x, y, n), values_at(columns, 5, x, y, n), 12 - 7)
    out[x, y, n] = median[x, y, n]

    row, _ = schedule_output(out)
    vectorise(median.compute_at(out, row))
    middle_ranks.compute_at(median, x).vectorize(x, LANES)
    for function in (columns, column_pairs):
        vectorise(function.compute_at(out, row))
    return [flow], [out]
