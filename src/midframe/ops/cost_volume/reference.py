"""The bilateral cost volume in plain PyTorch: the definition that the other backends are tested against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(features: Tensor, time: Tensor, context: Tensor | None, radius: int) -> Tensor:
    """Return the cost volume of features `[2B, C, H, W]`; half precision is computed in float32."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    first, second = features[0::2].to(dtype), features[1::2].to(dtype)
    side = range(-radius, radius + 1)
    displacements = [(kx, ky) for ky in side for kx in side]
    halfway = torch.stack(
        [(_shift(first, -kx, -ky, radius) * _shift(second, kx, ky, radius)).mean(1) for kx, ky in displacements], 1
    )
    cost = _sample_halfway(halfway, 1 - 2 * time.to(dtype), radius)
    parts = [cost] if context is None else [cost, first, second, context.to(dtype)]
    return torch.cat(parts, 1).to(features.dtype)


def _shift(maps: Tensor, dx: int, dy: int, radius: int) -> Tensor:
    """Return `out[y, x] = maps[y + dy, x + dx]`, zero outside of the image."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (radius, radius, radius, radius))
    return padded[:, :, radius + dy : radius + dy + height, radius + dx : radius + dx + width]


def _sample_halfway(halfway: Tensor, offset_scale: Tensor, radius: int) -> Tensor:
    """Sample the slice of each displacement k at p + (1 − 2t) k: bilinear, zero outside of the image.

    halfway: `[B, K, H, W]`, the cost at t = 1/2. offset_scale: 1 − 2t, `[B]`.
    """
    batch, slices, height, width = halfway.shape
    k = torch.arange(-radius, radius + 1, device=halfway.device)
    ky, kx = (axis.reshape(-1, 1, 1) for axis in torch.meshgrid(k, k, indexing="ij"))
    dx, dy = offset_scale.view(-1, 1, 1, 1) * kx, offset_scale.view(-1, 1, 1, 1) * ky
    left, top = dx.floor(), dy.floor()
    a, b = dx - left, dy - top
    edge = radius + 1
    padded = F.pad(halfway, (edge, edge, edge, edge))
    rows = torch.arange(height, device=halfway.device).view(-1, 1) + edge + top.long()
    columns = torch.arange(width, device=halfway.device) + edge + left.long()
    sample_index = torch.arange(batch, device=halfway.device).view(-1, 1, 1, 1)
    slice_index = torch.arange(slices, device=halfway.device).view(-1, 1, 1)

    def corner(right: int, down: int) -> Tensor:
        return padded[sample_index, slice_index, rows + down, columns + right]

    upper = (1 - a) * corner(0, 0) + a * corner(1, 0)
    lower = (1 - a) * corner(0, 1) + a * corner(1, 1)
    return (1 - b) * upper + b * lower
