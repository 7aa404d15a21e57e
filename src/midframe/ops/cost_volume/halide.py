"""The bilateral cost volume on the CPU: matches halfway between the frames, then moved to the time asked for.

Features are channels-last with whole vectors of 16 channels; others are brought to that (zero channels match nothing).
A volume `[B, K, H, W]` is `f(x, y, kx, ky, n)`, a view with one more dimension.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.halide.compiler import compiled, parameter, read, write
from midframe.ops.halide.layouts import LANES, ROWS, any_strides, maps, strips, variables, whole_vectors

CL = torch.channels_last


def forward(first: Tensor, second: Tensor, time: Tensor, radius: int, context: Tensor | None) -> Tensor:
    """The volume, channels-last; with context the features and the context beside it."""
    kind, (batch, channels, height, width) = first.dtype, first.shape
    a, b = _features(first), _features(second)
    slices = (2 * radius + 1) ** 2
    more = 0 if context is None else 2 * channels + context.shape[1]
    out = torch.empty((batch, slices + more, height, width), dtype=a.dtype, memory_format=CL)
    run = compiled(f"cost_volume_forward_{_suffix(a)}", __file__, lambda: _forward(a.dtype))
    away = 1 - 2 * time
    run(a, b, away, int(not away.any()), radius, 1 / channels, _by_displacement(out, radius))
    if context is not None:
        own = torch.split(out[:, slices:], [channels, channels, context.shape[1]], 1)
        if channels % LANES:
            for part, given in zip(own, (first, second, context), strict=True):
                part.copy_(given)
        else:
            copy = compiled(f"cost_volume_beside_{_suffix(a)}", __file__, lambda: _beside(a.dtype))
            copy(a, b, context.to(a.dtype), *own)
    return out.to(kind)


def gradients(
    grad_out: Tensor,
    first: Tensor,
    second: Tensor,
    time: Tensor,
    radius: int,
    joined: bool,
    grads: tuple[Tensor, Tensor],
) -> None:
    """Write the gradients of both features. joined: grad_out holds those of the features beside the volume."""
    kind, channels = first.dtype, first.shape[1]
    a, b = _features(first), _features(second)
    grad_out = grad_out.to(a.dtype).contiguous(memory_format=CL)
    slices = (2 * radius + 1) ** 2
    outs = grads
    if kind != a.dtype or channels % LANES or grads[0].stride(1) != 1:
        outs = torch.empty_like(a, memory_format=CL), torch.empty_like(b, memory_format=CL)
    beside = [grad_out[:, slices + k * channels :][:, :channels] for k in range(2)]
    own = [_whole(part) for part in beside] if joined else [*outs]
    run = compiled(f"cost_volume_gradients_{_suffix(a)}", __file__, lambda: _gradients(a.dtype))
    away = 1 - 2 * time
    numbers = int(not away.any()), radius, 1 / channels, int(joined)
    run(_by_displacement(grad_out, radius), a, b, *own, away, *numbers, *outs)
    if outs is not grads:
        for grad, out in zip(grads, outs, strict=True):
            grad.copy_(out[:, :channels])


def _features(maps: Tensor) -> Tensor:
    maps = maps.float() if maps.dtype is torch.float16 else maps
    maps = _whole(maps)
    return maps if maps.stride(1) == 1 else maps.contiguous(memory_format=CL)


def _whole(maps: Tensor) -> Tensor:
    """With zero channels added, so that vectors are whole."""
    lacking = -maps.shape[1] % LANES
    return F.pad(maps, (0, 0, 0, 0, 0, lacking)).contiguous(memory_format=CL) if lacking else maps


def _suffix(maps: Tensor) -> str:
    return str(maps.dtype).removeprefix("torch.")


def _by_displacement(volume: Tensor, radius: int) -> Tensor:
    """`[B, K or more, H, W]` as `[B, ky, kx, H, W]`."""
    side = 2 * radius + 1
    return torch.unflatten(volume[:, : side * side], 1, (side, side))


def _forward(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    import halide as hl

    first, second, away, middle, radius, share = _inputs(dtype)
    x, y, c, n = variables()
    kx, ky = hl.Var("kx"), hl.Var("ky")
    width, height, channels, batch = (first.dim(k).extent() for k in range(4))
    side = 2 * radius + 1
    # Planes of a strip, so that 16 pixels share an addition and no sum runs across a vector.
    a, b = _padded(first, dtype), _padded(second, dtype)
    total, match, out = (hl.Func(name) for name in ("total", "match", "out"))
    every = hl.RDom([(0, channels)])
    u, v = kx - radius, ky - radius
    total[x, y, kx, ky, n] = 0.0
    total[x, y, kx, ky, n] += a[x - u, every[0], y - v, n] * b[x + u, every[0], y + v, n]
    match[x, y, kx, ky, n] = total[x, y, kx, ky, n] * share
    region = [(0, width), (0, height), (0, side), (0, side), (0, batch)]
    inside = hl.BoundaryConditions.constant_exterior(match, 0.0, region)
    moved = _moved(inside, (x, y, kx, ky, n), away[n], radius, 1)
    out[x, y, kx, ky, n] = write(hl.select(middle == 1, match[x, y, kx, ky, n], moved), dtype)

    block, pixel, lane = hl.Var("block"), hl.Var("pixel"), hl.Var("lane")
    any_strides(out)
    out.split(x, block, lane, LANES, hl.TailStrategy.GuardWithIf).reorder(lane, kx, ky, block, y, n).vectorize(lane)
    _in_strips(out)
    out.specialize(middle == 1)
    match.compute_root().split(x, block, pixel, LANES, hl.TailStrategy.RoundUp)
    match.reorder(pixel, kx, ky, block, y, n).vectorize(pixel, LANES)
    task = _in_strips(match)
    total.compute_at(match, kx).vectorize(x, LANES).unroll(x)
    total.update().reorder(x, every[0]).vectorize(x, LANES).unroll(x)
    for features in (a, b):
        features.compute_at(match, task).reorder(c, x, y, n).vectorize(c, LANES)
    return [first, second, away, middle, radius, share], [out]


def _gradients(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    import halide as hl

    first, second, away, middle, radius, share = _inputs(dtype)
    grad = parameter("grad", dtype, 5)
    own = maps("own_first", "last", dtype), maps("own_second", "last", dtype)
    joined = hl.Param(hl.Int(32), "joined")
    x, y, c, n = variables()
    kx, ky = hl.Var("kx"), hl.Var("ky")
    width, height, batch = first.dim(0).extent(), first.dim(1).extent(), first.dim(3).extent()
    side = 2 * radius + 1
    region = [(0, width), (0, height), (0, side), (0, side), (0, batch)]
    given = hl.BoundaryConditions.constant_exterior(grad, hl.cast(grad.type(), 0), region)
    values, back = hl.Func("values"), hl.Func("back")
    values[x, y, kx, ky, n] = read(given[x, y, kx, ky, n], dtype)
    moved = _moved(values, (x, y, kx, ky, n), away[n], radius, -1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    back[x, y, kx, ky, n] = hl.select(inside, share * hl.select(middle == 1, values[x, y, kx, ky, n], moved), 0.0)
    # Planes, so that 16 pixels of a displacement move alike.
    for planes in (values, back):
        planes.compute_root().reorder(x, kx, ky, y, n).vectorize(x, LANES, hl.TailStrategy.RoundUp)
        _in_strips(planes)
    back.specialize(middle == 1)

    outs = []
    for features, sign, mine, name in ((second, 1, own[0], "grad_first"), (first, -1, own[1], "grad_second")):
        other, total, out = _padded(features, dtype), hl.Func(f"{name}_total"), hl.Func(name)
        r = hl.RDom([(0, side), (0, side)])
        u, v = sign * (r[0] - radius), sign * (r[1] - radius)
        start = read(mine[hl.min(x, width - 1), y, c, n], dtype)
        total[c, x, y, n] = hl.select(joined == 1, start, 0.0)
        total[c, x, y, n] += back[x + u, y + v, r[0], r[1], n] * other[x + 2 * u, c, y + 2 * v, n]
        out[x, y, c, n] = write(total[c, x, y, n], dtype)
        whole_vectors(out)
        block, lane, group, pixel = hl.Var("block"), hl.Var("lane"), hl.Var("group"), hl.Var("pixel")
        out.split(c, block, lane, LANES).split(x, group, pixel, 4, hl.TailStrategy.GuardWithIf)
        out.reorder(lane, pixel, block, group, y, n).vectorize(lane)
        task = _in_strips(out)
        total.compute_at(out, block).vectorize(c, LANES).unroll(x)
        total.update().reorder(c, x, r[0], r[1]).vectorize(c, LANES).unroll(x)
        other.compute_at(out, task).reorder_storage(c, x, y, n).reorder(c, x, y, n).vectorize(c, LANES)
        outs.append(out)
    return [grad, first, second, *own, away, middle, radius, share, joined], outs


def _beside(dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    import halide as hl

    first, second, context = maps("first", "last", dtype), maps("second", "last", dtype), parameter("context", dtype, 4)
    x, y, c, n = variables()
    outs = []
    for given, layout in ((first, "last"), (second, "last"), (context, "plane")):
        out = hl.Func(f"{given.name()}_out")
        out[x, y, c, n] = given[x, y, c, n]
        if layout == "last":
            strips(out, "last")
        else:
            any_strides(out)
            out.reorder(c, x, y, n)
            _in_strips(out)
        outs.append(out)
    return [first, second, context], outs


def _inputs(dtype: torch.dtype) -> tuple[Any, ...]:
    """Features, 1 - 2t of each sample, whether that is 0 for all, radius, and 1 / channels."""
    import halide as hl

    numbers = hl.Param(hl.Int(32), "middle"), hl.Param(hl.Int(32), "radius"), hl.Param(hl.Float(32), "share")
    return maps("first", "last", dtype), maps("second", "last", dtype), hl.ImageParam(hl.Float(32), 1, "away"), *numbers


def _padded(features: Any, dtype: torch.dtype) -> Any:
    """Features as float32 (x, c, y, n), zero outside of the picture."""
    import halide as hl

    x, y, c, n = variables()
    whole = [(hl.Expr(), hl.Expr())] * 2
    edge = [(features.dim(k).min(), features.dim(k).extent()) for k in range(2)]
    inside = hl.BoundaryConditions.constant_exterior(features, hl.cast(features.type(), 0), [*edge, *whole])
    padded = hl.Func(f"{features.name()}_padded")
    padded[x, c, y, n] = read(inside[x, y, c, n], dtype)
    return padded


def _moved(volume: Any, place: tuple[Any, ...], away: Any, radius: Any, sign: int) -> Any:
    """`volume(x, y, kx, ky, n)` read bilinearly at (x, y) + away * k; with sign -1 the transpose of that."""
    import halide as hl

    x, y, kx, ky, n = place
    dx, dy = away * (kx - radius), away * (ky - radius)
    left, top = hl.cast(hl.Int(32), hl.floor(dx)), hl.cast(hl.Int(32), hl.floor(dy))
    left, top = (hl.clamp(far, -radius, radius) for far in (left, top))
    a, b = dx - left, dy - top
    at = [volume[x + sign * (left + q), y + sign * (top + r), kx, ky, n] for r in (0, 1) for q in (0, 1)]
    return (1 - b) * ((1 - a) * at[0] + a * at[1]) + b * ((1 - a) * at[2] + a * at[3])


def _in_strips(function: Any) -> Any:
    """Tasks of some rows of a sample, whatever the loops within. Returns the variable of a task."""
    import halide as hl

    _, y, _, n = variables()
    row, strip, task = hl.Var("row"), hl.Var("strip"), hl.Var("task")
    function.split(y, strip, row, ROWS, hl.TailStrategy.GuardWithIf).fuse(strip, n, task).parallel(task)
    return task
