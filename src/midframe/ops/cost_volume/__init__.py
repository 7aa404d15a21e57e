"""The bilateral cost volume: how well two feature maps match along straight motions through a pixel at a given time."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.cost_volume import op
from midframe.ops.halide.layouts import memory_format_of


def cost_volume(
    features: Tensor,
    *,
    radius: int,
    time: Tensor | float = 0.5,
    context: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Match the features of two frames for all displacements d = 2k, on the pixel grid of the frame at time t.

        cost[b, k, p] = mean over c of F0[b, c, p − t d] · F1[b, c, p + (1 − t) d],   F0, F1 = features.unbind(1)

    p = (x, y) is a pixel; k = (kx, ky) has components in −radius..radius. A point that moves along a straight line by
    d, and is at p at the time t, is at p − t d in the first frame and at p + (1 − t) d in the second frame. At t = 1/2
    both positions are whole pixels, p − k and p + k. At other times, their midpoint m = p + (1 − 2t) k need not be a
    pixel. The products F0[q − k] · F1[q + k] of the four pixels q around m are then interpolated bilinearly.
    Features are never interpolated, because that would blur them. A product is zero if one of its positions is outside
    of the image.

    features: `[B, 2, C, H, W]`, any floating-point type: the features of the first and of the second frame.
    radius: the largest kx and ky, 1 or more; displacements are up to 2 * radius pixels.
    time: t in (0, 1), a number or a tensor `[B]`, without gradient.
    context: optional maps `[B, E, H, W]` that a decoder reads beside the cost.
    backend: `auto`, `reference`, `halide` (CPU) or `torch`.
    Returns the cost `[B, K, H, W]` with K = (2 * radius + 1)², kx fastest; with context the concatenation of cost, F0,
    F1 and context, `[B, K + 2C + E, H, W]`. The type is that of the features; for channels-last features (stride 1
    along C) the result is channels-last. Features and context have gradients; gradients of gradients exist on
    `reference` and `torch` only.
    Raises `SettingError` for shapes, types or values that do not fit, and `DeviceError` or `SettingError` if a named
    backend cannot run.
    Source: BMBC (Park et al., arXiv 2007.12622), but BMBC interpolates features at times other than 1/2.
    """
    _check(features, radius, context)
    return op.run(_as_batch(features), _times(time, features), context, radius, backend)


def _check(features: Tensor, radius: int, context: Tensor | None) -> None:
    """Raise `SettingError` if shapes, types, devices or the radius do not fit."""
    shape = list(features.shape)
    if features.dim() != 5 or features.shape[1] != 2 or 0 in shape:
        raise SettingError(f"cost_volume takes the features of two frames [B, 2, C, H, W]; got {shape}")
    if not features.is_floating_point():
        raise SettingError(f"cost_volume takes floating point features; got {features.dtype}")
    if radius < 1:
        raise SettingError(f"the radius of cost_volume is 1 or more; got {radius}")
    if context is None:
        return
    batch, _, _, height, width = shape
    if context.dim() != 4 or (context.shape[0], *context.shape[2:]) != (batch, height, width):
        raise SettingError(f"the context of cost_volume is [{batch}, E, {height}, {width}]; got {list(context.shape)}")
    if context.device != features.device:
        found = f"{features.device} and {context.device}"
        raise SettingError(f"features and context of cost_volume must be on one device; got {found}")


def _as_batch(features: Tensor) -> Tensor:
    """Return features `[B, 2, C, H, W]` as `[2B, C, H, W]`: a view if possible, channels-last if they are."""
    batch = features.flatten(0, 1)
    if memory_format_of(features[:, 0]) is torch.channels_last and batch.stride(1) != 1:
        batch = batch.contiguous(memory_format=torch.channels_last)
    return batch


def _times(time: Tensor | float, features: Tensor) -> Tensor:
    """Return the time of each sample `[B]`, in float32 (float64 with float64 features)."""
    batch = features.shape[0]
    dtype = torch.promote_types(features.dtype, torch.float32)
    if not isinstance(time, Tensor):
        if not 0 < time < 1:
            raise SettingError(f"the time of cost_volume is between 0 and 1; got {time}")
        return torch.full((batch,), float(time), dtype=dtype, device=features.device)
    if time.numel() not in (1, batch):
        raise SettingError(f"cost_volume takes one time, or one per sample ({batch}); got {list(time.shape)}")
    return time.detach().to(features.device, dtype).reshape(-1).expand(batch).contiguous()
