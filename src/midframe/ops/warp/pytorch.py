"""The backward warp by `grid_sample`, on any device and in any floating-point type."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.warp.reference import sampling_positions, upsample_flow


def forward(image: Tensor, flow: Tensor) -> Tensor:
    """Return the warped image; half precision is computed in float32."""
    height, width = image.shape[-2:]
    dtype = torch.promote_types(image.dtype, torch.float32)
    x, y = sampling_positions(upsample_flow(flow, height, width).to(dtype))
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), -1)
    sampled = F.grid_sample(image.to(dtype), grid, padding_mode="border", align_corners=True)
    return sampled.to(image.dtype)
