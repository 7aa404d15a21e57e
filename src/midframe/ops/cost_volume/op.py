"""Register the cost volume with torch.library, connect its gradients and choose its backend.

A backend is a function `forward(features, time, context, radius)` of differentiable torch operations, or a module with
two functions:

    forward(features, time, context, radius) -> cost, or the concatenation with features and context
    gradient_features(grad_out, features, time, radius, with_context) -> grad_features

The inputs are checked: features `[2B, C, H, W]`, the features of both frames of each sample side by side in the batch;
time `[B]`; context `[B, E, H, W]` or None. With `with_context`, `grad_out` is the gradient of the concatenation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.ops.cost_volume import reference
from midframe.ops.dispatch import Backend, BackendTable, choose_backend, torch_and_reference
from midframe.ops.halide.layouts import memory_format_of, new_like
from midframe.ops.registration import refuse_second_gradients

BACKENDS = BackendTable(
    "cost_volume",
    (
        Backend("halide", "one pass over strips of rows", module="midframe.ops.cost_volume.halide"),
        *torch_and_reference(
            "shifted products, with a copy of the features for each displacement in memory", reference.forward
        ),
    ),
)


def run(features: Tensor, time: Tensor, context: Tensor | None, radius: int, backend: str) -> Tensor:
    """Run the cost volume on the chosen backend."""
    chosen = choose_backend(BACKENDS, backend, features)
    out: Tensor = (
        _cost_volume(features, time, context, radius, chosen.name)
        if chosen.forward is None
        else chosen.forward(features, time, context, radius)
    )
    return out


@torch.library.custom_op("midframe::cost_volume", mutates_args=())
def _cost_volume(features: Tensor, time: Tensor, context: Tensor | None, radius: int, backend: str) -> Tensor:
    out: Tensor = BACKENDS[backend].load().forward(features, time, context, radius)
    return out.contiguous(memory_format=memory_format_of(features))


@torch.library.custom_op("midframe::cost_volume_gradient", mutates_args=())
def _gradient_features(
    grad_out: Tensor, features: Tensor, time: Tensor, radius: int, with_context: bool, backend: str
) -> Tensor:
    grad: Tensor = BACKENDS[backend].load().gradient_features(grad_out, features, time, radius, with_context)
    return grad.contiguous(memory_format=memory_format_of(features))


@_cost_volume.register_fake
def _(features: Tensor, time: Tensor, context: Tensor | None, radius: int, backend: str) -> Tensor:
    concatenated = 0 if context is None else 2 * features.shape[1] + context.shape[1]
    return new_like(features[0::2], (2 * radius + 1) ** 2 + concatenated)


@_gradient_features.register_fake
def _(grad_out: Tensor, features: Tensor, *_others: object) -> Tensor:
    return new_like(features)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, time, context, ctx.radius, ctx.backend = inputs
    ctx.with_context = context is not None
    if context is not None:
        ctx.context_channels, ctx.context_dtype = context.shape[1], context.dtype
    ctx.save_for_backward(features, time)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    features, time = ctx.saved_tensors
    grad_features = grad_context = None
    if ctx.needs_input_grad[0]:
        grad_features = _gradient_features(grad_out, features, time, ctx.radius, ctx.with_context, ctx.backend)
    if ctx.with_context and ctx.needs_input_grad[2]:
        grad_context = grad_out[:, grad_out.shape[1] - ctx.context_channels :].to(ctx.context_dtype)
    return grad_features, None, grad_context, None, None


torch.library.register_autograd("midframe::cost_volume", _backward, setup_context=_save_for_backward)
refuse_second_gradients(
    ("cost_volume_gradient",), "cost_volume has gradients of gradients only on backend='reference' and 'torch'"
)
