"""Feature normalisation, after which a match of two features is a cosine similarity."""

from __future__ import annotations

from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.feature_normalisation import op


def normalise_features(features: Tensor, centre: Tensor, *, backend: str = "auto") -> Tensor:
    """Subtract a learned centre, scaled by each pixel's magnitude, and normalise the pixel to mean square 1.

        s = sqrt(mean over c of f² + e),   a = f − s · centre,   out = a / sqrt(mean over c of a² + e)

    The mean product of two such features is between -1 and 1: the cosine of the angle between them. Scaling the
    features of a pixel does not change the result, apart from e = 1e-6, which keeps features that are zero finite.

    features: f, `[B, C, H, W]`, any floating-point type.
    centre: `[C]`, the part that all features have in common, in units of the root mean square s of a pixel. It is used
    as float32 (float64 with float64 features).
    backend: `auto`, `reference`, `halide` (CPU; C a multiple of 16) or `torch`.
    Returns the shape, type and memory format of `features`. Both inputs have gradients; gradients of gradients exist
    on `reference` and `torch` only.
    Raises `SettingError` for shapes and types that do not fit, and `DeviceError` or `SettingError` if a named backend
    cannot run.
    """
    if features.dim() != 4 or 0 in features.shape or centre.shape != features.shape[1:2]:
        found = f"{list(features.shape)} and {list(centre.shape)}"
        raise SettingError(f"normalise_features takes features [B, C, H, W] and a centre [C]; got {found}")
    if not features.is_floating_point() or not centre.is_floating_point():
        raise SettingError(f"normalise_features takes floating point tensors; got {features.dtype} and {centre.dtype}")
    if features.device != centre.device:
        raise SettingError(f"features and centre must be on one device; got {features.device} and {centre.device}")
    return op.run(features, centre, backend)
