"""A median filter, which removes outliers from a flow."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.flow.operators.checks import working_type
from midframe.flow.operators.median_filter import op


@torch.no_grad()
def median_filter(flow: Tensor, *, backend: str = "auto") -> Tensor:
    """Return, for each pixel and each channel, the median of the window of 5x5 pixels, with border pixels repeated.

    flow: `[B, C, H, W]`, any number of channels. Returns the same shape. Conventions and errors: see the package.
    """
    if flow.dim() != 4 or 0 in flow.shape or not flow.is_floating_point():
        raise SettingError(f"median_filter takes floats [B, C, H, W]; got {flow.dtype} {list(flow.shape)}")
    return op.run(flow.to(working_type(flow)), backend=backend)
