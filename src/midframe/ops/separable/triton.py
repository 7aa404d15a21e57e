# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# mypy cannot check the kernels below: their arguments are untyped, and Triton has types of its own.
"""Compute adaptive separable convolution and its gradients in Triton, on NVIDIA and AMD GPUs.

With TRITON_INTERPRET=1 the kernels run on the CPU, for tests. They take every tap pattern.

One program computes `BLOCK` neighbouring pixels of a row. For each row i of taps it reads a tile `[taps j, pixels]` of
the image around them. The horizontal kernels of its pixels stay in registers, in a tile of the same shape. So each
kernel value is read once per channel; only image values are read repeatedly, from the cache. The number of taps of a
tile is a power of two, so with T = 51 a fifth of the tile is idle. A tile has 16 values per thread; with more, the
registers of a thread do not suffice.

- forward: one program per channel; the programs of all channels of the same pixels are neighbours.
  out = sum over i, j of image * v[i] * h[j].
- gradient_kernels: let s[j] be the sum over channels of grad_out * image, plus the gradient of the weight sum. Then
  grad v[i] = sum over j of s[j] * h[j] is stored at once, while grad h[j] += v[i] * s[j] accumulates in registers. One
  pass over the image computes both.
- gradient_image: each pixel of the image gathers from the output pixels that read it, with the tap offsets negated, so
  no atomic addition is needed. With the border `replicate`, the gradient of the padded image is computed first; then
  the gradient of the padding is added to the edge pixels.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from midframe.ops.separable.pytorch import fold_border
from midframe.ops.taps import TapPattern

TILE = 2048
"""Number of values of a tile: taps times pixels."""
WARPS = 4
"""Warps per program."""


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    """Return the convolved image and the sum of the weights used."""
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
    """Return the gradients of both kernel maps."""
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
    """Return the gradient of the image."""
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
    return fold_border(grad, margin, replicate).to(grad_out.dtype)


def _constants(channels: int, taps: TapPattern, **flags: bool) -> dict[str, int | bool]:
    """Return the compile-time constants of the kernels."""
    tile_taps = triton.next_power_of_2(taps.size)
    sizes = {"CHANNELS": channels, "SIZE": taps.size, "TAPS": tile_taps, "BLOCK": min(128, TILE // tile_taps)}
    return {**sizes, "TABLE": not taps.is_dense, "num_warps": WARPS, **flags}


@cache
def _table(taps: TapPattern, device: torch.device) -> Tensor:
    """Return `[T, T, 3]` with the dy and dx of each tap (i, j) and a 1 if it exists; a dense pattern needs no table."""
    table = torch.zeros((taps.size, taps.size, 3) if not taps.is_dense else (1,), dtype=torch.int32)
    if not taps.is_dense:
        for i, j, dy, dx in taps.taps():
            table[i, j] = torch.tensor((dy, dx, 1))
    return table.to(device)


# In the kernels, names like `image_y` are strides: `_b` of the batch, `_c` of channels, `_t` of taps, `_y` of rows and
# `_x` of columns.


@triton.jit
def _pixels_read(  # noqa: PLR0913 - kernels take pointers, sizes and strides one by one
    i, j, y, x, height, width, table,
    SIZE: tl.constexpr, SIGN: tl.constexpr, REPLICATE: tl.constexpr, TABLE: tl.constexpr,
):  # fmt: skip
    """Return which image pixels the taps (i, j) of the output pixels (y, x) read: row, column and validity.

    Each is `[TAPS, BLOCK]` or broadcasts to it. SIGN: 1 for the offsets of the pattern, -1 for their negatives.
    """
    if TABLE:
        pointers = table + (i * SIZE + j) * 3
        dy = tl.load(pointers, mask=j < SIZE, other=0)[:, None]
        dx = tl.load(pointers + 1, mask=j < SIZE, other=0)[:, None]
        valid = tl.load(pointers + 2, mask=j < SIZE, other=0)[:, None] != 0
    else:
        dy = i - SIZE // 2
        dx = (j - SIZE // 2)[:, None]
        valid = (j < SIZE)[:, None]
    row = y + SIGN * dy
    column = x[None, :] + SIGN * dx
    if REPLICATE:
        row = tl.minimum(tl.maximum(row, 0), height - 1)
        column = tl.minimum(tl.maximum(column, 0), width - 1)
    else:
        valid = valid & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return row, column, valid


@triton.jit
def _forward(  # noqa: PLR0913 - as above
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
    in_row = x < width
    j = tl.arange(0, TAPS)
    tile_mask = (j < SIZE)[:, None] & in_row[None, :]

    image += b * image_b + channel * image_c
    vertical += b * vertical_b + y * vertical_y
    horizontal += b * horizontal_b + y * horizontal_y
    pointers = horizontal + j.to(tl.int64)[:, None] * horizontal_t + x[None, :] * horizontal_x
    h = tl.load(pointers, mask=tile_mask, other=0.0).to(tl.float32)
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    weights = tl.zeros((TAPS, BLOCK), tl.float32)
    for i in range(SIZE):
        v = tl.load(vertical + x * vertical_x, mask=in_row, other=0.0).to(tl.float32)[None, :]
        row, column, valid = _pixels_read(i, j, y, x, height, width, table, SIZE, 1, REPLICATE, TABLE)
        pixels = tl.load(image + row * image_y + column * image_x, mask=valid & tile_mask, other=0.0).to(tl.float32)
        total += v * pixels
        if channel == 0:
            weights += tl.where(valid, v, 0.0)
        vertical += vertical_t
    result = tl.sum(total * h, 0).to(out.dtype.element_ty)
    tl.store(out + b * out_b + channel * out_c + y * out_y + x * out_x, result, mask=in_row)
    if channel == 0:
        tl.store(weight_sum + (b * height + y) * width + x, tl.sum(weights * h, 0), mask=in_row)


@triton.jit
def _gradient_kernels(  # noqa: PLR0913 - as above
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
    in_row = x < width
    j = tl.arange(0, TAPS)
    tap = j.to(tl.int64)[:, None]
    tile_mask = (j < SIZE)[:, None] & in_row[None, :]

    image += b * image_b
    grad_out += b * grad_out_b + y * grad_out_y
    vertical += b * vertical_b + y * vertical_y
    horizontal += b * horizontal_b + y * horizontal_y
    grad_vertical += b * grad_vertical_b + y * grad_vertical_y
    grad_horizontal += b * grad_horizontal_b + y * grad_horizontal_y
    pointers = grad_weight_sum + b * grad_weight_b + y * grad_weight_y + x * grad_weight_x
    grad_weight = tl.load(pointers, mask=in_row, other=0.0).to(tl.float32)[None, :]
    pointers = horizontal + tap * horizontal_t + x[None, :] * horizontal_x
    h = tl.load(pointers, mask=tile_mask, other=0.0).to(tl.float32)
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for i in range(SIZE):
        row, column, valid = _pixels_read(i, j, y, x, height, width, table, SIZE, 1, REPLICATE, TABLE)
        s = tl.where(valid & tile_mask, grad_weight, 0.0)
        for channel in range(CHANNELS):
            grad = tl.load(grad_out + channel * grad_out_c + x * grad_out_x, mask=in_row, other=0.0).to(tl.float32)
            pointers = image + channel * image_c + row * image_y + column * image_x
            s += grad[None, :] * tl.load(pointers, mask=valid & tile_mask, other=0.0).to(tl.float32)
        v = tl.load(vertical + x * vertical_x, mask=in_row, other=0.0).to(tl.float32)
        total += v[None, :] * s
        result = tl.sum(s * h, 0).to(grad_vertical.dtype.element_ty)
        tl.store(grad_vertical + x * grad_vertical_x, result, mask=in_row)
        vertical += vertical_t
        grad_vertical += grad_vertical_t
    result = total.to(grad_horizontal.dtype.element_ty)
    tl.store(grad_horizontal + tap * grad_horizontal_t + x[None, :] * grad_horizontal_x, result, mask=tile_mask)


@triton.jit
def _gradient_image(  # noqa: PLR0913 - as above
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
        row, column, valid = _pixels_read(i, j, y - margin, x - margin, height, width, table, SIZE, -1, False, TABLE)
        grad = tl.load(grad_out + row * grad_out_y + column * grad_out_x, mask=valid, other=0.0).to(tl.float32)
        v = tl.load(vertical + row * vertical_y + column * vertical_x, mask=valid, other=0.0).to(tl.float32)
        pointers = horizontal + j.to(tl.int64)[:, None] * horizontal_t + row * horizontal_y + column * horizontal_x
        total += grad * v * tl.load(pointers, mask=valid, other=0.0).to(tl.float32)
        vertical += vertical_t
    result = tl.sum(total, 0).to(grad_image.dtype.element_ty)
    pointers = grad_image + b * grad_image_b + channel * grad_image_c + y * grad_image_y + x * grad_image_x
    tl.store(pointers, result, mask=x < width + 2 * margin)
