"""The luma of RGB frames at half of their resolution."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.flow.operators.checks import working_type
from midframe.flow.operators.downsampled_luma import op


@torch.no_grad()
def downsampled_luma(frames: Tensor, *, backend: str = "auto") -> Tensor:
    """Return the BT.601 luma of RGB frames, averaged over blocks of 2x2 pixels.

        Y = 0.299 R + 0.587 G + 0.114 B

    frames: `[N, 3, H, W]`. Returns `[N, 1, H // 2, W // 2]`: the last row of an odd height and the last column of an
    odd width are ignored. Conventions and errors: see the package.
    """
    if frames.dim() != 4 or frames.shape[1] != 3 or not frames.is_floating_point():
        raise SettingError(f"downsampled_luma takes floats [N, 3, H, W]; got {frames.dtype} {list(frames.shape)}")
    if min(frames.shape[-2:]) < 2 or not len(frames):
        raise SettingError(f"downsampled_luma takes one or more frames of at least 2x2; got {list(frames.shape)}")
    return op.run(frames.to(working_type(frames)), backend=backend)
