"""The bilateral cost volume in plain torch: the definition that every backend is held against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cost_volume_reference(
    first: Tensor, second: Tensor, time: Tensor, radius: int, context: Tensor | None = None
) -> Tensor:
    """The matches halfway between the frames, a displacement at a time, then moved to where they are at `time`."""
    kind = first.dtype
    working = torch.promote_types(kind, torch.float32)
    a, b = first.to(working), second.to(working)
    side = range(-radius, radius + 1)
    pairs = [(_shifted(a, -kx, -ky, radius), _shifted(b, kx, ky, radius)) for ky in side for kx in side]
    halfway = torch.stack([(p * q).mean(1) for p, q in pairs], 1)
    cost = _moved(halfway, 1 - 2 * time.to(working), radius)
    joined = [cost] if context is None else [cost, a, b, context.to(working)]
    return torch.cat(joined, 1).to(kind)


def _shifted(maps: Tensor, dx: int, dy: int, radius: int) -> Tensor:
    """`out[y, x] = maps[y + dy, x + dx]`, zero outside."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (radius, radius, radius, radius))
    return padded[:, :, radius + dy : radius + dy + height, radius + dx : radius + dx + width]


def _moved(cost: Tensor, away: Tensor, radius: int) -> Tensor:
    """The slice of each displacement (kx, ky) read at x + away * kx, y + away * ky: bilinear, zero outside."""
    batch, slices, height, width = cost.shape
    k = torch.arange(-radius, radius + 1, device=cost.device)
    ky, kx = (axis.reshape(-1, 1, 1) for axis in torch.meshgrid(k, k, indexing="ij"))
    dx, dy = away.view(-1, 1, 1, 1) * kx, away.view(-1, 1, 1, 1) * ky
    left, top = dx.floor(), dy.floor()
    a, b = dx - left, dy - top
    edge = radius + 1
    padded = F.pad(cost, (edge, edge, edge, edge))
    rows = torch.arange(height, device=cost.device).view(-1, 1) + edge + top.long()
    columns = torch.arange(width, device=cost.device) + edge + left.long()
    sample = torch.arange(batch, device=cost.device).view(-1, 1, 1, 1)
    which = torch.arange(slices, device=cost.device).view(-1, 1, 1)

    def at(q: int, r: int) -> Tensor:
        return padded[sample, which, rows + r, columns + q]

    upper = (1 - a) * at(0, 0) + a * at(1, 0)
    lower = (1 - a) * at(0, 1) + a * at(1, 1)
    return (1 - b) * upper + b * lower
