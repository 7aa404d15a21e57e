"""The backends of `downsampled_luma` and its registration with torch.library."""

from __future__ import annotations

from torch import Tensor

from midframe.flow.operators.downsampled_luma import reference
from midframe.flow.operators.registration import register
from midframe.ops.dispatch import Backend, BackendTable, torch_and_reference

BACKENDS = BackendTable(
    "downsampled_luma",
    (
        Backend("halide", "one pass over the frames", module="midframe.flow.operators.downsampled_luma.halide"),
        *torch_and_reference("a weighted sum of the channels and a pooling", reference.forward),
    ),
)


def _empty_result(frames: Tensor, backend: str) -> Tensor:
    batch, _, height, width = frames.shape
    return frames.new_empty((batch, 1, height // 2, width // 2))


run = register(BACKENDS, "(Tensor frames, str backend) -> Tensor", _empty_result)
