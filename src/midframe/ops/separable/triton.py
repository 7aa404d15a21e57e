# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# Both for the kernels below: a kernel takes pointers, sizes and strides by position, and Triton has its own types.
"""Adaptive separable convolution in Triton: NVIDIA and AMD GPUs, and with TRITON_INTERPRET=1 the CPU, for tests.

`forward`, `gradient_kernels` and `gradient_image` are as the package's docstring asks, for every tap pattern.

A program makes `BLOCK` neighbouring pixels of a row. For each row i of taps it reads a tile [taps j, pixels] of the
picture around them. The horizontal kernels of its pixels stay in registers as such a tile, so a kernel value is read
once a channel and only picture values are read again and again, from the cache. A tile has a power of two of taps (with
T = 51 a fifth is idle) and 16 values a thread: more, and the registers of a thread do not suffice.

- forward: a program a channel, channels of the same pixels side by side; out = sum over i, j of picture * v[i] * h[j].
- gradient_kernels: with s[j] the sum over channels of grad_out * picture, plus the weight sum's gradient,
  grad v[i] = sum over j of s * h is stored as it is found, grad h[j] += v[i] * s stays in registers: one pass for both.
- gradient_image: the taps backwards, a picture pixel gathers from those that read it, so nothing is added atomically.
  With the border `replicate` the gradient of the picture with its margin is made and the margin folded onto the edge.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from midframe.ops.taps import TapPattern

TILE = 2048
"""Taps times pixels of a tile."""
WARPS = 4


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = image.shape
    out = torch.empty_like(image)
    weight_sum = torch.empty((batch, 1, height, width), dtype=torch.float32, device=image.device)
    with torch.cuda.device_of(image):
        _forward[lambda constants: (channels * triton.cdiv(width, constants["BLOCK"]), height, batch)](
            *(image, vertical, horizontal, out, weight_sum, _table(taps, image.device), height, width),
            *(*image.stride(), *vertical.stride(), *horizontal.stride(), *out.stride()),
            **_constants(channels, taps, REPLICATE=replicate),
        )
    return out, weight_sum


def gradient_kernels(
    grad_out: Tensor,
    grad_weight_sum: Tensor,
    image: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    taps: TapPattern,
    replicate: bool,
) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = image.shape
    grad_vertical, grad_horizontal = torch.empty_like(vertical), torch.empty_like(horizontal)
    batch_stride, _, row_stride, column_stride = grad_weight_sum.stride()
    with torch.cuda.device_of(image):
        _gradient_kernels[lambda constants: (triton.cdiv(width, constants["BLOCK"]), height, batch)](
            *(grad_out, grad_weight_sum, image, vertical, horizontal, grad_vertical, grad_horizontal),
            *(_table(taps, image.device), height, width),
            *(*grad_out.stride(), batch_stride, row_stride, column_stride, *image.stride()),
            *(*vertical.stride(), *horizontal.stride(), *grad_vertical.stride(), *grad_horizontal.stride()),
            **_constants(channels, taps, REPLICATE=replicate),
        )
    return grad_vertical, grad_horizontal


def gradient_image(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    batch, channels, height, width = grad_out.shape
    margin = taps.reach if replicate else 0
    rows, columns = height + 2 * margin, width + 2 * margin
    grad = torch.empty(
        (batch, channels, rows, columns),
        dtype=torch.float32 if replicate else grad_out.dtype,
        device=grad_out.device,
    )
    with torch.cuda.device_of(grad_out):
        _gradient_image[lambda constants: (channels * triton.cdiv(columns, constants["BLOCK"]), rows, batch)](
            *(grad_out, vertical, horizontal, grad, _table(taps, grad_out.device), height, width, margin),
            *(*grad_out.stride(), *vertical.stride(), *horizontal.stride(), *grad.stride()),
            **_constants(channels, taps),
        )
    return _folded(grad, margin).to(grad_out.dtype) if replicate else grad


def _constants(channels: int, taps: TapPattern, **flags: bool) -> dict[str, int | bool]:
    tall = triton.next_power_of_2(taps.size)
    sizes = {"CHANNELS": channels, "SIZE": taps.size, "TAPS": tall, "BLOCK": min(128, TILE // tall)}
    return {**sizes, "TABLE": not taps.is_dense, "num_warps": WARPS, **flags}


@cache
def _table(taps: TapPattern, device: torch.device) -> Tensor:
    """For each tap (i, j) its dy, dx and whether it is there, `[T, T, 3]`; dense patterns need none."""
    table = torch.zeros((taps.size, taps.size, 3) if not taps.is_dense else (1,), dtype=torch.int32)
    if not taps.is_dense:
        for i, j, dy, dx in taps.taps():
            table[i, j] = torch.tensor((dy, dx, 1))
    return table.to(device)


def _folded(padded: Tensor, margin: int) -> Tensor:
    """Add the gradients of the margin to those of the pixels that it repeats."""
    for dim in (2, 3):
        length = padded.shape[dim] - 2 * margin
        inner = padded.narrow(dim, margin, length).clone()
        inner.narrow(dim, 0, 1).add_(padded.narrow(dim, 0, margin).sum(dim, keepdim=True))
        inner.narrow(dim, length - 1, 1).add_(padded.narrow(dim, margin + length, margin).sum(dim, keepdim=True))
        padded = inner
    return padded


# In the kernels a name like `image_y` is a stride of `image`; `_b`, `_c`, `_t` are its batch, channel and tap.


@triton.jit
def _place(
    i, j, y, x, height, width, table,
    SIZE: tl.constexpr, SIGN: tl.constexpr, REPLICATE: tl.constexpr, TABLE: tl.constexpr,
):  # fmt: skip
    """Where the taps (i, j) of the pixels (y, x) lie: row, column, and whether they count, to `[TAPS, BLOCK]`."""
    if TABLE:
        at = table + (i * SIZE + j) * 3
        dy = tl.load(at, mask=j < SIZE, other=0)[:, None]
        dx = tl.load(at + 1, mask=j < SIZE, other=0)[:, None]
        counts = tl.load(at + 2, mask=j < SIZE, other=0)[:, None] != 0
    else:
        dy = i - SIZE // 2
        dx = (j - SIZE // 2)[:, None]
        counts = (j < SIZE)[:, None]
    row = y + SIGN * dy
    column = x[None, :] + SIGN * dx
    if REPLICATE:
        row = tl.minimum(tl.maximum(row, 0), height - 1)
        column = tl.minimum(tl.maximum(column, 0), width - 1)
    else:
        counts = counts & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return row, column, counts


@triton.jit
def _forward(
    image, vertical, horizontal, out, weight_sum, table, height, width,
    image_b, image_c, image_y, image_x,
    vertical_b, vertical_t, vertical_y, vertical_x,
    horizontal_b, horizontal_t, horizontal_y, horizontal_x,
    out_b, out_c, out_y, out_x,
    REPLICATE: tl.constexpr, TABLE: tl.constexpr,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) % CHANNELS
    x = tl.program_id(0) // CHANNELS * BLOCK + tl.arange(0, BLOCK)
    y = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    there = x < width
    j = tl.arange(0, TAPS)
    kept = (j < SIZE)[:, None] & there[None, :]

    image += b * image_b + channel * image_c
    vertical += b * vertical_b + y * vertical_y
    horizontal += b * horizontal_b + y * horizontal_y
    at = horizontal + j.to(tl.int64)[:, None] * horizontal_t + x[None, :] * horizontal_x
    h = tl.load(at, mask=kept, other=0.0).to(tl.float32)
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    weights = tl.zeros((TAPS, BLOCK), tl.float32)
    for i in range(SIZE):
        v = tl.load(vertical + x * vertical_x, mask=there, other=0.0).to(tl.float32)[None, :]
        row, column, counts = _place(i, j, y, x, height, width, table, SIZE, 1, REPLICATE, TABLE)
        colours = tl.load(image + row * image_y + column * image_x, mask=counts & kept, other=0.0).to(tl.float32)
        total += v * colours
        if channel == 0:
            weights += tl.where(counts, v, 0.0)
        vertical += vertical_t
    found = tl.sum(total * h, 0).to(out.dtype.element_ty)
    tl.store(out + b * out_b + channel * out_c + y * out_y + x * out_x, found, mask=there)
    if channel == 0:
        tl.store(weight_sum + (b * height + y) * width + x, tl.sum(weights * h, 0), mask=there)


@triton.jit
def _gradient_kernels(
    grad_out, grad_weight_sum, image, vertical, horizontal, grad_vertical, grad_horizontal,
    table, height, width,
    grad_out_b, grad_out_c, grad_out_y, grad_out_x,
    grad_weight_b, grad_weight_y, grad_weight_x,
    image_b, image_c, image_y, image_x,
    vertical_b, vertical_t, vertical_y, vertical_x,
    horizontal_b, horizontal_t, horizontal_y, horizontal_x,
    grad_vertical_b, grad_vertical_t, grad_vertical_y, grad_vertical_x,
    grad_horizontal_b, grad_horizontal_t, grad_horizontal_y, grad_horizontal_x,
    REPLICATE: tl.constexpr, TABLE: tl.constexpr,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    there = x < width
    j = tl.arange(0, TAPS)
    tap = j.to(tl.int64)[:, None]
    kept = (j < SIZE)[:, None] & there[None, :]

    image += b * image_b
    grad_out += b * grad_out_b + y * grad_out_y
    vertical += b * vertical_b + y * vertical_y
    horizontal += b * horizontal_b + y * horizontal_y
    grad_vertical += b * grad_vertical_b + y * grad_vertical_y
    grad_horizontal += b * grad_horizontal_b + y * grad_horizontal_y
    at = grad_weight_sum + b * grad_weight_b + y * grad_weight_y + x * grad_weight_x
    grad_weight = tl.load(at, mask=there, other=0.0).to(tl.float32)[None, :]
    at = horizontal + tap * horizontal_t + x[None, :] * horizontal_x
    h = tl.load(at, mask=kept, other=0.0).to(tl.float32)
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for i in range(SIZE):
        row, column, counts = _place(i, j, y, x, height, width, table, SIZE, 1, REPLICATE, TABLE)
        s = tl.where(counts & kept, grad_weight, 0.0)
        for channel in range(CHANNELS):
            grad = tl.load(grad_out + channel * grad_out_c + x * grad_out_x, mask=there, other=0.0).to(tl.float32)
            at = image + channel * image_c + row * image_y + column * image_x
            s += grad[None, :] * tl.load(at, mask=counts & kept, other=0.0).to(tl.float32)
        v = tl.load(vertical + x * vertical_x, mask=there, other=0.0).to(tl.float32)
        total += v[None, :] * s
        found = tl.sum(s * h, 0).to(grad_vertical.dtype.element_ty)
        tl.store(grad_vertical + x * grad_vertical_x, found, mask=there)
        vertical += vertical_t
        grad_vertical += grad_vertical_t
    found = total.to(grad_horizontal.dtype.element_ty)
    tl.store(grad_horizontal + tap * grad_horizontal_t + x[None, :] * grad_horizontal_x, found, mask=kept)


@triton.jit
def _gradient_image(
    grad_out, vertical, horizontal, grad_image, table, height, width, margin,
    grad_out_b, grad_out_c, grad_out_y, grad_out_x,
    vertical_b, vertical_t, vertical_y, vertical_x,
    horizontal_b, horizontal_t, horizontal_y, horizontal_x,
    grad_image_b, grad_image_c, grad_image_y, grad_image_x,
    TABLE: tl.constexpr, CHANNELS: tl.constexpr, SIZE: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) % CHANNELS
    x = tl.program_id(0) // CHANNELS * BLOCK + tl.arange(0, BLOCK)
    y = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    j = tl.arange(0, TAPS)

    grad_out += b * grad_out_b + channel * grad_out_c
    vertical += b * vertical_b
    horizontal += b * horizontal_b
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for i in range(SIZE):
        row, column, counts = _place(i, j, y - margin, x - margin, height, width, table, SIZE, -1, False, TABLE)
        grad = tl.load(grad_out + row * grad_out_y + column * grad_out_x, mask=counts, other=0.0).to(tl.float32)
        v = tl.load(vertical + row * vertical_y + column * vertical_x, mask=counts, other=0.0).to(tl.float32)
        at = horizontal + j.to(tl.int64)[:, None] * horizontal_t + row * horizontal_y + column * horizontal_x
        total += grad * v * tl.load(at, mask=counts, other=0.0).to(tl.float32)
        vertical += vertical_t
    found = tl.sum(total, 0).to(grad_image.dtype.element_ty)
    at = grad_image + b * grad_image_b + channel * grad_image_c + y * grad_image_y + x * grad_image_x
    tl.store(at, found, mask=x < width + 2 * margin)
