"""The operator where kernel maps are smaller than the picture, on the CPU: maps are upsampled as they are read.

For short dense kernels of pictures with few channels, what a motion-guided network makes frames with. Everything else
upsamples the maps first. As in `registration.py`, an operator of `torch.library` and one for each gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.halide.compiler import Run, compiled
from midframe.ops.halide.layouts import like, memory_format_of
from midframe.ops.separable.pytorch import fold_border
from midframe.ops.taps import TapPattern

MOST_TAPS = 9
MOST_CHANNELS = 4
"""Taps and channels are unrolled: more of them take longer to compile and no longer fit the registers."""


def suits(image: Tensor, taps: TapPattern, scale: int) -> bool:
    """Whether this operator has pipelines for such pictures and kernels."""
    return scale != 1 and taps.is_dense and 3 <= taps.size <= MOST_TAPS and image.shape[1] <= MOST_CHANNELS


@torch.library.custom_op("midframe::separable_convolution_upsampled", mutates_args=(), device_types="cpu")
def separable_convolution_upsampled(
    image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool
) -> Tensor:
    out = torch.empty(image.shape, dtype=torch.float32)
    run = _pipeline("forward", vertical, image.shape[1], scale)
    run(_rows(image.float()), _rows(vertical), _rows(horizontal), int(replicate), out)
    return out.to(image.dtype).contiguous(memory_format=memory_format_of(image))


@torch.library.custom_op("midframe::separable_convolution_upsampled_gradients", mutates_args=(), device_types="cpu")
def gradient_kernels(
    grad_out: Tensor, image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool
) -> tuple[Tensor, Tensor]:
    grads = torch.empty(vertical.shape, dtype=vertical.dtype), torch.empty(horizontal.shape, dtype=vertical.dtype)
    run = _pipeline("gradient_kernels", vertical, image.shape[1], scale)
    pictures = _rows(image.float()), _rows(vertical), _rows(horizontal), _rows(grad_out.float())
    run(*pictures, int(replicate), *grads)
    return grads


@torch.library.custom_op(
    "midframe::separable_convolution_upsampled_gradient_image", mutates_args=(), device_types="cpu"
)
def gradient_image(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool) -> Tensor:
    batch, channels, height, width = grad_out.shape
    border = vertical.shape[1] - 1
    padded = torch.empty((batch, channels, height + border, width + border), dtype=torch.float32)
    run = _pipeline("gradient_image", vertical, channels, scale)
    run(_rows(vertical), _rows(horizontal), _rows(grad_out.float()), padded)
    grad = fold_border(padded, border // 2, replicate)
    return grad.to(grad_out.dtype).contiguous(memory_format=memory_format_of(grad_out))


@separable_convolution_upsampled.register_fake
def _(image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool) -> Tensor:
    return like(image)


@gradient_kernels.register_fake
def _(
    grad_out: Tensor, image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool
) -> tuple[Tensor, Tensor]:
    return vertical.new_empty(vertical.shape), horizontal.new_empty(horizontal.shape)


@gradient_image.register_fake
def _(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool) -> Tensor:
    return like(grad_out)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, vertical, horizontal, ctx.scale, ctx.replicate = inputs
    ctx.save_for_backward(image, vertical, horizontal)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    image, vertical, horizontal = ctx.saved_tensors
    options = ctx.scale, ctx.replicate
    grad_image = grad_vertical = grad_horizontal = None
    if ctx.needs_input_grad[0]:
        grad_image = gradient_image(grad_out, vertical, horizontal, *options)
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        grad_vertical, grad_horizontal = gradient_kernels(grad_out, image, vertical, horizontal, *options)
    return grad_image, grad_vertical, grad_horizontal, None, None


def _no_second_gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    raise SettingError("separable_convolution has no gradients of gradients but on backend='reference'")


torch.library.register_autograd("midframe::separable_convolution_upsampled", _backward, setup_context=_keep)
for _name in ("gradients", "gradient_image"):
    torch.library.register_autograd(f"midframe::separable_convolution_upsampled_{_name}", _no_second_gradient)
torch.library.register_autocast("midframe::separable_convolution_upsampled", "cpu", torch.float32)


def _pipeline(kind: str, kernels: Tensor, channels: int, scale: int) -> Run:
    from midframe.ops.separable import halide_short

    define = getattr(halide_short, kind)
    taps, dtype = kernels.shape[1], kernels.dtype
    name = f"separable_short_{kind}_{str(dtype).removeprefix('torch.')}_{channels}_{taps}_{scale}"
    return compiled(name, halide_short.__file__, lambda: define(dtype, channels, taps, scale))


def _rows(maps: Tensor) -> Tensor:
    """Maps whose neighbouring columns lie side by side, as they are where they do."""
    return maps if maps.stride(-1) == 1 else maps.clone(memory_format=torch.contiguous_format)
