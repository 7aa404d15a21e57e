"""Adaptive separable convolution, the operator that forms every interpolated frame."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.ops.separable import op
from midframe.ops.taps import TapPattern

Border = Literal["zero", "replicate"]
"""What taps outside the image read: zero, or the nearest pixel."""
Backend = Literal["auto", "reference", "halide", "triton", "torch"]
"""Which implementation runs."""


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


def separable_convolution(  # noqa: PLR0913 - options of one operator, all given by name and documented below
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
    """Convolve each pixel of an image with its own kernel, the outer product of a vertical and a horizontal kernel.

        out[b,c,y,x] = sum over i,j of image[b, c, y+dy(i,j), x+dx(i,j)] * vertical[b,i,y,x] * horizontal[b,j,y,x]

    image: `[B, C, H, W]`, any range of values.
    vertical, horizontal: the kernel maps, `[B, T, h, w]` with h = H / scale and w = W / scale.
    taps: the offsets (dy, dx) of the T x T taps. None is dense: `dy = i - T//2`, `dx = j - T//2`, T odd.
    border: taps outside the image count as zero (`zero`) or read the nearest pixel (`replicate`).
    normalise: divide the result by the weight sum, if the absolute value of that exceeds 1e-6. A weight is the product
    of two kernel values; with the border `zero`, weights of taps outside the image do not count.
    return_weights: also return the weight sum, `[B, 1, H, W]`, float32 (float64 for float64 inputs).
    scale: 1, 2 or 4; the kernel maps are read as if upsampled bilinearly (half-pixel centres, clamped at the edges).
    backend: `auto` takes the first of `halide` (CPU), `triton` (GPU) and `torch` (any device and type, bounded memory)
    that can run on these tensors. A named backend runs or raises. `reference` is the definition, slow and in need of
    much memory.

    Returns `[B, C, H, W]` in the type and memory format of `image`. All three tensors have gradients; gradients of
    gradients exist for `reference` only. float16 and bfloat16 are summed in float32. The kernels may have another type
    than the image, but float64 goes with float64 only. Under autocast everything but `reference` runs in float32.

    Raises `SettingError` for shapes, types and options that do not fit, `DeviceError` if a named backend cannot run.
    Source: the report's section 1 (operator, gradients) and 7 (composite dilation); normalisation: Niklaus et al.,
    "Revisiting Adaptive Convolutions for Video Frame Interpolation", WACV 2021.
    """
    if taps is None:
        if vertical.dim() == 4 and vertical.shape[1] % 2 == 0:
            raise SettingError(f"vertical has {vertical.shape[1]} taps; a dense kernel takes an odd number")
        taps = TapPattern.dense(vertical.shape[1])
    _check(image, vertical, horizontal, taps, border, scale)
    dtype = image.dtype
    if normalise:  # so that the result is rounded once, after the division
        image = image.to(torch.promote_types(dtype, torch.float32))
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
        out = (out / torch.where(weight_sum.abs() > 1e-6, weight_sum, 1.0)).to(dtype)
    return (out, weight_sum) if return_weights else out


def _check(image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, border: str, scale: int) -> None:
    """Raise `SettingError` if the arguments of `separable_convolution` do not fit together."""
    if border not in ("zero", "replicate"):
        raise SettingError(f"there is no border '{border}'; there are: zero, replicate")
    _check_shapes(image, vertical, horizontal, taps, scale)
    types = {image.dtype, vertical.dtype, horizontal.dtype}
    if vertical.dtype != horizontal.dtype or (torch.float64 in types and len(types) > 1):
        raise SettingError(
            f"image, vertical and horizontal are {image.dtype}, {vertical.dtype}, {horizontal.dtype}; both kernels "
            "must be of one type, and float64 goes with float64 only"
        )
    if not (image.is_floating_point() and vertical.is_floating_point()):
        raise SettingError(f"image is {image.dtype} and the kernels {vertical.dtype}; they must be floating point")


def _check_shapes(image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, scale: int) -> None:
    if image.dim() != 4:
        raise SettingError(f"image has {image.dim()} dimensions; it takes 4, [B, C, H, W]")
    if scale not in (1, 2, 4):
        raise SettingError(f"scale is {scale}; it takes 1, 2 or 4")
    batch, _, height, width = image.shape
    if height % scale or width % scale:
        raise SettingError(f"scale {scale} does not divide the image, {height} rows by {width} columns")
    expected = (batch, taps.size, height // scale, width // scale)
    for name, kernel in (("vertical", vertical), ("horizontal", horizontal)):
        if tuple(kernel.shape) != expected:
            raise SettingError(
                f"{name} has shape {list(kernel.shape)}; with this image, scale {scale} and {taps.size} taps a side "
                f"it takes {list(expected)}"
            )
        if kernel.device != image.device:
            raise SettingError(f"{name} is on {kernel.device} and image on {image.device}; they must be on one device")
