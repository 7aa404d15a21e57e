"""The bilateral cost volume on the CPU: first the volume for t = 1/2, then its bilinear interpolation for other times.

The pipelines read channels-last features with a multiple of 16 channels; other features are first converted and padded
with zero channels, which change no product. A volume `[B, K, H, W]` is `f(x, y, kx, ky, n)` in the pipelines: a view in
which K is split into two dimensions.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.halide.compiler import from_float32, load_pipeline, tensor_input, to_float32
from midframe.ops.halide.layouts import (
    LANES,
    ROWS,
    allow_any_strides,
    maps_input,
    new_like,
    require_whole_vectors,
    schedule_strips,
    variables,
)


def forward(features: Tensor, time: Tensor, context: Tensor | None, radius: int) -> Tensor:
    """Return the volume of features `[2B, C, H, W]`, channels-last; with context the concatenation."""
    frames = features[0::2], features[1::2]
    first, second = (_whole_channels_last(frame) for frame in frames)
    batch, channels, height, width = frames[0].shape
    displacements = (2 * radius + 1) ** 2
    context_channels = 0 if context is None else 2 * channels + context.shape[1]
    shape = batch, displacements + context_channels, height, width
    out = torch.empty(shape, dtype=first.dtype, memory_format=torch.channels_last)
    offset_scale = 1 - 2 * time
    parameters = offset_scale, int(not offset_scale.any()), radius, 1 / channels
    _pipeline("forward", first.dtype)(first, second, *parameters, _split_displacements(out, radius))
    if context is not None:
        outs = torch.split(out[:, displacements:], [channels, channels, context.shape[1]], 1)
        if channels % LANES:
            for out_part, source in zip(outs, (*frames, context), strict=True):
                out_part.copy_(source)
        else:
            _pipeline("concatenate", first.dtype)(first, second, context.to(first.dtype), *outs)
    return out.to(features.dtype)


def gradient_features(grad_out: Tensor, features: Tensor, time: Tensor, radius: int, with_context: bool) -> Tensor:
    """Return the gradient of features `[2B, C, H, W]`, in their memory format.

    with_context: grad_out is that of the concatenation, so it also has gradients of the features, which are added.
    """
    first, second = (_whole_channels_last(frame) for frame in (features[0::2], features[1::2]))
    channels, displacements = features.shape[1], (2 * radius + 1) ** 2
    grad_out = grad_out.to(first.dtype).contiguous(memory_format=torch.channels_last)
    grad = new_like(features)
    grads = [grad[0::2], grad[1::2]]
    written_in_place = features.dtype == first.dtype and channels % LANES == 0 and grad.stride(1) == 1
    outs = grads
    if not written_in_place:
        outs = [torch.empty_like(frame, memory_format=torch.channels_last) for frame in (first, second)]
    added = outs  # placeholders that the pipeline does not read without context
    if with_context:
        added = [_whole_vectors(grad_out[:, displacements + k * channels :][:, :channels]) for k in range(2)]
    offset_scale = 1 - 2 * time
    parameters = offset_scale, int(not offset_scale.any()), radius, 1 / channels, int(with_context)
    volume = _split_displacements(grad_out, radius)
    _pipeline("gradient", first.dtype)(volume, first, second, *added, *parameters, *outs)
    if not written_in_place:
        for target, out in zip(grads, outs, strict=True):
            target.copy_(out[:, :channels])
    return grad


def _whole_channels_last(maps: Tensor) -> Tensor:
    """Return maps as the pipelines read them: channels-last, with whole vectors of channels, float32 or bfloat16."""
    maps = _whole_vectors(maps.float() if maps.dtype is torch.float16 else maps)
    return maps if maps.stride(1) == 1 else maps.contiguous(memory_format=torch.channels_last)


def _whole_vectors(maps: Tensor) -> Tensor:
    """Pad maps with zero channels to a multiple of 16; the result is channels-last if anything was added."""
    missing = -maps.shape[1] % LANES
    if not missing:
        return maps
    return F.pad(maps, (0, 0, 0, 0, 0, missing)).contiguous(memory_format=torch.channels_last)


def _split_displacements(volume: Tensor, radius: int) -> Tensor:
    """Return the first K channels of `[B, K or more, H, W]` as `[B, ky, kx, H, W]`."""
    side = 2 * radius + 1
    return torch.unflatten(volume[:, : side * side], 1, (side, side))


def _pipeline(kind: str, dtype: torch.dtype) -> Any:
    """Return the compiled pipeline for features of this type."""
    define = {"forward": _define_forward, "gradient": _define_gradient, "concatenate": _define_concatenate}[kind]
    name = f"cost_volume_{kind}_{str(dtype).removeprefix('torch.')}"
    return load_pipeline(name, __file__, functools.partial(define, dtype))


def _define_forward(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Define the pipeline of `forward`. Return its inputs and its outputs."""
    import halide as hl

    first, second, offset_scale, all_midpoint, radius, inverse_channels = _inputs(dtype)
    x, y, c, n = variables()
    kx, ky = hl.Var("kx"), hl.Var("ky")
    width, height, channels, batch = (first.dim(k).extent() for k in range(4))
    side = 2 * radius + 1
    # Stored with x innermost: a vector holds 16 pixels of one channel, so the sum over channels adds whole vectors and
    # never the lanes of one.
    first_rows, second_rows = _zero_padded(first, dtype), _zero_padded(second, dtype)
    total, halfway, out = (hl.Func(name) for name in ("total", "halfway", "out"))
    channel = hl.RDom([(0, channels)]).x
    u, v = kx - radius, ky - radius
    total[x, y, kx, ky, n] = 0.0
    total[x, y, kx, ky, n] += first_rows[x - u, channel, y - v, n] * second_rows[x + u, channel, y + v, n]
    halfway[x, y, kx, ky, n] = total[x, y, kx, ky, n] * inverse_channels
    region = [(0, width), (0, height), (0, side), (0, side), (0, batch)]
    padded = hl.BoundaryConditions.constant_exterior(halfway, 0.0, region)
    interpolated = _sample_halfway(padded, (x, y, kx, ky, n), offset_scale[n], radius, 1)
    out[x, y, kx, ky, n] = from_float32(hl.select(all_midpoint == 1, halfway[x, y, kx, ky, n], interpolated), dtype)

    block, pixel, lane = hl.Var("block"), hl.Var("pixel"), hl.Var("lane")
    allow_any_strides(out)
    out.split(x, block, lane, LANES, hl.TailStrategy.GuardWithIf).reorder(lane, kx, ky, block, y, n).vectorize(lane)
    _split_into_tasks(out)
    out.specialize(all_midpoint == 1)
    halfway.compute_root().split(x, block, pixel, LANES, hl.TailStrategy.RoundUp)
    halfway.reorder(pixel, kx, ky, block, y, n).vectorize(pixel, LANES)
    task = _split_into_tasks(halfway)
    total.compute_at(halfway, kx).vectorize(x, LANES).unroll(x)
    total.update().reorder(x, channel).vectorize(x, LANES).unroll(x)
    for rows in (first_rows, second_rows):
        rows.compute_at(halfway, task).reorder(c, x, y, n).vectorize(c, LANES)
    return [first, second, offset_scale, all_midpoint, radius, inverse_channels], [out]


