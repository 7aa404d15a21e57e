"""Register the flow operators with torch.library and run them on the backend that is chosen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from midframe.ops.dispatch import BackendTable, choose_backend


def register(table: BackendTable, schema: str, empty_result: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Register an operator without gradients as `midframe::OPERATOR`. Return the function that chooses a backend.

    table: the backends. Each is a function `forward(*tensors)`, or a module with this function, which torch.library
    runs. The tensors are checked and have the working type.
    schema: of the registered operator, whose last argument is the name of the backend: "(Tensor ..., str backend) ->
    Tensor".
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
