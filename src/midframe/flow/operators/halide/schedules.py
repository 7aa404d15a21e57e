"""Loops over the rows of a map, and small expressions, for the Halide pipelines of the flow operators."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

from midframe.ops.halide.layouts import LANES, variables

ROWS_PER_TASK = 32
"""Rows of one parallel task. A task also computes up to twelve rows above its own, so fewer rows cost more."""


def schedule_output(out: Any) -> tuple[Any, Any]:
    """Vectorise and parallelise an output (x, y, n) or (x, y, c, n).

    Returns the loop variables of a row and of a task.
    """
    import halide as hl

    x, y, c, n = variables()
    if out.dimensions() == 4:
        out.bound(c, 0, 2).reorder(x, c, y, n)
    out.vectorize(x, LANES, hl.TailStrategy.GuardWithIf)
    return split_into_tasks(out)


def split_into_tasks(function: Any) -> tuple[Any, Any]:
    """Let each parallel task compute some rows of one sample of a function.

    Returns the loop variables of a row and of a task.
    """
    import halide as hl

    _, y, _, n = variables()
    row, strip, task = hl.Var("row"), hl.Var("strip"), hl.Var("task")
    function.split(y, strip, row, ROWS_PER_TASK, hl.TailStrategy.GuardWithIf).fuse(strip, n, task).parallel(task)
    return row, task


def vectorise(function: Any) -> Any:
    """Vectorise an intermediate function along x; its buffer is rounded up to whole vectors. Return the function."""
    import halide as hl

    return function.vectorize(variables()[0], LANES, hl.TailStrategy.RoundUp)


def clamp_column(x: Any, width: Any) -> Any:
    """Clamp a column to the image. With `likely` Halide splits the loop, and its main part needs no clamping."""
    import halide as hl

    return hl.clamp(hl.likely(x), 0, width - 1)


def values_at(function: Any, count: int, *position: Any) -> list[Any]:
    """Return the `count` values of a function at a position, as a list."""
    return [function[position][k] for k in range(count)] if count > 1 else [function[position]]


def sum_of(expressions: Iterable[Any]) -> Any:
    """Return the sum of expressions, added from left to right."""
    return functools.reduce(operator.add, expressions)
