"""The bilateral cost volume: how well two feature maps match along straight motions through a place and time."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.cost_volume import op as registration
from midframe.ops.cost_volume.reference import cost_volume_reference
from midframe.ops.dispatch import choose


def cost_volume(
    first: Tensor,
    second: Tensor | None = None,
    *,
    radius: int,
    time: Tensor | float = 0.5,
    context: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Match two feature maps for every displacement d = 2k, k = (kx, ky) in -radius..radius, seen from time t.

    cost[b, k, y, x] = mean over c of first[b, c, p - t d] * second[b, c, p + (1 - t) d]  at p = (x, y)

    The two features are d apart and the line between them passes through p at the time t: motion is sought for the
    pixels of the frame that is wanted, not for those of a frame that is there. At t = 1/2 both lie on whole pixels,
    p - k and p + k. Elsewhere the line passes at p + (1 - 2t) k halfway, and the cost is interpolated bilinearly
    between the matches of whole pixels there: features are never blurred, and one volume of matches serves all times.
    Outside of the picture nothing matches: a product is zero where either feature lies outside.

    first, second `[B, C, H, W]`, float of one type. radius: 1 or more (of k, so d reaches 2 * radius). time: a number,
    or a tensor `[B]`, in (0, 1); it has no gradient. Returns `[B, K, H, W]`, K = (2 * radius + 1)^2, kx fastest.
    context: maps `[B, E, H, W]`; with it the result is `[B, K + 2C + E, H, W]`: cost, first, second and context side
    by side in the type of the features, which is what a decoder reads, without a concatenation.
    second None: `first` holds the features of both frames in turn, `[2B, C, H, W]`, each sample's two side by side; its
    gradient is then made in one piece.
    backend: `auto`, `reference`, `halide` (CPU) or `torch`. Gradients to first, second and context. Channels-last
    inputs give a channels-last result.
    Raises `SettingError` for shapes, types or values that do not fit, and what `backends.choose` raises.
    Source: bilateral cost volumes of BMBC (Park et al., arXiv 2007.12622), here without blur at times other than 1/2.
    """
    pairs = first
    if second is None:
        if first.dim() != 4 or first.shape[0] % 2:
            raise SettingError(f"cost_volume takes features of pairs [2B, C, H, W]; got {list(first.shape)}")
        first, second = pairs[0::2], pairs[1::2]
    _check(first, second, radius, context)
    moment = _moments(time, first)
    name = choose("cost_volume", backend, (first,), offered=("halide", "torch"))
    if name != "halide":
        return cost_volume_reference(first, second, moment, radius, context)
    volume: Tensor
    if pairs is first:
        volume = registration.cost_volume(first, second, moment, context, radius)
    else:
        volume = registration.cost_volume_of_pairs(pairs, moment, context, radius)
    return volume


def _check(first: Tensor, second: Tensor, radius: int, context: Tensor | None) -> None:
    if first.dim() != 4 or first.shape != second.shape or 0 in first.shape:
        raise SettingError(
            "cost_volume takes two feature maps of one shape [B, C, H, W]; "
            f"got {list(first.shape)} and {list(second.shape)}"
        )
    if first.dtype != second.dtype or not first.is_floating_point():
        raise SettingError(f"cost_volume takes features of one float type; got {first.dtype} and {second.dtype}")
    if radius < 1:
        raise SettingError(f"the radius of cost_volume is 1 or more; got {radius}")
    batch, _, height, width = first.shape
    shape = None if context is None else context.shape
    if shape is not None and (len(shape) != 4 or (shape[0], *shape[2:]) != (batch, height, width)):
        raise SettingError(f"the context of cost_volume is [{batch}, E, {height}, {width}]; got {list(shape)}")
    if any(t is not None and t.device != first.device for t in (second, context)):
        raise SettingError("the inputs of cost_volume must be on one device")


def _moments(time: Tensor | float, first: Tensor) -> Tensor:
    """The times `[B]` as float32 (float64 with float64 features)."""
    kind = torch.promote_types(first.dtype, torch.float32)
    if not isinstance(time, Tensor):
        if not 0 < time < 1:
            raise SettingError(f"the time of cost_volume is between 0 and 1; got {time}")
        return torch.full(first.shape[:1], float(time), dtype=kind, device=first.device)
    if time.numel() not in (1, first.shape[0]):
        raise SettingError(f"cost_volume takes one time, or one a sample ({first.shape[0]}); got {list(time.shape)}")
    return time.detach().to(first.device, kind).reshape(-1).expand(first.shape[0]).contiguous()
