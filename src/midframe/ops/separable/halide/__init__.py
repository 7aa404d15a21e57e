"""Compute adaptive separable convolution and its gradients on the CPU, with pipelines compiled by Halide.

`dense.py` defines the pipelines of dense patterns, `composite.py` those of composite dilation and `upsampled.py` those
that upsample small kernel maps as they read them. The image is small compared with its kernel maps, so it is converted
to float32. The kernel maps are read in their own type (float32, bfloat16 or float16) and with any strides. A dense
pipeline computes three channels or one, so channels are processed in groups; the samples of a batch follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.halide.compiler import Run, empty_in_huge_pages, load_pipeline
from midframe.ops.separable.halide import composite, dense, upsampled
from midframe.ops.separable.halide.dense import MIN_WIDTH
from midframe.ops.separable.pytorch import fold_border
from midframe.ops.taps import TapPattern


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    """Return the convolved image and the sum of the weights used."""
    if not taps.is_dense:
        return _forward_composite(image, vertical, horizontal, taps, replicate)
    batch, channels, height, width = image.shape
    image32 = image.float()
    threads = torch.get_num_threads()
    out = torch.empty((batch, channels, height, max(width, MIN_WIDTH)), dtype=torch.float32)
    weight_sum = out.new_empty((batch, 1, height, out.shape[-1]))
    vertical, horizontal = _pad_to_min_width(vertical), _pad_to_min_width(horizontal)
    for b in range(batch):
        for group in _channel_groups(channels):
            run = _dense("forward", vertical.dtype, group.stop - group.start)
            sums = weight_sum[b].expand_as(out[b, group])
            run(image32[b, group], vertical[b], horizontal[b], int(replicate), threads, out[b, group], sums)
    return out[..., :width].to(image.dtype), weight_sum[..., :width]


def _forward_composite(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    image32 = _append_ones(image.float())
    out = torch.empty_like(image32, memory_format=torch.contiguous_format)
    run = _composite("forward", vertical.dtype)
    settings = _tap_list(taps), taps.reach, int(replicate), torch.get_num_threads()
    for b in range(len(image)):
        run(image32[b], vertical[b], horizontal[b], *settings, out[b])
    return out[:, :-1].to(image.dtype), out[:, -1:].clone()


def gradient_kernels(
    grad_out: Tensor,
    grad_weight_sum: Tensor,
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    taps: TapPattern,
    replicate: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of both kernel maps."""
    image32, grad, grad_sum = image.float(), grad_out.float(), grad_weight_sum.float()
    if not taps.is_dense:
        grad = torch.cat([grad, grad_sum], 1)
        return _gradient_kernels_composite(grad, _append_ones(image32), vertical, horizontal, taps, replicate)
    grad, grad_sum, vertical, horizontal = map(_pad_to_min_width, (grad, grad_sum, vertical, horizontal))
    grad_vertical, grad_horizontal = (empty_in_huge_pages(vertical.shape, vertical.dtype) for _ in range(2))
    settings = int(replicate), torch.get_num_threads()
    for b in range(len(image)):
        for group in _channel_groups(image.shape[1]):
            run = _dense("gradient_kernels", vertical.dtype, group.stop - group.start)
            inputs = image32[b, group], vertical[b], horizontal[b], grad[b, group]
            if group.start == 0:
                run(*inputs, grad_sum[b, 0], *settings, grad_vertical[b], grad_horizontal[b])
                continue
            more_vertical, more_horizontal = torch.empty_like(grad_vertical[b]), torch.empty_like(grad_horizontal[b])
            run(*inputs, torch.zeros_like(grad_sum[b, 0]), *settings, more_vertical, more_horizontal)
            grad_vertical[b] += more_vertical
            grad_horizontal[b] += more_horizontal
    width = image.shape[-1]
    return grad_vertical[..., :width], grad_horizontal[..., :width]


def _gradient_kernels_composite(
    grad: Tensor, image32: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    run = _composite("gradient_kernels", vertical.dtype)
    grad_vertical, grad_horizontal = (empty_in_huge_pages(vertical.shape, vertical.dtype) for _ in range(2))
    settings = _tap_list(taps), taps.reach, int(replicate), torch.get_num_threads()
    for b in range(len(image32)):
        run(image32[b], vertical[b], horizontal[b], grad[b], *settings, grad_vertical[b], grad_horizontal[b])
    return grad_vertical, grad_horizontal


def gradient_image(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    """Return the gradient of the image."""
    batch, channels, height, width = grad_out.shape
    grad = grad_out.float()
    threads = torch.get_num_threads()
    padded = torch.empty((batch, channels, height + 2 * taps.reach, width + 2 * taps.reach), dtype=torch.float32)
    for b in range(batch):
        if not taps.is_dense:
            run = _composite("gradient_image", vertical.dtype)
            run(grad[b], vertical[b], horizontal[b], _tap_list(taps), taps.reach, threads, padded[b])
            continue
        for group in _channel_groups(channels):
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
    """Return a pipeline of `dense.py` for kernel maps of this type: `which` is the name of the function there."""
    define: Callable[[torch.dtype, int], dense.Definition] = getattr(dense, which)
    name = f"separable_{which}_{_SHORT_NAMES[kernels]}_{channels}"
    return load_pipeline(name, dense.__file__, lambda: define(kernels, channels))


def _composite(which: str, kernels: torch.dtype) -> Run:
    """Return a pipeline of `composite.py` for kernel maps of this type."""
    define: Callable[[torch.dtype], dense.Definition] = getattr(composite, which)
    return load_pipeline(f"composite_{which}_{_SHORT_NAMES[kernels]}", composite.__file__, lambda: define(kernels))


def _upsampled(which: str, kernels: Tensor, channels: int, scale: int) -> Run:
    """Return a pipeline of `upsampled.py` for kernel maps of this type and number of taps."""
    define = getattr(upsampled, which)
    taps, dtype = kernels.shape[1], kernels.dtype
    name = f"separable_upsampled_{which}_{_SHORT_NAMES[dtype]}_{channels}_{taps}_{scale}"
    return load_pipeline(name, upsampled.__file__, lambda: define(dtype, channels, taps, scale))


_SHORT_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
"""The types of kernel maps, as part of the names of pipelines."""


def _channel_groups(channels: int) -> Iterator[slice]:
    """Yield slices that cover all channels: of three channels each, then of one."""
    for start in range(0, channels - 2, 3):
        yield slice(start, start + 3)
    for start in range(channels - channels % 3, channels):
        yield slice(start, start + 1)


def _pad_to_min_width(maps: Tensor) -> Tensor:
    """Pad maps with zeros on the right to the width that the dense pipelines need."""
    return F.pad(maps, (0, MIN_WIDTH - maps.shape[-1])) if maps.shape[-1] < MIN_WIDTH else maps


def _append_ones(image: Tensor) -> Tensor:
    """Append a channel of ones, whose convolution is the sum of the weights used."""
    return torch.cat([image, torch.ones_like(image[:, :1])], 1)


def _tap_list(taps: TapPattern) -> Tensor:
    """Return the taps `(i, j, dy, dx)` as int32 `[K, 4]`."""
    return torch.tensor(list(taps.taps()), dtype=torch.int32)
