"""Register `propagate_flow` with torch.library and choose its backend.

A backend is a function `forward(frames, flow, time)`, or a module with this function. The tensors are checked
and have the working type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.propagate_flow import reference
from midframe.ops.dispatch import Backend, BackendTable, choose_backend

BACKENDS = BackendTable(
    "propagate_flow",
    (
        Backend(
            "halide",
            "one pass for each distance to the neighbours",
            module="midframe.flow.operators.propagate_flow.halide",
        ),
        Backend("torch", "the same as the reference: nine warps, each with a pooling", forward=reference.forward),
        Backend("reference", "nine warps, each with a pooling", forward=reference.forward),
    ),
)


def run(frames: Tensor, flow: Tensor, time: Tensor, backend: str) -> Tensor:
    """Run the operator on the chosen backend."""
    chosen = choose_backend(BACKENDS, backend, frames, flow, time)
    result: Tensor = (
        _propagate_flow(frames, flow, time, chosen.name)
        if chosen.forward is None
        else chosen.forward(frames, flow, time)
    )
    return result


@torch.library.custom_op("midframe::propagate_flow", mutates_args=())
def _propagate_flow(frames: Tensor, flow: Tensor, time: Tensor, backend: str) -> Tensor:
    result: Tensor = BACKENDS[backend].load().forward(frames, flow, time)
    return result


@_propagate_flow.register_fake
def _(frames: Tensor, flow: Tensor, time: Tensor, backend: str) -> Tensor:
    return flow.new_empty(flow.shape)
