"""The backends of `median_filter` and its registration with torch.library."""

from __future__ import annotations

from torch import Tensor

from midframe.flow.operators.median_filter import reference
from midframe.flow.operators.registration import register
from midframe.ops.dispatch import Backend, BackendTable, torch_and_reference

BACKENDS = BackendTable(
    "median_filter",
    (
        Backend(
            "halide",
            "one pass; neighbouring pixels share sorted columns",
            module="midframe.flow.operators.median_filter.halide",
        ),
        *torch_and_reference("the median of 25 shifted copies in memory", reference.forward),
    ),
)


def _empty_result(flow: Tensor, backend: str) -> Tensor:
    return flow.new_empty(flow.shape)


run = register(BACKENDS, "(Tensor flow, str backend) -> Tensor", _empty_result)
