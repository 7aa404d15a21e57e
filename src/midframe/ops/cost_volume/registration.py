"""The cost volume as torch sees it where Halide runs: an operator of `torch.library` and one for its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.halide_maps import like, memory_format_of


@torch.library.custom_op("midframe::cost_volume", mutates_args=(), device_types="cpu")
def cost_volume(first: Tensor, second: Tensor, time: Tensor, context: Tensor | None, radius: int) -> Tensor:
    from midframe.ops.cost_volume import halide

    out = halide.forward(first, second, time, radius, context)
    return out.contiguous(memory_format=memory_format_of(first))


@torch.library.custom_op("midframe::cost_volume_gradients", mutates_args=(), device_types="cpu")
def gradients(
    grad_out: Tensor, first: Tensor, second: Tensor, time: Tensor, radius: int, joined: bool
) -> tuple[Tensor, Tensor]:
    from midframe.ops.cost_volume import halide

    grad_first, grad_second = halide.gradients(grad_out, first, second, time, radius, joined)
    return (
        grad_first.contiguous(memory_format=memory_format_of(first)),
        grad_second.contiguous(memory_format=memory_format_of(second)),
    )


@cost_volume.register_fake
def _(first: Tensor, second: Tensor, time: Tensor, context: Tensor | None, radius: int) -> Tensor:
    channels = (2 * radius + 1) ** 2 + (0 if context is None else 2 * first.shape[1] + context.shape[1])
    return like(first, channels)


@gradients.register_fake
def _(
    grad_out: Tensor, first: Tensor, second: Tensor, time: Tensor, radius: int, joined: bool
) -> tuple[Tensor, Tensor]:
    return like(first), like(second)


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


def _no_second_gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    raise SettingError("cost_volume has no gradients of gradients but on backend='reference' and 'torch'")


torch.library.register_autograd("midframe::cost_volume", _backward, setup_context=_keep)
torch.library.register_autograd("midframe::cost_volume_gradients", _no_second_gradient)
