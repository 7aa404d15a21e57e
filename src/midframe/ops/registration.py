"""Parts of the registration with torch.library that the operators share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from midframe.errors import SettingError


def refuse_second_gradients(operators: Sequence[str], message: str) -> None:
    """Let the gradients of operators raise `SettingError` with this message if they are differentiated themselves.

    operators: names of registered operators that compute gradients, without `midframe::`.
    """

    def refuse(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        raise SettingError(message)

    for operator in operators:
        torch.library.register_autograd(f"midframe::{operator}", refuse)
