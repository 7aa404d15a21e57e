"""The operator as torch sees it: three operators of `torch.library` that call the chosen backend.

`midframe::separable_convolution`, its gradient with respect to both kernels, and that with respect to the picture, each
with a fake kernel, so that `torch.compile` traces through; autograd connects them, autocast runs them in float32.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.dispatch import choose
from midframe.ops.taps import Reading, TapPattern

_MODULES = {
    "halide": "midframe.ops.separable.halide",
    "triton": "midframe.ops.separable.triton",
    "torch": "midframe.ops.separable.pytorch",
}
"""The module of each backend, best first."""


@torch.library.custom_op("midframe::separable_convolution", mutates_args=())
def separable_convolution(
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    reading: str,
    replicate: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    taps = _pattern(inner, outer, reading)
    out, weight_sum = _module(backend, taps, image, vertical).forward(image, vertical, horizontal, taps, replicate)
    return _formatted(out, image), weight_sum.contiguous()


@torch.library.custom_op("midframe::separable_convolution_gradient_kernels", mutates_args=())
def gradient_kernels(
    grad_out: Tensor,
    grad_weight_sum: Tensor,
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    reading: str,
    replicate: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    taps = _pattern(inner, outer, reading)
    grad_vertical, grad_horizontal = _module(backend, taps, image, vertical).gradient_kernels(
        grad_out, grad_weight_sum, image, vertical, horizontal, taps, replicate
    )
    return _formatted(grad_vertical, vertical), _formatted(grad_horizontal, horizontal)


@torch.library.custom_op("midframe::separable_convolution_gradient_image", mutates_args=())
def gradient_image(
    grad_out: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    reading: str,
    replicate: bool,
    backend: str,
) -> Tensor:
    taps = _pattern(inner, outer, reading)
    module = _module(backend, taps, grad_out, vertical)
    return _formatted(module.gradient_image(grad_out, vertical, horizontal, taps, replicate), grad_out)


@separable_convolution.register_fake
def _(
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    reading: str,
    replicate: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    batch, _, height, width = image.shape
    working = torch.promote_types(image.dtype, torch.float32)
    return _empty_like(image), image.new_empty((batch, 1, height, width), dtype=working)


@gradient_kernels.register_fake
def _(
    grad_out: Tensor,
    grad_weight_sum: Tensor,
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    reading: str,
    replicate: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    return _empty_like(vertical), _empty_like(horizontal)


@gradient_image.register_fake
def _(
    grad_out: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    reading: str,
    replicate: bool,
    backend: str,
) -> Tensor:
    return _empty_like(grad_out)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    image, vertical, horizontal, *options = inputs
    ctx.save_for_backward(image, vertical, horizontal)
    ctx.options = options


def _backward(ctx: Any, grad_out: Tensor, grad_weight_sum: Tensor) -> tuple[Tensor | None, ...]:
    image, vertical, horizontal = ctx.saved_tensors
    grad_image = grad_vertical = grad_horizontal = None
    if ctx.needs_input_grad[0]:
        grad_image = gradient_image(grad_out, vertical, horizontal, *ctx.options)
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        grad_vertical, grad_horizontal = gradient_kernels(
            grad_out, grad_weight_sum, image, vertical, horizontal, *ctx.options
        )
    return (grad_image, grad_vertical, grad_horizontal, *(None for _ in ctx.options))


def _no_second_gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    raise SettingError("separable_convolution has no gradients of gradients but on backend='reference'")


torch.library.register_autograd("midframe::separable_convolution", _backward, setup_context=_keep)
for _name in ("gradient_kernels", "gradient_image"):
    torch.library.register_autograd(f"midframe::separable_convolution_{_name}", _no_second_gradient)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("midframe::separable_convolution", _device, torch.float32)


def _module(backend: str, taps: TapPattern, image: Tensor, vertical: Tensor) -> ModuleType:
    """The module that does the work. One tap is a plain multiplication, which needs nothing compiled."""
    if backend == "auto" and taps.size == 1:
        backend = "torch"
    name = choose("separable_convolution", backend, (image, vertical), offered=tuple(_MODULES))
    return import_module(_MODULES[name])


def _pattern(inner: int, outer: int, reading: str) -> TapPattern:
    return TapPattern(inner, outer, _READINGS[reading])


_READINGS: dict[str, Reading] = {"rings": "rings", "axes": "axes", "literal": "literal"}


def _format(like: Tensor) -> torch.memory_format:
    channels_last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format


def _formatted(result: Tensor, like: Tensor) -> Tensor:
    return result.contiguous(memory_format=_format(like))


def _empty_like(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device, memory_format=_format(like))
