"""Adaptive separable convolution."""

from __future__ import annotations

from torch import Tensor

from midframe.ops.separable.reference import separable_convolution_reference


def separable_convolution(image: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Convolve each pixel of a picture with its own kernel, the outer product of a vertical and a horizontal one.

    out[b,c,y,x] = sum over i,j of image[b, c, y+i-T//2, x+j-T//2] * vertical[b,i,y,x] * horizontal[b,j,y,x]

    image `[B, C, H, W]`, vertical and horizontal `[B, T, H, W]`, T odd; returns `[B, C, H, W]`. Taps outside the
    picture count as nothing. Source: the report's section 1.
    """
    return separable_convolution_reference(image, vertical, horizontal)
