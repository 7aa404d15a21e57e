"""Register `normalise_local_contrast` with torch.library and choose its backend.

A backend is a function `forward(frames)`, or a module with this function. The tensors are checked
and have the working type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.normalise_local_contrast import reference
from midframe.ops.dispatch import Backend, BackendTable, choose_backend

BACKENDS = BackendTable(
    "normalise_local_contrast",
    (
        Backend(
            "halide", "two passes over the frames", module="midframe.flow.operators.normalise_local_contrast.halide"
        ),
        Backend("torch", "the same as the reference: four poolings", forward=reference.forward),
        Backend("reference", "four poolings", forward=reference.forward),
    ),
)


def run(frames: Tensor, backend: str) -> Tensor:
    """Run the operator on the chosen backend."""
    chosen = choose_backend(BACKENDS, backend, frames)
    result: Tensor = (
        _normalise_local_contrast(frames, chosen.name) if chosen.forward is None else chosen.forward(frames)
    )
    return result


@torch.library.custom_op("midframe::normalise_local_contrast", mutates_args=())
def _normalise_local_contrast(frames: Tensor, backend: str) -> Tensor:
    result: Tensor = BACKENDS[backend].load().forward(frames)
    return result


@_normalise_local_contrast.register_fake
def _(frames: Tensor, backend: str) -> Tensor:
    return frames.new_empty(frames.shape)
