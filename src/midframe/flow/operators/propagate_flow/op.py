"""The backends of `propagate_flow` and its registration with torch.library."""

from __future__ import annotations

from torch import Tensor

from midframe.flow.operators.propagate_flow import reference
from midframe.flow.operators.registration import register
from midframe.ops.dispatch import Backend, BackendTable, torch_and_reference

BACKENDS = BackendTable(
    "propagate_flow",
    (
        Backend(
            "halide",
            "one pass for each distance to the neighbours",
            module="midframe.flow.operators.propagate_flow.halide",
        ),
        *torch_and_reference("nine warps of both frames, with a pooling each", reference.forward),
    ),
)


def _empty_result(frames: Tensor, flow: Tensor, time: Tensor, backend: str) -> Tensor:
    return flow.new_empty(flow.shape)


run = register(BACKENDS, "(Tensor frames, Tensor flow, Tensor time, str backend) -> Tensor", _empty_result)
