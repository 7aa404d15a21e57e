"""Define and schedule Halide pipelines over feature maps in one of two memory layouts.

Maps in the layout `channels_last` have a multiple of 16 channels that are adjacent in memory; the pipelines compute
vectors of 16 channels. All other maps have the layout `planar`, with any strides; the pipelines compute vectors of 16
pixels of a row. A tensor `[B, C, H, W]` is `f(x, y, c, n)` in Halide.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from midframe.ops.halide.compiler import tensor_input

Layout = Literal["channels_last", "planar"]
"""How feature maps are stored in memory."""

LANES = 16
"""Values per vector."""
ROWS = 8
"""Rows per parallel task: enough to be worth a thread, few enough that small maps still give several tasks."""


def to_common_layout(*tensors: Tensor) -> tuple[Any, ...]:
    """Bring maps of one type and shape to a common layout. Return the layout, the maps, and their original type.

    bfloat16 maps in the layout `channels_last` keep their type. Other half-precision maps are converted to float32.
    """
    dtype = tensors[0].dtype
    channels_last = all(t.shape[1] % LANES == 0 for t in tensors) and any(t.stride(1) == 1 for t in tensors)
    if dtype is torch.float16 or (dtype is torch.bfloat16 and not channels_last):
        tensors = tuple(t.float() for t in tensors)
    if channels_last:
        tensors = tuple(t if t.stride(1) == 1 else t.contiguous(memory_format=torch.channels_last) for t in tensors)
    return "channels_last" if channels_last else "planar", *tensors, dtype


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """Return channels-last if the channels of a tensor are adjacent in memory, else contiguous."""
    return torch.channels_last if tensor.stride(1) == 1 and tensor.shape[1] > 1 else torch.contiguous_format


def new_like(tensor: Tensor, channels: int | None = None) -> Tensor:
    """Return an empty tensor of the same shape, type and memory format; `channels` replaces the number of channels."""
    shape = (tensor.shape[0], channels or tensor.shape[1], *tensor.shape[2:])
    return torch.empty(shape, dtype=tensor.dtype, device=tensor.device, memory_format=memory_format_of(tensor))


def variables() -> tuple[Any, Any, Any, Any]:
    """Return the variables x, y, c and n: column, row, channel and sample."""
    import halide as hl

    return hl.Var("x"), hl.Var("y"), hl.Var("c"), hl.Var("n")


def maps_input(name: str, layout: Layout, dtype: torch.dtype) -> Any:
    """Return an input of maps in a layout."""
    image = tensor_input(name, dtype, 4)
    if layout == "channels_last":
        _require_channel_vectors(image)
    return image


def require_whole_vectors(out: Any) -> None:
    """Require that an output is channels-last with a multiple of 16 channels."""
    allow_any_strides(out)
    _require_channel_vectors(out.output_buffer())


def _require_channel_vectors(buffer: Any) -> None:
    """Require that the channels of an input or output are adjacent and a multiple of 16."""
    buffer.dim(2).set_stride(1).set_bounds(0, buffer.dim(2).extent() // LANES * LANES)


def allow_any_strides(out: Any) -> None:
    """Allow an output to have any strides."""
    import halide as hl

    out.output_buffer().dim(0).set_stride(hl.Expr())


def schedule_strips(out: Any, layout: Layout) -> Any:
    """Schedule an output (x, y, c, n) in parallel tasks of `ROWS` rows. Return the loop variable over a task's rows."""
    import halide as hl

    x, y, c, n = variables()
    row, group, task, lane, block = (hl.Var(name) for name in ("row", "group", "task", "lane", "block"))
    out.split(y, group, row, ROWS, hl.TailStrategy.GuardWithIf)
    if layout == "channels_last":
        require_whole_vectors(out)
        out.split(c, block, lane, LANES).reorder(lane, block, x, row, group, n).vectorize(lane)
    else:
        allow_any_strides(out)
        out.split(x, block, lane, LANES, hl.TailStrategy.GuardWithIf)
        out.reorder(lane, c, block, row, group, n).vectorize(lane)
    out.fuse(group, n, task).parallel(task)
    return row
