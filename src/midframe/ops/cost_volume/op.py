"""The cost volume as torch sees it where Halide runs: an operator of `torch.library` and one for its gradients.

The features of both frames are two tensors, or one in which they take turns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.halide.layouts import like, memory_format_of


@torch.library.custom_op("midframe::cost_volume", mutates_args=(), device_types="cpu")
def cost_volume(first: Tensor, second: Tensor, time: Tensor, context: Tensor | None, radius: int) -> Tensor:
    from midframe.ops.cost_volume import halide

    out = halide.forward(first, second, time, radius, context)
    return out.contiguous(memory_format=memory_format_of(first))


@torch.library.custom_op("midframe::cost_volume_of_pairs", mutates_args=(), device_types="cpu")
def cost_volume_of_pairs(features: Tensor, time: Tensor, context: Tensor | None, radius: int) -> Tensor:
    from midframe.ops.cost_volume import halide

    out = halide.forward(features[0::2], features[1::2], time, radius, context)
    return out.contiguous(memory_format=memory_format_of(features))


@torch.library.custom_op("midframe::cost_volume_gradients", mutates_args=(), device_types="cpu")
def gradients(
    grad_out: Tensor, first: Tensor, second: Tensor, time: Tensor, radius: int, joined: bool
) -> tuple[Tensor, Tensor]:
    from midframe.ops.cost_volume import halide

    grads = like(first), like(second)
    halide.gradients(grad_out, first, second, time, radius, joined, grads)
    return grads


@torch.library.custom_op("midframe::cost_volume_of_pairs_gradient", mutates_args=(), device_types="cpu")
def gradient_of_pairs(grad_out: Tensor, features: Tensor, time: Tensor, radius: int, joined: bool) -> Tensor:
    from midframe.ops.cost_volume import halide

    grad = like(features)
    halide.gradients(grad_out, features[0::2], features[1::2], time, radius, joined, (grad[0::2], grad[1::2]))
    return grad


@cost_volume.register_fake
def _(first: Tensor, second: Tensor, time: Tensor, context: Tensor | None, radius: int) -> Tensor:
    return like(first, _channels(first, context, radius))


@cost_volume_of_pairs.register_fake
def _(features: Tensor, time: Tensor, context: Tensor | None, radius: int) -> Tensor:
    return like(features[0::2], _channels(features, context, radius))


@gradients.register_fake
def _(
    grad_out: Tensor, first: Tensor, second: Tensor, time: Tensor, radius: int, joined: bool
) -> tuple[Tensor, Tensor]:
    return like(first), like(second)


@gradient_of_pairs.register_fake
def _(grad_out: Tensor, features: Tensor, time: Tensor, radius: int, joined: bool) -> Tensor:
    return like(features)


def _channels(features: Tensor, context: Tensor | None, radius: int) -> int:
    return (2 * radius + 1) ** 2 + (0 if context is None else 2 * features.shape[1] + context.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    first, second, time, context, ctx.radius = inputs
    ctx.context = None if context is None else (context.shape[1], context.dtype)
    ctx.save_for_backward(first, second, time)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    first, second, time = ctx.saved_tensors
    grad_first = grad_second = grad_context = None
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        grad_first, grad_second = gradients(grad_out, first, second, time, ctx.radius, ctx.context is not None)
    if ctx.context is not None and ctx.needs_input_grad[3]:
        channels, kind = ctx.context
        grad_context = grad_out[:, grad_out.shape[1] - channels :].to(kind)
    return grad_first, grad_second, None, grad_context, None


def _keep_pairs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, time, context, ctx.radius = inputs
    ctx.context = None if context is None else (context.shape[1], context.dtype)
    ctx.save_for_backward(features, time)


def _backward_of_pairs(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    features, time = ctx.saved_tensors
    grad = grad_context = None
    if ctx.needs_input_grad[0]:
        grad = gradient_of_pairs(grad_out, features, time, ctx.radius, ctx.context is not None)
    if ctx.context is not None and ctx.needs_input_grad[2]:
        channels, kind = ctx.context
        grad_context = grad_out[:, grad_out.shape[1] - channels :].to(kind)
    return grad, None, grad_context, None


def _no_second_gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    raise SettingError("cost_volume has no gradients of gradients but on backend='reference' and 'torch'")


torch.library.register_autograd("midframe::cost_volume", _backward, setup_context=_keep)
torch.library.register_autograd("midframe::cost_volume_of_pairs", _backward_of_pairs, setup_context=_keep_pairs)
for _name in ("cost_volume_gradients", "cost_volume_of_pairs_gradient"):
    torch.library.register_autograd(f"midframe::{_name}", _no_second_gradient)
