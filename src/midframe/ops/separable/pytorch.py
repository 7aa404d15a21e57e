"""Compute adaptive separable convolution and its gradients in plain torch, on any device and in bounded memory.

A dense pattern is computed by matrix products. For `width` neighbouring pixels of one row, the sums over j are one
product of the T C image rows above and below with a band matrix. Row x of the band matrix holds the horizontal kernel
of pixel x, shifted right by x columns. This takes (width + T - 1) / T times the multiplications needed, but runs at the
speed of matrix products. The gradients are the same products transposed. Rows are processed in chunks, so that each
intermediate result has at most `MAX_INTERMEDIATE` elements.

Composite patterns and single taps are summed tap by tap. The weight sum is the convolution of an image of ones, which
is computed as one additional channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.taps import TapPattern

MAX_INTERMEDIATE = 4 << 20
"""The largest number of elements of one intermediate result."""


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    """Return the convolved image and the sum of the weights used."""
    padded, vertical, horizontal = _padded(image, taps, replicate), _working(vertical), _working(horizontal)
    if _sums_by_tap(taps):
        total = padded.new_zeros((*padded.shape[:2], *vertical.shape[2:]))
        for i, j, dy, dx in taps.taps():
            weight = vertical[:, i : i + 1] * horizontal[:, j : j + 1]
            total.addcmul_(_shifted(padded, dy, dx, taps.reach), weight)
    else:
        rows = _as_rows(padded)
        total = padded.new_empty((*padded.shape[:2], *vertical.shape[2:]))
        for tile in _tiles(rows, vertical, taps.size):
            sums = tile.row_sums(rows, horizontal)
            tile.crop(total).copy_((sums * tile.rows_first(vertical).unsqueeze(2)).sum(1).transpose(0, 1))
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
    """Return the gradients of both kernel maps."""
    dtype = vertical.dtype
    padded, vertical, horizontal = _padded(image, taps, replicate), _working(vertical), _working(horizontal)
    grad = torch.cat([_working(grad_out), _working(grad_weight_sum)], 1)
    grad_vertical, grad_horizontal = (vertical.new_zeros(vertical.shape) for _ in range(2))
    if _sums_by_tap(taps):
        for i, j, dy, dx in taps.taps():
            grad_weight = (grad * _shifted(padded, dy, dx, taps.reach)).sum(1)
            grad_vertical[:, i].addcmul_(grad_weight, horizontal[:, j])
            grad_horizontal[:, j].addcmul_(grad_weight, vertical[:, i])
    else:
        rows = _as_rows(padded)
        for tile in _tiles(rows, vertical, taps.size):
            sums = tile.row_sums(rows, horizontal)
            tile.crop(grad_vertical).copy_((sums * tile.rows_first(grad).unsqueeze(1)).sum(2).transpose(0, 1))
            across = torch.bmm(tile.weighted(vertical, grad).transpose(1, 2), tile.source(rows))
            tile.crop(grad_horizontal).copy_(_kernels_of_band(across, taps.size).permute(2, 0, 1))
    return grad_vertical.to(dtype), grad_horizontal.to(dtype)


def gradient_image(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    """Return the gradient of the image."""
    grad, vertical, horizontal = _working(grad_out), _working(vertical), _working(horizontal)
    batch, channels, height, width = grad.shape
    padded = grad.new_zeros((batch, channels, height + 2 * taps.reach, width + 2 * taps.reach))
    if _sums_by_tap(taps):
        for i, j, dy, dx in taps.taps():
            weight = vertical[:, i : i + 1] * horizontal[:, j : j + 1]
            _shifted(padded, dy, dx, taps.reach).addcmul_(grad, weight)
    else:
        rows = _as_rows(padded)
        for tile in _tiles(rows, vertical, taps.size):
            spread = torch.bmm(tile.weighted(vertical, grad), _band_matrix(tile.rows_first(horizontal)))
            spread = spread.view(tile.rows, taps.size, channels, -1)
            columns = slice(tile.left, tile.left + spread.shape[-1])
            for i in range(taps.size):
                start = tile.top + i
                rows[tile.sample, start : start + tile.rows, :, columns] += spread[:, i]
        padded = rows.transpose(1, 2)
    return fold_border(padded, taps.reach, replicate).to(grad_out.dtype)


def fold_border(padded: Tensor, reach: int, replicate: bool) -> Tensor:
    """Return the gradient of an image from that of the image padded by `reach` pixels on each side.

    replicate: add the gradient of the padding to the edge pixels that it repeats; otherwise drop it. `padded` is
    overwritten.
    """
    if reach == 0:
        return padded
    right, below = padded.shape[-1] - reach, padded.shape[-2] - reach
    if replicate:
        padded[..., reach] += padded[..., :reach].sum(-1)
        padded[..., right - 1] += padded[..., right:].sum(-1)
        padded[:, :, reach] += padded[:, :, :reach].sum(2)
        padded[:, :, below - 1] += padded[:, :, below:].sum(2)
    return padded[:, :, reach:below, reach:right].contiguous()


def _sums_by_tap(taps: TapPattern) -> bool:
    """Return True if the pattern is summed tap by tap instead of by matrix products."""
    return not taps.is_dense or taps.size == 1


def _working(tensor: Tensor) -> Tensor:
    """Return the tensor in the type of the sums: float32, or float64 for float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _padded(image: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    """Append a channel of ones to the image and pad both as far as the taps reach."""
    ones = image.new_ones((image.shape[0], 1, *image.shape[2:]))
    with_ones = _working(torch.cat([image, ones], 1))
    return F.pad(with_ones, [taps.reach] * 4, mode="replicate" if replicate else "constant")


def _shifted(padded: Tensor, dy: int, dx: int, reach: int) -> Tensor:
    """Return a view of a padded image: at each pixel (y, x) of the image, the pixel (y + dy, x + dx)."""
    bottom, right = padded.shape[-2] - reach, padded.shape[-1] - reach
    return padded[:, :, reach + dy : bottom + dy, reach + dx : right + dx]


def _as_rows(padded: Tensor) -> Tensor:
    """Return `[B, rows, C, columns]`, in which the T rows that a pixel reads, of all channels, are one matrix."""
    return padded.transpose(1, 2).contiguous()


@dataclass(frozen=True)
class _Tile:
    """A rectangle of output pixels of one sample that is computed by one matrix product per row."""

    sample: int
    """Index in the batch."""
    top: int
    """First row."""
    rows: int
    """Number of rows."""
    left: int
    """First column."""
    width: int
    """Number of columns."""
    size: int
    """Taps per side, T."""

    def crop(self, maps: Tensor) -> Tensor:
        """Return the view `[N, rows, width]` of maps `[B, N, H, W]`."""
        return maps[self.sample, :, self.top : self.top + self.rows, self.left : self.left + self.width]

    def rows_first(self, maps: Tensor) -> Tensor:
        """Return the view `[rows, N, width]` of maps `[B, N, H, W]`."""
        return self.crop(maps).transpose(0, 1)

    def source(self, rows: Tensor) -> Tensor:
        """Return the image rows that each row reads, `[rows, T C, width + T - 1]`: a view whose rows overlap."""
        _, _, channels, columns = rows.shape
        part = rows[self.sample, self.top :, :, self.left :]
        shape = (self.rows, self.size * channels, self.width + self.size - 1)
        return part.as_strided(shape, (channels * columns, columns, 1))

    def row_sums(self, rows: Tensor, horizontal: Tensor) -> Tensor:
        """Return the sums over j for every image row, `[rows, T, C, width]`."""
        band = _band_matrix(self.rows_first(horizontal))
        return torch.bmm(self.source(rows), band.transpose(1, 2)).view(self.rows, self.size, -1, self.width)

    def weighted(self, vertical: Tensor, grad: Tensor) -> Tensor:
        """Return the products of vertical kernels and gradient, `[rows, T C, width]`."""
        return (self.rows_first(vertical).unsqueeze(2) * self.rows_first(grad).unsqueeze(1)).flatten(1, 2)


def _tiles(rows: Tensor, maps: Tensor, size: int) -> Iterator[_Tile]:
    """Yield tiles that cover all output pixels: as wide as the kernels, as high as `MAX_INTERMEDIATE` allows."""
    batch, _, height, width = maps.shape
    tile_width = min(max(16, size), width)
    tile_rows = max(1, MAX_INTERMEDIATE // (size * rows.shape[2] * (tile_width + size - 1)))
    for sample in range(batch):
        for top in range(0, height, tile_rows):
            for left in range(0, width, tile_width):
                yield _Tile(sample, top, min(tile_rows, height - top), left, min(tile_width, width - left), size)


def _band_matrix(kernels: Tensor) -> Tensor:
    """Return the band matrices `[rows, width, width + T - 1]` of kernels `[rows, T, width]`.

    Row x of a matrix holds the kernel of pixel x, shifted right by x columns, and zeros elsewhere.
    """
    rows, size, width = kernels.shape
    shifted = F.pad(kernels.transpose(1, 2), (0, width)).flatten(1)
    return shifted[:, : width * (width + size - 1)].view(rows, width, width + size - 1)


def _kernels_of_band(band: Tensor, size: int) -> Tensor:
    """Return the band of matrices `[rows, width, width + T - 1]` as kernels `[rows, width, T]`: undo `_band_matrix`."""
    rows, width, columns = band.shape
    return band.as_strided((rows, width, size), (width * columns, columns + 1, 1))
