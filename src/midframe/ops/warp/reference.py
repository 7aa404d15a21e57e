"""Backward warp in plain torch: the definition that every backend is held against, and a quick version of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp_reference(image: Tensor, motion: Tensor) -> Tensor:
    """Read each pixel at its own place plus its motion: four neighbours by index, weighted bilinearly."""
    batch, channels, height, width = image.shape
    motion = full_size(motion, height, width)
    x = _inside(torch.arange(width, device=image.device) + motion[:, 0], width - 1)
    y = _inside(torch.arange(height, device=image.device)[:, None] + motion[:, 1], height - 1)
    flat = image.reshape(batch, channels, height * width)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
        picked = flat.gather(2, index.view(batch, 1, -1).expand(-1, channels, -1))
        return picked.view(batch, channels, height, width)

    left, top = x.detach().floor().long(), y.detach().floor().long()
    a, b = (x - left)[:, None], (y - top)[:, None]
    upper = (1 - a) * at(top, left) + a * at(top, left + 1)
    lower = (1 - a) * at(top + 1, left) + a * at(top + 1, left + 1)
    return ((1 - b) * upper + b * lower).to(image.dtype)


def warp_torch(image: Tensor, motion: Tensor) -> Tensor:
    """The same by `grid_sample`, in float32 for half precision: what runs where Halide cannot."""
    height, width = image.shape[-2:]
    working = torch.promote_types(image.dtype, torch.float32)
    motion = full_size(motion, height, width).to(working)
    x = _inside(torch.arange(width, device=image.device) + motion[:, 0], width - 1)
    y = _inside(torch.arange(height, device=image.device)[:, None] + motion[:, 1], height - 1)
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), -1)
    sampled = F.grid_sample(image.to(working), grid, padding_mode="border", align_corners=True)
    return sampled.to(image.dtype)


def full_size(motion: Tensor, height: int, width: int) -> Tensor:
    """Motion maps read at every pixel of the picture: bilinear between their own centres, clamped at the edges."""
    if motion.shape[-2:] == (height, width):
        return motion
    return F.interpolate(motion, size=(height, width), mode="bilinear", align_corners=False)


def _inside(position: Tensor, last: int) -> Tensor:
    """The position clamped to 0..last; there, and on the border itself, it has no gradient."""
    clamped = position.detach().nan_to_num(0.0).clamp(0, last)
    return torch.where((position > 0) & (position < last), position, clamped)
