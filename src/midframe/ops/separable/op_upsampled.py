"""Register the convolution whose kernel maps Halide upsamples as it reads them.

The kernel maps are smaller than the image by a whole factor. Halide has pipelines for this if kernels are short and
dense and the image has few channels, as in the guided network. Then the upsampled maps never exist as a whole. In all
other cases `op.py` upsamples the maps first. As there, the operator and each gradient are registered with
`torch.library`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.ops.halide.layouts import memory_format_of, new_like
from midframe.ops.registration import refuse_second_gradients
from midframe.ops.taps import TapPattern

MAX_TAPS = 9
"""Taps a side that the pipelines unroll at most. More take longer to compile and no longer fit the registers."""
MAX_CHANNELS = 4
"""Channels that the pipelines unroll at most, for the same reasons."""
NO_SECOND_GRADIENTS = "separable_convolution has gradients of gradients only with backend='reference'"
"""Message of the error if gradients of the gradients are asked for."""


def supports(image: Tensor, taps: TapPattern, scale: int) -> bool:
    """Return True if there are pipelines for this image, tap pattern and scale."""
    return scale != 1 and taps.is_dense and 3 <= taps.size <= MAX_TAPS and image.shape[1] <= MAX_CHANNELS


@torch.library.custom_op("midframe::separable_convolution_upsampled", mutates_args=(), device_types="cpu")
def convolve(image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool) -> Tensor:
    """Convolve an image `[B, C, H, W]` with kernel maps `[B, T, H / scale, W / scale]`, read bilinearly."""
    from midframe.ops.separable import halide

    out = halide.forward_upsampled(image, vertical, horizontal, scale, replicate)
    return out.contiguous(memory_format=memory_format_of(image))


@torch.library.custom_op("midframe::separable_convolution_upsampled_gradients", mutates_args=(), device_types="cpu")
def _gradient_kernels(
    grad_out: Tensor, image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool
) -> tuple[Tensor, Tensor]:
    from midframe.ops.separable import halide

    return halide.gradient_kernels_upsampled(grad_out, image, vertical, horizontal, scale, replicate)


@torch.library.custom_op(
    "midframe::separable_convolution_upsampled_gradient_image", mutates_args=(), device_types="cpu"
)
def _gradient_image(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool) -> Tensor:
    from midframe.ops.separable import halide

    grad = halide.gradient_image_upsampled(grad_out, vertical, horizontal, scale, replicate)
    return grad.contiguous(memory_format=memory_format_of(grad_out))


@convolve.register_fake
def _(image: Tensor, *_others: object) -> Tensor:
    return new_like(image)


@_gradient_kernels.register_fake
def _(
    grad_out: Tensor, image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool
) -> tuple[Tensor, Tensor]:
    return vertical.new_empty(vertical.shape), horizontal.new_empty(horizontal.shape)


@_gradient_image.register_fake
def _(grad_out: Tensor, *_others: object) -> Tensor:
    return new_like(grad_out)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, vertical, horizontal, ctx.scale, ctx.replicate = inputs
    ctx.save_for_backward(image, vertical, horizontal)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    image, vertical, horizontal = ctx.saved_tensors
    options = ctx.scale, ctx.replicate
    grad_image = grad_vertical = grad_horizontal = None
    if ctx.needs_input_grad[0]:
        grad_image = _gradient_image(grad_out, vertical, horizontal, *options)
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        grad_vertical, grad_horizontal = _gradient_kernels(grad_out, image, vertical, horizontal, *options)
    return grad_image, grad_vertical, grad_horizontal, None, None


torch.library.register_autograd(
    "midframe::separable_convolution_upsampled", _backward, setup_context=_save_for_backward
)
refuse_second_gradients(
    ("separable_convolution_upsampled_gradients", "separable_convolution_upsampled_gradient_image"),
    NO_SECOND_GRADIENTS,
)
torch.library.register_autocast("midframe::separable_convolution_upsampled", "cpu", torch.float32)
