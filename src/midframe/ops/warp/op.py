"""The warp as torch sees it where Halide runs: an operator of `torch.library` and one for each gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.halide.layouts import like, memory_format_of


@torch.library.custom_op("midframe::warp", mutates_args=(), device_types="cpu")
def warp(image: Tensor, motion: Tensor) -> Tensor:
    from midframe.ops.warp import halide

    return halide.forward(image, motion).contiguous(memory_format=memory_format_of(image))


@torch.library.custom_op("midframe::warp_gradient_image", mutates_args=(), device_types="cpu")
def gradient_image(grad_out: Tensor, motion: Tensor) -> Tensor:
    from midframe.ops.warp import halide

    return halide.gradient_image(grad_out, motion).contiguous(memory_format=memory_format_of(grad_out))


@torch.library.custom_op("midframe::warp_gradient_motion", mutates_args=(), device_types="cpu")
def gradient_motion(grad_out: Tensor, image: Tensor, motion: Tensor) -> Tensor:
    from midframe.ops.warp import halide

    return halide.gradient_motion(grad_out, image, motion).contiguous()


@warp.register_fake
def _(image: Tensor, motion: Tensor) -> Tensor:
    return like(image)


@gradient_image.register_fake
def _(grad_out: Tensor, motion: Tensor) -> Tensor:
    return like(grad_out)


@gradient_motion.register_fake
def _(grad_out: Tensor, image: Tensor, motion: Tensor) -> Tensor:
    return torch.empty(motion.shape, dtype=motion.dtype, device=motion.device)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None]:
    image, motion = ctx.saved_tensors
    return (
        gradient_image(grad_out, motion) if ctx.needs_input_grad[0] else None,
        gradient_motion(grad_out, image, motion) if ctx.needs_input_grad[1] else None,
    )


def _no_second_gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    raise SettingError("warp has no gradients of gradients but on backend='reference' and 'torch'")


torch.library.register_autograd("midframe::warp", _backward, setup_context=_keep)
for _name in ("image", "motion"):
    torch.library.register_autograd(f"midframe::warp_gradient_{_name}", _no_second_gradient)
