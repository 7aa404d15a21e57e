"""Register feature normalisation with torch.library, connect its gradients and choose its backend.

A backend is a function `forward(features, centre)` of differentiable torch operations, or a module with two functions:

    forward(features, centre) -> out
    gradients(grad_out, features, centre) -> (grad_features, grad_centre)

The inputs are checked. A module gets the centre in float32; the features that it returns may have any memory format
and, instead of float16, float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from midframe.ops.dispatch import Backend, BackendTable, choose_backend, torch_and_reference
from midframe.ops.feature_normalisation import reference
from midframe.ops.halide.layouts import LANES, memory_format_of, new_like
from midframe.ops.registration import refuse_second_gradients


def _halide_limits(features: Tensor) -> str | None:
    if features.shape[1] % LANES == 0:
        return None
    return f"normalise_features on Halide takes a multiple of {LANES} channels; got {features.shape[1]}"


BACKENDS = BackendTable(
    "normalise_features",
    (
        Backend(
            "halide",
            f"two passes over the features; a multiple of {LANES} channels",
            module="midframe.ops.feature_normalisation.halide",
            limits=_halide_limits,
        ),
        *torch_and_reference("some twenty passes over the features, some of which autograd keeps", reference.forward),
    ),
)


def run(features: Tensor, centre: Tensor, backend: str) -> Tensor:
    """Run the feature normalisation on the chosen backend."""
    chosen = choose_backend(BACKENDS, backend, features)
    out: Tensor = (
        _normalise_features(features, centre.float(), chosen.name)
        if chosen.forward is None
        else chosen.forward(features, centre)
    )
    return out


@torch.library.custom_op("midframe::normalise_features", mutates_args=())
def _normalise_features(features: Tensor, centre: Tensor, backend: str) -> Tensor:
    return _converted(BACKENDS[backend].load().forward(features, centre), features)


@torch.library.custom_op("midframe::normalise_features_gradients", mutates_args=())
def _gradients(grad_out: Tensor, features: Tensor, centre: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    grad_features, grad_centre = BACKENDS[backend].load().gradients(grad_out, features, centre)
    return _converted(grad_features, features), grad_centre


def _converted(result: Tensor, features: Tensor) -> Tensor:
    """Return a backend's result in the type and memory format of the features."""
    return result.to(features.dtype).contiguous(memory_format=memory_format_of(features))


@_normalise_features.register_fake
def _(features: Tensor, centre: Tensor, backend: str) -> Tensor:
    return new_like(features)


@_gradients.register_fake
def _(grad_out: Tensor, features: Tensor, centre: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    return new_like(features), centre.new_empty(centre.shape)


def _save_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    features, centre, ctx.backend = inputs
    ctx.save_for_backward(features, centre)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, None]:
    grad_features, grad_centre = _gradients(grad_out, *ctx.saved_tensors, ctx.backend)
    return grad_features, grad_centre, None


torch.library.register_autograd("midframe::normalise_features", _backward, setup_context=_save_for_backward)
refuse_second_gradients(
    ("normalise_features_gradients",),
    "normalise_features has gradients of gradients only on backend='reference' and 'torch'",
)
