"""Register `downsampled_luma` with torch.library and choose its backend.

A backend is a function `forward(frames)`, or a module with this function. The tensors are checked
and have the working type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.downsampled_luma import reference
from midframe.ops.dispatch import Backend, BackendTable, choose_backend

BACKENDS = BackendTable(
    "downsampled_luma",
    (
        Backend("halide", "one pass over the frames", module="midframe.flow.operators.downsampled_luma.halide"),
        Backend("torch", "the same as the reference: a weighted sum and a pooling", forward=reference.forward),
        Backend("reference", "a weighted sum and a pooling", forward=reference.forward),
    ),
)


def run(frames: Tensor, backend: str) -> Tensor:
    """Run the operator on the chosen backend."""
    chosen = choose_backend(BACKENDS, backend, frames)
    result: Tensor = _downsampled_luma(frames, chosen.name) if chosen.forward is None else chosen.forward(frames)
    return result


@torch.library.custom_op("midframe::downsampled_luma", mutates_args=())
def _downsampled_luma(frames: Tensor, backend: str) -> Tensor:
    result: Tensor = BACKENDS[backend].load().forward(frames)
    return result


@_downsampled_luma.register_fake
def _(frames: Tensor, backend: str) -> Tensor:
    batch, _, height, width = frames.shape
    return frames.new_empty((batch, 1, height // 2, width // 2))
