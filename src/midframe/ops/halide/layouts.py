"""Feature maps in Halide pipelines: the two layouts they come in and the loops over them.

`last`: channels-last with whole vectors of 16 channels, read and written as they lie. `plane`: everything else, with
any strides, 16 pixels of a row at a time. A tensor `[B, C, H, W]` is `f(x, y, c, n)`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.ops.halide.compiler import parameter

LANES = 16
ROWS = 8
"""Rows a task: enough to be worth a thread, few enough that small maps still make several tasks."""


def ready(*tensors: Tensor) -> tuple[Any, ...]:
    """The layout that these maps of one type and shape have in common, the maps in it, and their type.

    Vectors of bfloat16 are read as they lie; other half precision, which nothing on a CPU is fast in, goes by float32.
    """
    kind = tensors[0].dtype
    last = all(t.shape[1] % LANES == 0 for t in tensors) and any(t.stride(1) == 1 for t in tensors)
    if kind is torch.float16 or (kind is torch.bfloat16 and not last):
        tensors = tuple(t.float() for t in tensors)
    if last:
        tensors = tuple(t if t.stride(1) == 1 else t.contiguous(memory_format=torch.channels_last) for t in tensors)
    return "last" if last else "plane", *tensors, kind


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """How a result that belongs to this tensor lies: channels-last where its channels lie side by side."""
    return torch.channels_last if tensor.stride(1) == 1 and tensor.shape[1] > 1 else torch.contiguous_format


def like(tensor: Tensor, channels: int | None = None) -> Tensor:
    """Room for a result that belongs to this tensor."""
    shape = (tensor.shape[0], channels or tensor.shape[1], *tensor.shape[2:])
    return torch.empty(shape, dtype=tensor.dtype, device=tensor.device, memory_format=memory_format_of(tensor))


def variables() -> tuple[Any, Any, Any, Any]:
    """x, y, c, n: column, row, channel, sample."""
    import halide as hl

    return hl.Var("x"), hl.Var("y"), hl.Var("c"), hl.Var("n")


def maps(name: str, layout: str, dtype: torch.dtype) -> Any:
    """An input of maps in this layout."""
    import halide as hl

    image = parameter(name, dtype, 4)
    if layout == "last":
        image.dim(2).set_stride(1).set_bounds(0, image.dim(2).extent() // LANES * LANES)
    else:
        image.dim(0).set_stride(hl.Expr())
    return image


def whole_vectors(out: Any) -> None:
    """The output is channels-last and has whole vectors of channels."""
    import halide as hl

    buffer = out.output_buffer()
    buffer.dim(0).set_stride(hl.Expr())
    buffer.dim(2).set_stride(1).set_bounds(0, buffer.dim(2).extent() // LANES * LANES)


def any_strides(out: Any) -> None:
    """The output may lie anyhow."""
    import halide as hl

    out.output_buffer().dim(0).set_stride(hl.Expr())


def strips(out: Any, layout: str) -> Any:
    """Loops over an output (x, y, c, n): tasks of `ROWS` rows of a sample. Returns the variable of a row there."""
    import halide as hl

    x, y, c, n = variables()
    row, group, task, lane, block = (hl.Var(name) for name in ("row", "group", "task", "lane", "block"))
    out.split(y, group, row, ROWS, hl.TailStrategy.GuardWithIf)
    if layout == "last":
        whole_vectors(out)
        out.split(c, block, lane, LANES).reorder(lane, block, x, row, group, n).vectorize(lane)
    else:
        any_strides(out)
        out.split(x, block, lane, LANES, hl.TailStrategy.GuardWithIf)
        out.reorder(lane, c, block, row, group, n).vectorize(lane)
    out.fuse(group, n, task).parallel(task)
    return row
