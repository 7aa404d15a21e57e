"""Local contrast normalisation of one-channel frames."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.flow.operators.checks import working_type
from midframe.flow.operators.normalise_local_contrast import op


@torch.no_grad()
def normalise_local_contrast(frames: Tensor, *, backend: str = "auto") -> Tensor:
    """Normalise frames to local mean 0 and local variance 1, so that differences of brightness and contrast vanish.

        d = frames − S(frames),   out = d / sqrt(S(d²) + e)

    S is a box filter of 7x7 pixels, applied twice, with border pixels repeated. e = 4e-4 is the variance of noise:
    where there is only noise of this variance, the result has the variance 1/2.

    frames: `[N, 1, H, W]` in 0..1. Returns the same shape. Conventions and errors: see the package.
    """
    if frames.dim() != 4 or frames.shape[1] != 1 or 0 in frames.shape or not frames.is_floating_point():
        found = f"{frames.dtype} {list(frames.shape)}"
        raise SettingError(f"normalise_local_contrast takes floats [N, 1, H, W]; got {found}")
    return op.run(frames.to(working_type(frames)), backend=backend)
