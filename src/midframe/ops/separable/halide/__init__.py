"""Adaptive separable convolution on the CPU: Halide kernels for dense patterns, plain ones for composite dilation.

The picture is small beside its kernels, so it travels as float32; kernel maps are read in their own type, float32,
bfloat16 or float16, with any strides. Channels go in groups of three, else singly; samples one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.halide.compiler import Run, compiled, new_maps
from midframe.ops.separable.halide import composite, dense, upsampled
from midframe.ops.separable.halide.dense import MIN_WIDTH
from midframe.ops.separable.pytorch import fold_border
from midframe.ops.taps import TapPattern


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = image.shape
    picture = image.float()
    threads = torch.get_num_threads()
    if not taps.is_dense:
        picture = _with_ones(picture)
        result = torch.empty_like(picture, memory_format=torch.contiguous_format)
        run = _composite("forward", vertical.dtype)
        for b in range(batch):
            run(picture[b], vertical[b], horizontal[b], _tap_list(taps), taps.reach, int(replicate), threads, result[b])
        return result[:, :-1].to(image.dtype), result[:, -1:].clone()

    out = torch.empty((batch, channels, height, max(width, MIN_WIDTH)), dtype=torch.float32)
    weight_sum = out.new_empty((batch, 1, height, out.shape[-1]))
    vertical, horizontal = _widened(vertical), _widened(horizontal)
    for b in range(batch):
        for group in _groups(channels):
            run = _dense("forward", vertical.dtype, group.stop - group.start)
            sums = weight_sum[b].expand_as(out[b, group])
            run(picture[b, group], vertical[b], horizontal[b], int(replicate), threads, out[b, group], sums)
    return out[..., :width].to(image.dtype), weight_sum[..., :width]


def gradient_kernels(
    grad_out: Tensor,
    grad_weight_sum: Tensor,
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    taps: TapPattern,
    replicate: bool,
) -> tuple[Tensor, Tensor]:
    picture, grad, grad_sum = image.float(), grad_out.float(), grad_weight_sum.float()
    threads = torch.get_num_threads()
    if not taps.is_dense:
        picture, grad = _with_ones(picture), torch.cat([grad, grad_sum], 1)
        run = _composite("gradient_kernels", vertical.dtype)
        grad_vertical, grad_horizontal = (new_maps(vertical.shape, vertical.dtype) for _ in range(2))
        for b in range(len(image)):
            run(
                picture[b], vertical[b], horizontal[b], grad[b], _tap_list(taps), taps.reach, int(replicate), threads,
                grad_vertical[b], grad_horizontal[b],
            )  # fmt: skip
        return grad_vertical, grad_horizontal

    grad, grad_sum, vertical, horizontal = map(_widened, (grad, grad_sum, vertical, horizontal))
    grad_vertical, grad_horizontal = (new_maps(vertical.shape, vertical.dtype) for _ in range(2))
    for b in range(len(image)):
        for group in _groups(image.shape[1]):
            first = group.start == 0
            run = _dense("gradient_kernels", vertical.dtype, group.stop - group.start)
            outputs = (grad_vertical[b], grad_horizontal[b])
            if not first:
                outputs = (torch.empty_like(outputs[0]), torch.empty_like(outputs[1]))
            sum_part = grad_sum[b, 0] if first else torch.zeros_like(grad_sum[b, 0])
            run(
                picture[b, group],
                vertical[b],
                horizontal[b],
                grad[b, group],
                sum_part,
                int(replicate),
                threads,
                *outputs,
            )
            if not first:
                grad_vertical[b] += outputs[0]
                grad_horizontal[b] += outputs[1]
    width = image.shape[-1]
    return grad_vertical[..., :width], grad_horizontal[..., :width]


def gradient_image(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    batch, channels, height, width = grad_out.shape
    grad = grad_out.float()
    threads = torch.get_num_threads()
    padded = torch.empty((batch, channels, height + 2 * taps.reach, width + 2 * taps.reach), dtype=torch.float32)
    for b in range(batch):
        if not taps.is_dense:
            run = _composite("gradient_image", vertical.dtype)
            run(grad[b], vertical[b], horizontal[b], _tap_list(taps), taps.reach, threads, padded[b])
            continue
        for group in _groups(channels):
            run = _dense("gradient_image", vertical.dtype, group.stop - group.start)
            run(grad[b, group], vertical[b], horizontal[b], threads, padded[b, group])
    return fold_border(padded, taps.reach, replicate).to(grad_out.dtype)


def forward_upsampled(image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool) -> Tensor:
    """Convolve with kernel maps that are smaller than the image by `scale` and are upsampled as they are read."""
    out = torch.empty(image.shape, dtype=torch.float32)
    run = _upsampled("forward", vertical, image.shape[1], scale)
    run(_unit_stride(image.float()), _unit_stride(vertical), _unit_stride(horizontal), int(replicate), out)
    return out.to(image.dtype)


def gradient_kernels_upsampled(
    grad_out: Tensor, image: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of both kernel maps of `forward_upsampled`, at the size of the maps."""
    grads = torch.empty(vertical.shape, dtype=vertical.dtype), torch.empty(horizontal.shape, dtype=vertical.dtype)
    inputs = [_unit_stride(tensor) for tensor in (image.float(), vertical, horizontal, grad_out.float())]
    _upsampled("gradient_kernels", vertical, image.shape[1], scale)(*inputs, int(replicate), *grads)
    return grads


