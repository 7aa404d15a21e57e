"""Adaptive separable convolution, the operator that forms every frame.

Each backend is one module beside this one with three plain functions, which `registration.py` calls. Tensors may have
any strides and live on the backend's device; `image` and the kernels may be of different types; sums are float32
(float64 if given).

    forward(image, vertical, horizontal, taps, replicate) -> (out, weight_sum)
    gradient_kernels(grad_out, grad_weight_sum, image, vertical, horizontal, taps, replicate)
        -> (grad_vertical, grad_horizontal)
    gradient_image(grad_out, vertical, horizontal, taps, replicate) -> grad_image

`taps` is a `TapPattern`, `replicate` a bool (False: zero border). `out` and `grad_image` have the type of `image`
(`grad_out` has it too), the kernel gradients that of the kernels; `weight_sum` and `grad_weight_sum` `[B, 1, H, W]` are
float32 (float64 if given). Results are contiguous or in the memory format of what they belong to.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.separable import op
from midframe.ops.taps import TapPattern

Border = Literal["zero", "replicate"]
Backend = Literal["auto", "reference", "halide", "triton", "torch"]


@overload
def separable_convolution(
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    *,
    taps: TapPattern | None = None,
    border: Border = "zero",
    normalise: bool = False,
    return_weights: Literal[False] = False,
    scale: int = 1,
    backend: Backend = "auto",
) -> Tensor: ...


@overload
def separable_convolution(
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    *,
    taps: TapPattern | None = None,
    border: Border = "zero",
    normalise: bool = False,
    return_weights: Literal[True],
    scale: int = 1,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]: ...


def separable_convolution(
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    *,
    taps: TapPattern | None = None,
    border: Border = "zero",
    normalise: bool = False,
    return_weights: bool = False,
    scale: int = 1,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve each pixel of a picture with its own kernel, the outer product of a vertical and a horizontal one.

        out[b,c,y,x] = sum over i,j of image[b, c, y+dy(i,j), x+dx(i,j)] * vertical[b,i,y,x] * horizontal[b,j,y,x]

    image: `[B, C, H, W]`, any range. vertical, horizontal: `[B, T, h, w]`, h = H / scale, w = W / scale.
    taps: where the T x T taps lie; None is dense, `dy = i - T//2`, `dx = j - T//2`, T odd.
    border: taps outside the picture count as nothing (`zero`), or read the nearest pixel (`replicate`).
    normalise: divide by the sum of the weights that were used, where its absolute value exceeds 1e-6.
    return_weights: also return that sum, `[B, 1, H, W]` (float32; float64 for float64).
    scale: 1, 2 or 4; the kernel maps are read as if upsampled bilinearly (half-pixel centres, clamped at the edges).
    backend: `auto` takes the first that runs on these tensors of `halide` (CPU), `triton` (GPU) and `torch` (chunks of
    plain torch, any device and type); a named one runs or raises. `reference` is the definition, slow and large.

    Returns `[B, C, H, W]` in the type and memory format of `image`. Gradients go to all three tensors; gradients of
    gradients on the `reference` only. float16 and bfloat16 are summed in float32; the kernels may be of another type
    than the picture; float64 is for all three or none. Under autocast everything but the reference runs in float32.

    Raises `SettingError` for shapes, types and options that do not fit, `DeviceError` where a forced backend cannot
    run.
    Source: the report's section 1 (operator, gradients) and 7 (composite dilation); normalisation: Niklaus et al.,
    "Revisiting Adaptive Convolutions for Video Frame Interpolation", WACV 2021.
    """
    if taps is None:
        if vertical.dim() == 4 and vertical.shape[1] % 2 == 0:
            raise SettingError(f"vertical has {vertical.shape[1]} taps; a dense kernel takes an odd number")
        taps = TapPattern.dense(vertical.shape[1])
    _check(image, vertical, horizontal, taps, border, scale)
    kind = image.dtype
    if normalise:  # divided before it is rounded
        image = image.to(torch.promote_types(kind, torch.float32))
    out, weight_sum = op.run(
        image,
        vertical,
        horizontal,
        op.Sampling(taps, border == "replicate", scale),
        needs_weights=normalise or return_weights,
        backend=backend,
    )
    if weight_sum is None or not (normalise or return_weights):
        return out
    if normalise:
        out = (out / torch.where(weight_sum.abs() > 1e-6, weight_sum, 1.0)).to(kind)
    return (out, weight_sum) if return_weights else out


def _check(image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, border: str, scale: int) -> None:
    if image.dim() != 4:
        raise SettingError(f"image has {image.dim()} dimensions; it takes 4, [B, C, H, W]")
    if border not in ("zero", "replicate"):
        raise SettingError(f"there is no border '{border}'; there are: zero, replicate")
    if scale not in (1, 2, 4):
        raise SettingError(f"scale is {scale}; it takes 1, 2 or 4")
    batch, _, height, width = image.shape
    if height % scale or width % scale:
        raise SettingError(f"scale {scale} does not divide the picture, {height} rows by {width} columns")
    expected = (batch, taps.size, height // scale, width // scale)
    for name, kernel in (("vertical", vertical), ("horizontal", horizontal)):
        if tuple(kernel.shape) != expected:
            raise SettingError(
                f"{name} has shape {list(kernel.shape)}; with this picture, scale {scale} and {taps.size} taps a side "
                f"it takes {list(expected)}"
            )
        if kernel.device != image.device:
            raise SettingError(f"{name} is on {kernel.device} and image on {image.device}; they must be on one device")
    types = {image.dtype, vertical.dtype, horizontal.dtype}
    if vertical.dtype != horizontal.dtype or (torch.float64 in types and len(types) > 1):
        raise SettingError(
            f"image, vertical and horizontal are {image.dtype}, {vertical.dtype}, {horizontal.dtype}; both kernels "
            "must be of one type, and float64 goes with float64 only"
        )
    if not (image.is_floating_point() and vertical.is_floating_point()):
        raise SettingError(f"image is {image.dtype} and the kernels {vertical.dtype}; they must be floating point")
