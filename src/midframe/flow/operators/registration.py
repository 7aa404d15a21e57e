"""Register the flow operators with torch.library and run them on the backend that is chosen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from midframe.ops.dispatch import BackendTable, choose_backend


def register(table: BackendTable, schema: str, empty_result: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Register an operator without gradients as `midframe::OPERATOR`. Return the function that chooses a backend.

    table: the backends. Each has a function `forward(*tensors)`; the tensors are already checked and converted to the
    working type. A backend with a module runs through the registered operator, any other is called directly.
    schema: the signature of the registered operator, "(Tensor ..., str backend) -> Tensor".
    empty_result: the fake kernel, a function of the same arguments; it returns a tensor of the shape of the result.
    Returns `run(*tensors, backend)`.
    """

    def run_module(*arguments: Tensor | str) -> Tensor:
        *tensors, backend = arguments
        result: Tensor = table[str(backend)].load().forward(*tensors)
        return result

    name = f"midframe::{table.operator}"
    registered = torch.library.custom_op(name, run_module, mutates_args=(), schema=schema)
    registered.register_fake(empty_result)

    def run(*tensors: Tensor, backend: str) -> Tensor:
        chosen = choose_backend(table, backend, *tensors)
        result: Tensor = registered(*tensors, chosen.name) if chosen.forward is None else chosen.forward(*tensors)
        return result

    return run
