"""Box filters for the Halide pipelines of the flow operators."""

from __future__ import annotations

from typing import Any

from midframe.flow.operators.halide.schedules import sum_of, values_at, vectorise
from midframe.ops.halide.layouts import variables


class BoxFilterTwice:
    """A box filter applied twice to a function (x, y, n) of `count` values: twice along x, then twice along y.

    `values` are the expressions of the results. The function must be defined in `radius` columns beyond the left and
    right border, for example by `repeat_border_columns`. Beyond the upper and lower border the nearest row is used.
    """

    def __init__(self, maps: Any, count: int, radius: int, size: tuple[Any, Any]) -> None:
        import halide as hl

        x, y, _, n = variables()
        width, height = size
        window = range(-radius, radius + 1)
        stages = "across", "across_twice", "down"
        self.across, self.across_twice, self.down = (hl.Func(f"{maps.name()}_{stage}") for stage in stages)

        def along_x(function: Any) -> list[Any]:
            return [sum_of(values_at(function, count, x + dx, y, n)[k] for dx in window) for k in range(count)]

        def along_y(function: Any) -> list[Any]:
            rows = [hl.clamp(y + dy, 0, height - 1) for dy in window]
            return [sum_of(values_at(function, count, x, row, n)[k] for row in rows) for k in range(count)]

        self.across[x, y, n] = hl.Tuple(along_x(maps))
        repeat_border_columns(self.across, radius, width)
        self.across_twice[x, y, n] = hl.Tuple(along_x(self.across))
        self.down[x, y, n] = hl.Tuple(along_y(self.across_twice))
        samples = len(window) ** 4  # each value is a sum of len(window)² sums of len(window)² pixels
        self.values = [total * hl.f32(1 / samples) for total in along_y(self.down)]

    def schedule(self, consumer: Any, row: Any, task: Any) -> None:
        """Compute the stages row by row within the consumer, and keep their rows for the duration of a task."""
        for stage in (self.across_twice, self.down):
            vectorise(stage.store_at(consumer, task).compute_at(consumer, row))
        vectorise(self.across.compute_at(self.across_twice, variables()[1]))


def repeat_border_columns(function: Any, reach: int, width: Any) -> None:
    """Replace the values of a function (x, ...) in the `reach` columns beyond each side by those of the nearest column.

    The columns are stored rather than clamped when they are read, so that vectors are loaded from contiguous memory.
    """
    import halide as hl

    others = function.args()[1:]
    beyond = hl.RDom([(0, reach)])
    for update, (outside, nearest) in enumerate(((-1 - beyond, 0), (width + beyond, width - 1))):
        copied = values_at(function, function.outputs(), nearest, *others)
        function[(outside, *others)] = hl.Tuple(copied) if len(copied) > 1 else copied[0]
        function.update(update).unscheduled()
