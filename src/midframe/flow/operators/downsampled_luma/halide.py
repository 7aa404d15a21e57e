"""The downsampled luma on the CPU, in one pass over the frames."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.flow.operators.downsampled_luma.reference import LUMA_WEIGHTS
from midframe.flow.operators.halide.schedules import schedule_output, sum_of
from midframe.ops.halide.compiler import load_pipeline
from midframe.ops.halide.layouts import variables


def forward(frames: Tensor) -> Tensor:
    """Return the downsampled luma `[N, 1, H // 2, W // 2]`."""
    frames = frames if frames.stride(3) == 1 else frames.contiguous()
    batch, _, height, width = frames.shape
    out = torch.empty((batch, 1, height // 2, width // 2))
    load_pipeline("downsampled_luma", __file__, _define)(frames, *LUMA_WEIGHTS, out[:, 0])
    return out


def _define() -> tuple[list[Any], list[Any]]:
    """Define the pipeline. Return its inputs and its outputs."""
    import halide as hl

    frames = hl.ImageParam(hl.Float(32), 4, "frames")
    weights = [hl.Param(hl.Float(32), name) for name in ("red", "green", "blue")]
    x, y, _, n = variables()
    out = hl.Func("out")
    pixels = [
        sum_of(weight * frames[2 * x + i, 2 * y + j, c, n] for c, weight in enumerate(weights))
        for j in (0, 1)
        for i in (0, 1)
    ]
    out[x, y, n] = sum_of(pixels) / 4
    schedule_output(out)
    return [frames, *weights], [out]
