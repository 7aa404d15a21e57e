"""Local contrast normalisation on the CPU: one pass for the deviations from the local mean, one for the result."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from midframe.flow.operators.halide.box_filter import BoxFilterTwice, repeat_border_columns
from midframe.flow.operators.halide.schedules import clamp_column, schedule_output, split_into_tasks, vectorise
from midframe.flow.operators.normalise_local_contrast.reference import CONTRAST_RADIUS, NOISE_VARIANCE
from midframe.ops.halide.compiler import load_pipeline
from midframe.ops.halide.layouts import variables


def forward(frames: Tensor) -> Tensor:
    """Return the frames `[N, 1, H, W]` with normalised local contrast."""
    frames = frames.contiguous()
    out = torch.empty_like(frames)
    define = functools.partial(_define, CONTRAST_RADIUS)
    run = load_pipeline(f"normalise_local_contrast_{CONTRAST_RADIUS}", __file__, define)
    run(frames[:, 0], NOISE_VARIANCE, out[:, 0])
    return out


def _define(radius: int) -> tuple[list[Any], list[Any]]:
    """Define the pipeline. Return its inputs and its outputs."""
    import halide as hl

    frames, noise = hl.ImageParam(hl.Float(32), 3, "frames"), hl.Param(hl.Float(32), "noise")
    x, y, _, n = variables()
    size = frames.dim(0).extent(), frames.dim(1).extent()
    padded, deviation, squares, out = (hl.Func(name) for name in ("padded", "deviation", "squares", "out"))
    padded[x, y, n] = frames[clamp_column(x, size[0]), y, n]
    mean = BoxFilterTwice(padded, 1, radius, size)
    deviation[x, y, n] = padded[x, y, n] - mean.values[0]
    squares[x, y, n] = deviation[x, y, n] * deviation[x, y, n]
    repeat_border_columns(squares, radius, size[0])
    variance = BoxFilterTwice(squares, 1, radius, size)
    out[x, y, n] = deviation[x, y, n] / hl.sqrt(variance.values[0] + noise)

    vectorise(deviation.compute_root())
    row, task = split_into_tasks(deviation)
    mean.schedule(deviation, row, task)
    vectorise(padded.store_at(deviation, task).compute_at(deviation, row))
    row, task = schedule_output(out)
    variance.schedule(out, row, task)
    vectorise(squares.compute_at(variance.across_twice, y))
    return [frames, noise], [out]