def _define_gradient(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Define the pipeline of `gradient_features`. Return its inputs and its outputs."""
    import halide as hl

    first, second, offset_scale, all_midpoint, radius, inverse_channels = _inputs(dtype)
    grad = tensor_input("grad", dtype, 5)
    added = maps_input("added_first", "channels_last", dtype), maps_input("added_second", "channels_last", dtype)
    with_context = hl.Param(hl.Int(32), "with_context")
    x, y, _, n = variables()
    kx, ky = hl.Var("kx"), hl.Var("ky")
    width, height, batch = first.dim(0).extent(), first.dim(1).extent(), first.dim(3).extent()
    side = 2 * radius + 1
    region = [(0, width), (0, height), (0, side), (0, side), (0, batch)]
    padded = hl.BoundaryConditions.constant_exterior(grad, hl.cast(grad.type(), 0), region)
    values, halfway = hl.Func("values"), hl.Func("halfway")
    values[x, y, kx, ky, n] = to_float32(padded[x, y, kx, ky, n], dtype)
    transposed = _sample_halfway(values, (x, y, kx, ky, n), offset_scale[n], radius, -1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    sampled = hl.select(all_midpoint == 1, values[x, y, kx, ky, n], transposed)
    halfway[x, y, kx, ky, n] = hl.select(inside, inverse_channels * sampled, 0.0)
    # Stored with x innermost: the 16 pixels of a vector have the same displacement, hence the same offset.
    for planes in (values, halfway):
        planes.compute_root().reorder(x, kx, ky, y, n).vectorize(x, LANES, hl.TailStrategy.RoundUp)
        _split_into_tasks(planes)
    halfway.specialize(all_midpoint == 1)

    gradient = functools.partial(
        _define_gradient_of_frame, halfway, radius=radius, with_context=with_context, dtype=dtype
    )
    outs = [gradient("grad_first", second, added[0], sign=1), gradient("grad_second", first, added[1], sign=-1)]
    parameters = offset_scale, all_midpoint, radius, inverse_channels, with_context
    return [grad, first, second, *added, *parameters], outs


def _define_gradient_of_frame(  # noqa: PLR0913 - the terms of one formula
    halfway: Any, name: str, other: Any, added: Any, *, sign: int, radius: Any, with_context: Any, dtype: torch.dtype
) -> Any:
    """Return the gradient of one frame's features: the gradient of each product times the other frame's features.

    halfway: the gradient of the products, (x, y, kx, ky, n). added: features' gradients from the
    concatenation, added if `with_context` is 1.
    sign: 1 for the first frame, -1 for the second.
    """
    import halide as hl

    x, y, c, n = variables()
    width = other.dim(0).extent()
    other_rows, total, out = _zero_padded(other, dtype), hl.Func(f"{name}_total"), hl.Func(name)
    r = hl.RDom([(0, 2 * radius + 1), (0, 2 * radius + 1)])
    u, v = sign * (r[0] - radius), sign * (r[1] - radius)
    start = to_float32(added[hl.min(x, width - 1), y, c, n], dtype)
    total[c, x, y, n] = hl.select(with_context == 1, start, 0.0)
    total[c, x, y, n] += halfway[x + u, y + v, r[0], r[1], n] * other_rows[x + 2 * u, c, y + 2 * v, n]
    out[x, y, c, n] = from_float32(total[c, x, y, n], dtype)

    require_whole_vectors(out)
    block, lane, group, pixel = hl.Var("block"), hl.Var("lane"), hl.Var("group"), hl.Var("pixel")
    out.split(c, block, lane, LANES).split(x, group, pixel, 4, hl.TailStrategy.GuardWithIf)
    out.reorder(lane, pixel, block, group, y, n).vectorize(lane)
    task = _split_into_tasks(out)
    total.compute_at(out, block).vectorize(c, LANES).unroll(x)
    total.update().reorder(c, x, r[0], r[1]).vectorize(c, LANES).unroll(x)
    other_rows.compute_at(out, task).reorder_storage(c, x, y, n).reorder(c, x, y, n).vectorize(c, LANES)
    return out


def _define_concatenate(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Define the pipeline that copies features and context to their channels. Return its inputs and its outputs."""
    import halide as hl

    first, second, context = (
        maps_input("first", "channels_last", dtype),
        maps_input("second", "channels_last", dtype),
        tensor_input("context", dtype, 4),
    )
    x, y, c, n = variables()
    outs = []
    for given in (first, second, context):
        out = hl.Func(f"{given.name()}_out")
        out[x, y, c, n] = given[x, y, c, n]
        if given is context:
            allow_any_strides(out)
            out.reorder(c, x, y, n)
            _split_into_tasks(out)
        else:
            schedule_strips(out, "channels_last")
        outs.append(out)
    return [first, second, context], outs


def _inputs(dtype: torch.dtype) -> tuple[Any, ...]:
    """Return the inputs that both pipelines share.

    They are the features of both frames; `offset_scale` = 1 − 2t of each sample; `all_midpoint`, which is 1 if t = 1/2
    for all samples, else 0; the radius; and 1 / C.
    """
    import halide as hl

    return (
        maps_input("first", "channels_last", dtype),
        maps_input("second", "channels_last", dtype),
        hl.ImageParam(hl.Float(32), 1, "offset_scale"),
        hl.Param(hl.Int(32), "all_midpoint"),
        hl.Param(hl.Int(32), "radius"),
        hl.Param(hl.Float(32), "inverse_channels"),
    )


def _zero_padded(features: Any, dtype: torch.dtype) -> Any:
    """Return features as float32 (x, c, y, n), zero outside of the image."""
    import halide as hl

    x, y, c, n = variables()
    unlimited = (hl.Expr(), hl.Expr())
    bounds = [(features.dim(k).min(), features.dim(k).extent()) for k in range(2)]
    inside = hl.BoundaryConditions.constant_exterior(
        features, hl.cast(features.type(), 0), [*bounds, unlimited, unlimited]
    )
    padded = hl.Func(f"{features.name()}_padded")
    padded[x, c, y, n] = to_float32(inside[x, y, c, n], dtype)
    return padded


def _sample_halfway(volume: Any, position: tuple[Any, ...], offset_scale: Any, radius: Any, sign: int) -> Any:
    """Return the volume for t = 1/2, `volume(x, y, kx, ky, n)`, sampled bilinearly at the midpoint (x, y) + (1 − 2t) k.

    With sign −1 it is sampled at (x, y) − (1 − 2t) k: the transpose of the sampling with sign 1.
    """
    import halide as hl

    x, y, kx, ky, n = position
    dx, dy = offset_scale * (kx - radius), offset_scale * (ky - radius)
    left, top = (hl.clamp(hl.cast(hl.Int(32), hl.floor(offset)), -radius, radius) for offset in (dx, dy))
    a, b = dx - left, dy - top
    corners = [volume[x + sign * (left + q), y + sign * (top + r), kx, ky, n] for r in (0, 1) for q in (0, 1)]
    return (1 - b) * ((1 - a) * corners[0] + a * corners[1]) + b * ((1 - a) * corners[2] + a * corners[3])


def _split_into_tasks(function: Any) -> Any:
    """Let each parallel task compute some rows of one sample of a function. Return the loop variable of a task."""
    import halide as hl

    _, y, _, n = variables()
    row, strip, task = hl.Var("row"), hl.Var("strip"), hl.Var("task")
    function.split(y, strip, row, ROWS, hl.TailStrategy.GuardWithIf).fuse(strip, n, task).parallel(task)
    return task
