"""Register `lucas_kanade_update` with torch.library and choose its backend.

A backend is a function `forward(frames, flow, time)`, or a module with this function. The tensors are checked
and have the working type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.lucas_kanade_update import reference
from midframe.ops.dispatch import Backend, BackendTable, choose_backend

BACKENDS = BackendTable(
    "lucas_kanade_update",
    (
        Backend("halide", "one pass over strips of rows", module="midframe.flow.operators.lucas_kanade_update.halide"),
        Backend("torch", "the same as the reference: a warp and two poolings of five maps", forward=reference.forward),
        Backend("reference", "a warp and two poolings of five maps", forward=reference.forward),
    ),
)


def run(frames: Tensor, flow: Tensor, time: Tensor, backend: str) -> Tensor:
    """Run the operator on the chosen backend."""
    chosen = choose_backend(BACKENDS, backend, frames, flow, time)
    result: Tensor = (
        _lucas_kanade_update(frames, flow, time, chosen.name)
        if chosen.forward is None
        else chosen.forward(frames, flow, time)
    )
    return result


@torch.library.custom_op("midframe::lucas_kanade_update", mutates_args=())
def _lucas_kanade_update(frames: Tensor, flow: Tensor, time: Tensor, backend: str) -> Tensor:
    result: Tensor = BACKENDS[backend].load().forward(frames, flow, time)
    return result


@_lucas_kanade_update.register_fake
def _(frames: Tensor, flow: Tensor, time: Tensor, backend: str) -> Tensor:
    return flow.new_empty(flow.shape)
