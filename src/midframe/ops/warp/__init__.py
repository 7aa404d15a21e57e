"""Backward warp: sample an image along an optical flow."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.warp import op


def warp(image: Tensor, flow: Tensor, *, backend: str = "auto") -> Tensor:
    """Sample an image bilinearly at each pixel's position plus its flow; outside of the image, at the nearest pixel.

        out[b, c, y, x] = image[b, c, y + v, x + u],   (u, v) = flow[b, :, y, x]

    image: `[B, C, H, W]`, any floating-point type.
    flow: `[B, 2, h, w]`, (horizontal, vertical) in pixels of the image, h = H / s and w = W / s with a whole s >= 1. If
    s > 1, the flow is read as if upsampled bilinearly (half-pixel centres, clamped at the edges); Halide does so
    without storing the upsampled flow. It is used as float32 (float64 with a float64 image), because half precision
    would round the positions.
    backend: `auto`, `reference`, `halide` (CPU) or `torch`.
    Returns `[B, C, H, W]` in the type and memory format of `image`.

    Both inputs have gradients; gradients of gradients exist on `reference` and `torch` only. If a position is on the
    border of the image or outside, the gradient of the flow along that axis is zero, as in
    `torch.nn.functional.grid_sample(padding_mode="border", align_corners=True)`.
    Raises `SettingError` for shapes and types that do not fit, and `DeviceError` or `SettingError` if a named backend
    cannot run.
    Source: spatial transformers (Jaderberg et al., arXiv 1506.02025).
    """
    _check(image, flow)
    return op.run(image, flow.to(torch.promote_types(image.dtype, torch.float32)), backend)


def _check(image: Tensor, flow: Tensor) -> None:
    """Raise `SettingError` if shapes, types or devices do not fit."""
    if image.dim() != 4 or flow.dim() != 4 or flow.shape[:2] != (image.shape[0], 2) or 0 in image.shape:
        found = f"{list(image.shape)} and {list(flow.shape)}"
        raise SettingError(f"warp takes an image [B, C, H, W] and flow [B, 2, h, w]; got {found}")
    (height, width), (h, w) = image.shape[-2:], flow.shape[-2:]
    if h == 0 or w == 0 or height % h or width % w or height // h != width // w:
        raise SettingError(
            f"the flow of warp has the image's size or is smaller by one whole factor; got {h}x{w} for {height}x{width}"
        )
    if not image.is_floating_point() or not flow.is_floating_point():
        raise SettingError(f"warp takes floating point tensors; got {image.dtype} and {flow.dtype}")
    if image.device != flow.device:
        raise SettingError(f"image and flow must be on one device; got {image.device} and {flow.device}")
