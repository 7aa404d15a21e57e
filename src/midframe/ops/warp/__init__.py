"""Backward warp: a picture read where motion points."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.dispatch import choose
from midframe.ops.halide.layouts import memory_format_of
from midframe.ops.warp import op as registration
from midframe.ops.warp.reference import warp_reference, warp_torch


def warp(image: Tensor, motion: Tensor, *, backend: str = "auto") -> Tensor:
    """Read each pixel of a picture at its own place plus its motion, bilinearly; outside, the nearest pixel.

    out[b,c,y,x] = image[b, c, y + v, x + u]  with (u, v) = motion[b, :, y, x]

    image `[B, C, H, W]`, float of any kind. motion `[B, 2, h, w]`, (x, y) in pixels of the image; of the image's size,
    or smaller by a whole factor s (h = H / s, w = W / s): then it is read as if upsampled bilinearly (half-pixel
    centres, clamped at the edges), without the full-size maps ever being there. It is taken in float32 (float64 with a
    float64 image), whatever the image's type: half precision would round the places read.
    backend: `auto`, `reference`, `halide` (CPU) or `torch`. Returns `[B, C, H, W]` in the type and memory format of the
    image.

    Gradients to both. Where a place is on the border of the picture or outside, the motion's gradient along that axis
    is zero, as in `torch.nn.functional.grid_sample(padding_mode="border", align_corners=True)`.
    Raises `SettingError` for shapes that do not fit, and what `backends.choose` raises.
    Source: spatial transformers (Jaderberg et al., arXiv 1506.02025).
    """
    _check(image, motion)
    motion = motion.to(torch.promote_types(image.dtype, torch.float32))
    name = choose("warp", backend, (image,), offered=("halide", "torch"))
    if name == "halide":
        warped: Tensor = registration.warp(image, motion)
        return warped
    run = warp_reference if name == "reference" else warp_torch
    return run(image, motion).contiguous(memory_format=memory_format_of(image))


def _check(image: Tensor, motion: Tensor) -> None:
    if image.dim() != 4 or motion.dim() != 4 or motion.shape[:2] != (image.shape[0], 2) or 0 in image.shape:
        raise SettingError(
            "warp takes an image [B, C, H, W] and motion [B, 2, h, w]; "
            f"got {list(image.shape)} and {list(motion.shape)}"
        )
    (height, width), (h, w) = image.shape[-2:], motion.shape[-2:]
    if h == 0 or w == 0 or height % h or width % w or height // h != width // w:
        raise SettingError(
            "the motion of warp has the image's size or is smaller by one whole factor; "
            f"got {h}x{w} for {height}x{width}"
        )
    if not image.is_floating_point() or not motion.is_floating_point():
        raise SettingError(f"warp takes floating point tensors; got {image.dtype} and {motion.dtype}")
    if image.device != motion.device:
        raise SettingError(f"image and motion must be on one device; got {image.device} and {motion.device}")
