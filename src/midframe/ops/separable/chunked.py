"""Adaptive separable convolution in plain torch on any device, forward and backward, in bounded memory.

The weight sum is the convolution of a picture of ones, so it is carried as one more channel. Composite patterns and
single taps are summed tap by tap.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.taps import TapPattern


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    padded, vertical, horizontal = _padded(image, taps, replicate), _working(vertical), _working(horizontal)
    total = _forward_by_tap(padded, vertical, horizontal, taps)
    return total[:, :-1].to(image.dtype), total[:, -1:].clone()


def gradient_kernels(
    grad_out: Tensor,
    grad_weight_sum: Tensor,
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    taps: TapPattern,
    replicate: bool,
) -> tuple[Tensor, Tensor]:
    padded = _padded(image, taps, replicate)
    grad = torch.cat([_working(grad_out), _working(grad_weight_sum)], 1)
    grad_vertical, grad_horizontal = _gradient_kernels_by_tap(
        grad, padded, _working(vertical), _working(horizontal), taps
    )
    return grad_vertical.to(vertical.dtype), grad_horizontal.to(horizontal.dtype)


def gradient_image(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    padded = _gradient_padded_by_tap(_working(grad_out), _working(vertical), _working(horizontal), taps)
    return fold_border(padded, taps.reach, replicate).to(grad_out.dtype)


def fold_border(padded: Tensor, reach: int, replicate: bool) -> Tensor:
    """The gradient of a picture from that of the picture with `reach` pixels of border around it."""
    height, width = padded.shape[-2] - 2 * reach, padded.shape[-1] - 2 * reach
    inside = padded[:, :, :, reach : reach + width].clone() if reach else padded
    if replicate and reach:
        inside[..., 0] += padded[..., :reach].sum(-1)
        inside[..., -1] += padded[..., reach + width :].sum(-1)
    folded = inside[:, :, reach : reach + height].clone() if reach else inside
    if replicate and reach:
        folded[:, :, 0] += inside[:, :, :reach].sum(2)
        folded[:, :, -1] += inside[:, :, reach + height :].sum(2)
    return folded


def _working(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _padded(image: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    """The picture and a channel of ones, with the border that the taps reach into."""
    ones = image.new_ones((image.shape[0], 1, *image.shape[2:]))
    with_ones = _working(torch.cat([image, ones], 1))
    return F.pad(with_ones, [taps.reach] * 4, mode="replicate" if replicate else "constant")


def _shifted(padded: Tensor, dy: int, dx: int, like: Tensor, reach: int) -> Tensor:
    height, width = like.shape[-2:]
    return padded[:, :, reach + dy : reach + dy + height, reach + dx : reach + dx + width]


def _forward_by_tap(padded: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern) -> Tensor:
    total = padded.new_zeros((*padded.shape[:2], *vertical.shape[2:]))
    for i, j, dy, dx in taps.taps():
        weight = vertical[:, i : i + 1] * horizontal[:, j : j + 1]
        total.addcmul_(_shifted(padded, dy, dx, vertical, taps.reach), weight)
    return total


def _gradient_kernels_by_tap(
    grad: Tensor, padded: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern
) -> tuple[Tensor, Tensor]:
    grad_vertical = torch.zeros_like(vertical, memory_format=torch.contiguous_format)
    grad_horizontal = torch.zeros_like(horizontal, memory_format=torch.contiguous_format)
    for i, j, dy, dx in taps.taps():
        grad_weight = (grad * _shifted(padded, dy, dx, vertical, taps.reach)).sum(1)
        grad_vertical[:, i].addcmul_(grad_weight, horizontal[:, j])
        grad_horizontal[:, j].addcmul_(grad_weight, vertical[:, i])
    return grad_vertical, grad_horizontal


def _gradient_padded_by_tap(grad: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern) -> Tensor:
    batch, channels, height, width = grad.shape
    padded = grad.new_zeros((batch, channels, height + 2 * taps.reach, width + 2 * taps.reach))
    for i, j, dy, dx in taps.taps():
        weight = vertical[:, i : i + 1] * horizontal[:, j : j + 1]
        _shifted(padded, dy, dx, vertical, taps.reach).addcmul_(grad, weight)
    return padded
