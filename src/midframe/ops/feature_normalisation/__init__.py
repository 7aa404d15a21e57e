"""Features made comparable, so that a match of two of them is a cosine."""

from __future__ import annotations

from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.dispatch import choose
from midframe.ops.feature_normalisation import op as registration
from midframe.ops.feature_normalisation.reference import comparable_reference
from midframe.ops.halide.layouts import LANES


def comparable(features: Tensor, centre: Tensor, *, backend: str = "auto") -> Tensor:
    """Features less what they have in common everywhere, of mean square 1 at every pixel.

    s = sqrt(mean over c of features² + e),  a = features - s * centre,  out = a / sqrt(mean over c of a² + e)

    features `[B, C, H, W]`, float of any kind. centre `[C]`, float32 (float64 with float64 features): what features
    have in common, as a part of each pixel's own root mean square s. e is 1e-6. backend: `auto`, `reference`, `halide`
    (CPU, C a multiple of 16) or `torch`. Returns the type and shape of the features. Gradients to both.
    Raises `SettingError` for shapes and types that do not fit, and what `backends.choose` raises.
    """
    if features.dim() != 4 or 0 in features.shape or centre.shape != features.shape[1:2]:
        raise SettingError(
            f"comparable takes features [B, C, H, W] and a centre [C]; got {list(features.shape)}, {list(centre.shape)}"
        )
    if not features.is_floating_point() or not centre.is_floating_point():
        raise SettingError(f"comparable takes floating point tensors; got {features.dtype} and {centre.dtype}")
    if features.device != centre.device:
        raise SettingError(f"features and centre must be on one device; got {features.device} and {centre.device}")
    whole = features.shape[1] % LANES == 0
    if backend == "halide" and not whole:
        raise SettingError(f"comparable on Halide takes a multiple of {LANES} channels; got {features.shape[1]}")
    name = choose("comparable", backend, (features,), offered=("halide", "torch"))
    if name == "halide" and whole:
        made: Tensor = registration.comparable(features, centre.to(registration.WORKING))
        return made
    return comparable_reference(features, centre)
