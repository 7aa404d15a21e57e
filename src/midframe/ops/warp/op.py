"""Register the backward warp with torch.library, connect its gradients and choose its backend.

A backend is a function `forward(image, flow)` of differentiable torch operations, or a module with three functions:

    forward(image, flow) -> out
    gradient_image(grad_out, flow) -> grad_image
    gradient_flow(grad_out, image, flow) -> grad_flow

The inputs are checked; the flow is float32, or float64 if the image is. Results have the types of what they belong to.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.ops.dispatch import Backend, BackendTable, choose_backend
from midframe.ops.halide.layouts import memory_format_of, new_like
from midframe.ops.registration import refuse_second_gradients
from midframe.ops.warp import pytorch, reference

BACKENDS = BackendTable(
    "warp",
    (
        Backend("halide", "one pass over the image", module="midframe.ops.warp.halide"),
        Backend("torch", "`grid_sample`, with the flow upsampled in memory", forward=pytorch.forward),
        Backend("reference", "four gathered images and the upsampled flow in memory", forward=reference.forward),
    ),
)


def run(image: Tensor, flow: Tensor, backend: str) -> Tensor:
    """Run the warp on the chosen backend. The result has the memory format of the image."""
    chosen = choose_backend(BACKENDS, backend, image, flow)
    warped: Tensor = (
        _warp(image, flow, chosen.name)
        if chosen.forward is None
        else chosen.forward(image, flow).contiguous(memory_format=memory_format_of(image))
    )
    return warped


@torch.library.custom_op("midframe::warp", mutates_args=())
def _warp(image: Tensor, flow: Tensor, backend: str) -> Tensor:
    out: Tensor = BACKENDS[backend].load().forward(image, flow)
    return out.contiguous(memory_format=memory_format_of(image))


@torch.library.custom_op("midframe::warp_gradient_image", mutates_args=())
def _gradient_image(grad_out: Tensor, flow: Tensor, backend: str) -> Tensor:
    grad: Tensor = BACKENDS[backend].load().gradient_image(grad_out, flow)
    return grad.contiguous(memory_format=memory_format_of(grad_out))


@torch.library.custom_op("midframe::warp_gradient_flow", mutates_args=())
def _gradient_flow(grad_out: Tensor, image: Tensor, flow: Tensor, backend: str) -> Tensor:
    grad: Tensor = BACKENDS[backend].load().gradient_flow(grad_out, image, flow)
    return grad.contiguous()


@_warp.register_fake
def _(image: Tensor, flow: Tensor, backend: str) -> Tensor:
    return new_like(image)


@_gradient_image.register_fake
def _(grad_out: Tensor, flow: Tensor, backend: str) -> Tensor:
    return new_like(grad_out)


@_gradient_flow.register_fake
def _(grad_out: Tensor, image: Tensor, flow: Tensor, backend: str) -> Tensor:
    return flow.new_empty(flow.shape)


def _save_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    image, flow, ctx.backend = inputs
    ctx.save_for_backward(image, flow)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    image, flow = ctx.saved_tensors
    grad_image = _gradient_image(grad_out, flow, ctx.backend) if ctx.needs_input_grad[0] else None
    grad_flow = _gradient_flow(grad_out, image, flow, ctx.backend) if ctx.needs_input_grad[1] else None
    return grad_image, grad_flow, None


torch.library.register_autograd("midframe::warp", _backward, setup_context=_save_for_backward)
refuse_second_gradients(
    ("warp_gradient_image", "warp_gradient_flow"),
    "warp has gradients of gradients only on backend='reference' and 'torch'",
)
