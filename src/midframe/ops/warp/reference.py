"""The backward warp by indexed pixels in plain PyTorch: the definition that the other backends are tested against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(image: Tensor, flow: Tensor) -> Tensor:
    """Return the warped image: the four pixels around each position, weighted bilinearly."""
    batch, channels, height, width = image.shape
    x, y = sampling_positions(upsample_flow(flow, height, width))
    flat = image.reshape(batch, channels, height * width)

    def pixels(rows: Tensor, columns: Tensor) -> Tensor:
        index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
        gathered = flat.gather(2, index.view(batch, 1, -1).expand(-1, channels, -1))
        return gathered.view(batch, channels, height, width)

    left, top = x.detach().floor().long(), y.detach().floor().long()
    a, b = (x - left)[:, None], (y - top)[:, None]
    upper = (1 - a) * pixels(top, left) + a * pixels(top, left + 1)
    lower = (1 - a) * pixels(top + 1, left) + a * pixels(top + 1, left + 1)
    return ((1 - b) * upper + b * lower).to(image.dtype)


def upsample_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """Upsample the flow bilinearly to the size of the image; its vectors already are in pixels of the image."""
    if flow.shape[-2:] == (height, width):
        return flow
    return F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)


def sampling_positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns x and the rows y `[B, H, W]` of the positions that each pixel samples, inside of the image."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    return _clamp_without_gradient(x, width - 1), _clamp_without_gradient(y, height - 1)


def _clamp_without_gradient(position: Tensor, last: int) -> Tensor:
    """Clamp positions to 0..last. Those that are clamped or on the border have no gradient; NaN becomes 0."""
    clamped = position.detach().nan_to_num(0.0).clamp(0, last)
    return torch.where((position > 0) & (position < last), position, clamped)