def gradient_image_upsampled(
    grad_out: Tensor, vertical: Tensor, horizontal: Tensor, scale: int, replicate: bool
) -> Tensor:
    """Return the gradient of the image of `forward_upsampled`."""
    batch, channels, height, width = grad_out.shape
    border = vertical.shape[1] - 1
    padded = torch.empty((batch, channels, height + border, width + border), dtype=torch.float32)
    run = _upsampled("gradient_image", vertical, channels, scale)
    run(_unit_stride(vertical), _unit_stride(horizontal), _unit_stride(grad_out.float()), padded)
    return fold_border(padded, border // 2, replicate).to(grad_out.dtype)


def _unit_stride(maps: Tensor) -> Tensor:
    """Return the maps themselves if neighbouring columns are adjacent in memory, else a contiguous copy."""
    return maps if maps.stride(-1) == 1 else maps.clone(memory_format=torch.contiguous_format)


def _dense(which: str, kernels: torch.dtype, channels: int) -> Run:
    define: Callable[[torch.dtype, int], dense.Definition] = getattr(dense, which)
    name = f"separable_{which}_{_SHORT[kernels]}_{channels}"
    return compiled(name, dense.__file__, lambda: define(kernels, channels))


def _composite(which: str, kernels: torch.dtype) -> Run:
    define: Callable[[torch.dtype], dense.Definition] = getattr(composite, which)
    return compiled(f"composite_{which}_{_SHORT[kernels]}", composite.__file__, lambda: define(kernels))


def _upsampled(which: str, kernels: Tensor, channels: int, scale: int) -> Run:
    define = getattr(upsampled, which)
    taps, dtype = kernels.shape[1], kernels.dtype
    name = f"separable_upsampled_{which}_{_SHORT[dtype]}_{channels}_{taps}_{scale}"
    return compiled(name, upsampled.__file__, lambda: define(dtype, channels, taps, scale))


_SHORT = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def _groups(channels: int) -> Iterator[slice]:
    """Slices of three channels, then of one."""
    for start in range(0, channels - 2, 3):
        yield slice(start, start + 3)
    for start in range(channels - channels % 3, channels):
        yield slice(start, start + 1)


def _widened(tensor: Tensor) -> Tensor:
    """A map at least as wide as the dense pipelines need, with zeros on the right."""
    return F.pad(tensor, (0, MIN_WIDTH - tensor.shape[-1])) if tensor.shape[-1] < MIN_WIDTH else tensor


def _with_ones(picture: Tensor) -> Tensor:
    """The weight sum is the convolution of a picture of ones: one more channel."""
    return torch.cat([picture, torch.ones_like(picture[:, :1])], 1)


def _tap_list(taps: TapPattern) -> Tensor:
    """The taps `(i, j, dy, dx)`, int32 `[K, 4]`."""
    return torch.tensor(list(taps.taps()), dtype=torch.int32)
