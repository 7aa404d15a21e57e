"""Register `median_filter` with torch.library and choose its backend.

A backend is a function `forward(flow)`, or a module with this function. The tensors are checked
and have the working type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.flow.operators.median_filter import reference
from midframe.ops.dispatch import Backend, BackendTable, choose_backend

BACKENDS = BackendTable(
    "median_filter",
    (
        Backend(
            "halide",
            "sorted columns that neighbouring pixels share",
            module="midframe.flow.operators.median_filter.halide",
        ),
        Backend(
            "torch", "the same as the reference: the median of 25 shifted copies of the map", forward=reference.forward
        ),
        Backend("reference", "the median of 25 shifted copies of the map", forward=reference.forward),
    ),
)


def run(flow: Tensor, backend: str) -> Tensor:
    """Run the operator on the chosen backend."""
    chosen = choose_backend(BACKENDS, backend, flow)
    result: Tensor = _median_filter(flow, chosen.name) if chosen.forward is None else chosen.forward(flow)
    return result


@torch.library.custom_op("midframe::median_filter", mutates_args=())
def _median_filter(flow: Tensor, backend: str) -> Tensor:
    result: Tensor = BACKENDS[backend].load().forward(flow)
    return result


@_median_filter.register_fake
def _(flow: Tensor, backend: str) -> Tensor:
    return flow.new_empty(flow.shape)
