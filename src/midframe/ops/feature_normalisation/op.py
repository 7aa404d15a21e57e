"""Comparable features as torch sees them where Halide runs: an operator of `torch.library` and its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.halide.layouts import like

WORKING = torch.float32


@torch.library.custom_op("midframe::comparable", mutates_args=(), device_types="cpu")
def comparable(features: Tensor, centre: Tensor) -> Tensor:
    from midframe.ops.feature_normalisation import halide

    made = halide.forward(features, centre)
    return like(features).copy_(made) if _copies(features) else made


@torch.library.custom_op("midframe::comparable_gradients", mutates_args=(), device_types="cpu")
def gradients(grad_out: Tensor, features: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    from midframe.ops.feature_normalisation import halide

    grad_features, grad_centre = halide.gradients(grad_out, features, centre)
    return (like(features).copy_(grad_features) if _copies(features) else grad_features), grad_centre


@comparable.register_fake
def _(features: Tensor, centre: Tensor) -> Tensor:
    return like(features)


@gradients.register_fake
def _(grad_out: Tensor, features: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    return like(features), torch.empty(centre.shape, dtype=centre.dtype, device=centre.device)


def _copies(features: Tensor) -> bool:
    """Whether a result lies otherwise than Halide writes it, channels-last, in float32 or bfloat16."""
    return features.stride(1) != 1 or features.dtype is torch.float16


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor]:
    grad_features, grad_centre = gradients(grad_out, *ctx.saved_tensors)
    return grad_features, grad_centre


def _no_second_gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    raise SettingError("comparable has no gradients of gradients but on backend='reference' and 'torch'")


torch.library.register_autograd("midframe::comparable", _backward, setup_context=_keep)
torch.library.register_autograd("midframe::comparable_gradients", _no_second_gradient)
