"""The backends of `lucas_kanade_update` and its registration with torch.library."""

from __future__ import annotations

from torch import Tensor

from midframe.flow.operators.lucas_kanade_update import reference
from midframe.flow.operators.registration import register
from midframe.ops.dispatch import Backend, BackendTable, torch_and_reference

BACKENDS = BackendTable(
    "lucas_kanade_update",
    (
        Backend("halide", "one pass over strips of rows", module="midframe.flow.operators.lucas_kanade_update.halide"),
        *torch_and_reference("a warp of both frames and two box filters of five maps", reference.forward),
    ),
)


def _empty_result(frames: Tensor, flow: Tensor, time: Tensor, backend: str) -> Tensor:
    return flow.new_empty(flow.shape)


run = register(BACKENDS, "(Tensor frames, Tensor flow, Tensor time, str backend) -> Tensor", _empty_result)
