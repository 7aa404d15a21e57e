"""Register separable convolution with torch.library, connect its gradients and choose its backend.

The convolution, its gradient with respect to both kernels and its gradient with respect to the image are three
operators of `torch.library`. Each has a fake kernel, so that `torch.compile` traces through it. Autograd connects them;
autocast runs them in float32. `op_upsampled.py` registers a variant for Halide, which
upsamples the kernel maps inside its pipeline.

A backend is a module with three functions:

    forward(image, vertical, horizontal, taps, replicate) -> (out, weight_sum)
    gradient_kernels(grad_out, grad_weight_sum, image, vertical, horizontal, taps, replicate)
        -> (grad_vertical, grad_horizontal)
    gradient_image(grad_out, vertical, horizontal, taps, replicate) -> grad_image

`taps` is a `TapPattern`; `replicate` is True for the border `replicate`, False for `zero`. The kernel maps have the
size of the image. Tensors may have any strides; the image and the kernels may be of different types. `weight_sum` and
`grad_weight_sum`, `[B, 1, H, W]`, are float32 (float64 for float64 inputs), and sums are computed in this type. `out`,
`grad_out` and `grad_image` have the type of the image, the gradients of the kernels have the type of the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.dispatch import Backend, BackendTable, choose_backend
from midframe.ops.halide.layouts import memory_format_of, new_like
from midframe.ops.registration import refuse_second_gradients
from midframe.ops.separable import op_upsampled, reference
from midframe.ops.taps import TapPattern, Variant

BACKENDS = BackendTable(
    "separable_convolution",
    (
        Backend("halide", "tiles of pixels whose sums stay in registers", module="midframe.ops.separable.halide"),
        Backend("triton", "one program per channel and block of pixels", module="midframe.ops.separable.triton"),
        Backend(
            "torch", "matrix products on chunks of rows, in bounded memory", module="midframe.ops.separable.pytorch"
        ),
        Backend("reference", "a sum of shifted images; autograd keeps one per tap", forward=reference.forward),
    ),
)


@dataclass(frozen=True)
class Sampling:
    """How an output pixel reads the image and the kernel maps."""

    taps: TapPattern
    """The offsets of the taps."""
    replicate: bool
    """True if taps outside the image read the nearest pixel, False if they count as zero."""
    scale: int
    """Height and width of the image, divided by those of the kernel maps: 1, 2 or 4."""


def run(
    image: Tensor, vertical: Tensor, horizontal: Tensor, sampling: Sampling, *, needs_weights: bool, backend: str
) -> tuple[Tensor, Tensor | None]:
    """Choose the backend, upsample the kernel maps unless the backend upsamples them, and convolve.

    Returns the convolved image and the weight sum `[B, 1, H, W]`. The weight sum may be None if `needs_weights` is
    False.
    """
    taps, replicate, scale = sampling.taps, sampling.replicate, sampling.scale
    if backend == "auto" and taps.size == 1:
        backend = "torch"  # a plain multiplication, for which nothing needs to be compiled
    chosen = choose_backend(BACKENDS, backend, image, vertical)
    if chosen.name == "halide" and not needs_weights and op_upsampled.supports(image, taps, scale):
        return op_upsampled.convolve(image, vertical, horizontal, scale, replicate), None
    if scale != 1:
        vertical, horizontal = _upsampled(vertical, scale), _upsampled(horizontal, scale)
    if chosen.forward is not None:
        out, weight_sum = chosen.forward(image, vertical, horizontal, taps, replicate)
    else:
        pattern = taps.inner, taps.outer, taps.variant
        out, weight_sum = _convolve(image, vertical, horizontal, *pattern, replicate, chosen.name)
    return out, weight_sum


def _upsampled(kernels: Tensor, scale: int) -> Tensor:
    return F.interpolate(kernels, scale_factor=float(scale), mode="bilinear", align_corners=False)


@torch.library.custom_op("midframe::separable_convolution", mutates_args=())
def _convolve(  # noqa: PLR0913 - operators of torch.library take tensors and plain values, no dataclasses
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    variant: str,
    replicate: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    taps = TapPattern(inner, outer, cast(Variant, variant))
    out, weight_sum = BACKENDS[backend].load().forward(image, vertical, horizontal, taps, replicate)
    return out.contiguous(memory_format=memory_format_of(image)), weight_sum.contiguous()


@torch.library.custom_op("midframe::separable_convolution_gradient_kernels", mutates_args=())
def _gradient_kernels(  # noqa: PLR0913 - as above
    grad_out: Tensor,
    grad_weight_sum: Tensor,
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    variant: str,
    replicate: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    taps = TapPattern(inner, outer, cast(Variant, variant))
    grad_vertical, grad_horizontal = (
        BACKENDS[backend]
        .load()
        .gradient_kernels(grad_out, grad_weight_sum, image, vertical, horizontal, taps, replicate)
    )
    return (
        grad_vertical.contiguous(memory_format=memory_format_of(vertical)),
        grad_horizontal.contiguous(memory_format=memory_format_of(horizontal)),
    )


@torch.library.custom_op("midframe::separable_convolution_gradient_image", mutates_args=())
def _gradient_image(  # noqa: PLR0913 - as above
    grad_out: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    inner: int,
    outer: int,
    variant: str,
    replicate: bool,
    backend: str,
) -> Tensor:
    taps = TapPattern(inner, outer, cast(Variant, variant))
    grad: Tensor = BACKENDS[backend].load().gradient_image(grad_out, vertical, horizontal, taps, replicate)
    return grad.contiguous(memory_format=memory_format_of(grad_out))


@_convolve.register_fake
def _(image: Tensor, *_others: object) -> tuple[Tensor, Tensor]:
    batch, _, height, width = image.shape
    working = torch.promote_types(image.dtype, torch.float32)
    return new_like(image), image.new_empty((batch, 1, height, width), dtype=working)


@_gradient_kernels.register_fake
def _(
    grad_out: Tensor,
    grad_weight_sum: Tensor,
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    *_others: object,
) -> tuple[Tensor, Tensor]:
    return new_like(vertical), new_like(horizontal)


@_gradient_image.register_fake
def _(grad_out: Tensor, *_others: object) -> Tensor:
    return new_like(grad_out)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    image, vertical, horizontal, *options = inputs
    ctx.save_for_backward(image, vertical, horizontal)
    ctx.options = options


def _backward(ctx: Any, grad_out: Tensor, grad_weight_sum: Tensor) -> tuple[Tensor | None, ...]:
    image, vertical, horizontal = ctx.saved_tensors
    grad_image = grad_vertical = grad_horizontal = None
    if ctx.needs_input_grad[0]:
        grad_image = _gradient_image(grad_out, vertical, horizontal, *ctx.options)
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        grad_vertical, grad_horizontal = _gradient_kernels(
            grad_out, grad_weight_sum, image, vertical, horizontal, *ctx.options
        )
    return (grad_image, grad_vertical, grad_horizontal, *(None for _ in ctx.options))


torch.library.register_autograd("midframe::separable_convolution", _backward, setup_context=_save_for_backward)
refuse_second_gradients(
    ("separable_convolution_gradient_kernels", "separable_convolution_gradient_image"),
    op_upsampled.NO_SECOND_GRADIENTS,
)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("midframe::separable_convolution", _device, torch.float32)
