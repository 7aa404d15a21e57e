"""Adaptive separable convolution in plain torch on any device, forward and backward, in bounded memory.

Dense patterns by matrix products. In a row, the sums over j of `width` neighbouring pixels are one product of the T C
picture rows with a band matrix that holds the pixels' horizontal kernels, each shifted by one against the last. It does
(width + T - 1) / T of the arithmetic needed, and runs at the speed of matrix products. The gradients are the same
products transposed. Rows are taken in chunks, so that what is between stays below `CHUNK` numbers.

Composite patterns and single taps are summed tap by tap. The weight sum is the convolution of a picture of ones, so it
is carried as one more channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops.taps import TapPattern

CHUNK = 4 << 20
"""Numbers that one intermediate result may hold."""


def forward(
    image: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool
) -> tuple[Tensor, Tensor]:
    padded, vertical, horizontal = _padded(image, taps, replicate), _working(vertical), _working(horizontal)
    if _by_tap(taps):
        total = padded.new_zeros((*padded.shape[:2], *vertical.shape[2:]))
        for i, j, dy, dx in taps.taps():
            weight = vertical[:, i : i + 1] * horizontal[:, j : j + 1]
            total.addcmul_(_shifted(padded, dy, dx, taps.reach), weight)
    else:
        rows = _as_rows(padded)
        total = padded.new_empty((*padded.shape[:2], *vertical.shape[2:]))
        for tile in _tiles(rows, vertical, taps.size):
            sums = tile.row_sums(rows, horizontal)
            tile.of(total).copy_((sums * tile.rows_first(vertical).unsqueeze(2)).sum(1).transpose(0, 1))
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
    kernels = vertical.dtype
    padded, vertical, horizontal = _padded(image, taps, replicate), _working(vertical), _working(horizontal)
    grad = torch.cat([_working(grad_out), _working(grad_weight_sum)], 1)
    grad_vertical, grad_horizontal = (vertical.new_zeros(vertical.shape) for _ in range(2))
    if _by_tap(taps):
        for i, j, dy, dx in taps.taps():
            grad_weight = (grad * _shifted(padded, dy, dx, taps.reach)).sum(1)
            grad_vertical[:, i].addcmul_(grad_weight, horizontal[:, j])
            grad_horizontal[:, j].addcmul_(grad_weight, vertical[:, i])
    else:
        rows = _as_rows(padded)
        for tile in _tiles(rows, vertical, taps.size):
            sums = tile.row_sums(rows, horizontal)
            tile.of(grad_vertical).copy_((sums * tile.rows_first(grad).unsqueeze(1)).sum(2).transpose(0, 1))
            across = torch.bmm(tile.weighted(vertical, grad).transpose(1, 2), tile.source(rows))
            tile.of(grad_horizontal).copy_(_unskewed(across, taps.size).permute(2, 0, 1))
    return grad_vertical.to(kernels), grad_horizontal.to(kernels)


def gradient_image(grad_out: Tensor, vertical: Tensor, horizontal: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    grad, vertical, horizontal = _working(grad_out), _working(vertical), _working(horizontal)
    batch, channels, height, width = grad.shape
    padded = grad.new_zeros((batch, channels, height + 2 * taps.reach, width + 2 * taps.reach))
    if _by_tap(taps):
        for i, j, dy, dx in taps.taps():
            weight = vertical[:, i : i + 1] * horizontal[:, j : j + 1]
            _shifted(padded, dy, dx, taps.reach).addcmul_(grad, weight)
    else:
        rows = _as_rows(padded)
        for tile in _tiles(rows, vertical, taps.size):
            spread = torch.bmm(tile.weighted(vertical, grad), _skewed(tile.rows_first(horizontal)))
            spread = spread.view(tile.rows, taps.size, channels, -1)
            for i in range(taps.size):
                start = tile.top + i
                rows[tile.sample, start : start + tile.rows, :, tile.left : tile.left + spread.shape[-1]] += spread[
                    :, i
                ]
        padded = rows.transpose(1, 2)
    return fold_border(padded, taps.reach, replicate).to(grad_out.dtype)


def fold_border(padded: Tensor, reach: int, replicate: bool) -> Tensor:
    """The gradient of a picture from that of the picture with `reach` pixels of border around it, which is used up."""
    if reach == 0:
        return padded
    right, below = padded.shape[-1] - reach, padded.shape[-2] - reach
    if replicate:
        padded[..., reach] += padded[..., :reach].sum(-1)
        padded[..., right - 1] += padded[..., right:].sum(-1)
        padded[:, :, reach] += padded[:, :, :reach].sum(2)
        padded[:, :, below - 1] += padded[:, :, below:].sum(2)
    return padded[:, :, reach:below, reach:right].contiguous()


def _by_tap(taps: TapPattern) -> bool:
    return not taps.is_dense or taps.size == 1


def _working(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _padded(image: Tensor, taps: TapPattern, replicate: bool) -> Tensor:
    """The picture and a channel of ones, with the border that the taps reach into."""
    ones = image.new_ones((image.shape[0], 1, *image.shape[2:]))
    with_ones = _working(torch.cat([image, ones], 1))
    return F.pad(with_ones, [taps.reach] * 4, mode="replicate" if replicate else "constant")


def _shifted(padded: Tensor, dy: int, dx: int, reach: int) -> Tensor:
    bottom, right = padded.shape[-2] - reach, padded.shape[-1] - reach
    return padded[:, :, reach + dy : bottom + dy, reach + dx : right + dx]


def _as_rows(padded: Tensor) -> Tensor:
    """`[B, rows, C, columns]`: the T rows that a pixel reads, of all channels, are one matrix."""
    return padded.transpose(1, 2).contiguous()


@dataclass(frozen=True)
class _Tile:
    """Some rows and neighbouring columns of one sample; `size` is T."""

    sample: int
    top: int
    rows: int
    left: int
    width: int
    size: int

    def of(self, maps: Tensor) -> Tensor:
        """This part of maps `[B, N, H, W]`: `[N, rows, width]`."""
        return maps[self.sample, :, self.top : self.top + self.rows, self.left : self.left + self.width]

    def rows_first(self, maps: Tensor) -> Tensor:
        return self.of(maps).transpose(0, 1)

    def source(self, rows: Tensor) -> Tensor:
        """The picture rows that each row reads, `[rows, T C, width + T - 1]`: overlapping, nothing is copied."""
        _, _, channels, columns = rows.shape
        part = rows[self.sample, self.top :, :, self.left :]
        shape = (self.rows, self.size * channels, self.width + self.size - 1)
        return part.as_strided(shape, (channels * columns, columns, 1))

    def row_sums(self, rows: Tensor, horizontal: Tensor) -> Tensor:
        """The sums over j for every picture row, `[rows, T, C, width]`."""
        band = _skewed(self.rows_first(horizontal))
        return torch.bmm(self.source(rows), band.transpose(1, 2)).view(self.rows, self.size, -1, self.width)

    def weighted(self, vertical: Tensor, grad: Tensor) -> Tensor:
        """Vertical kernels times gradient, `[rows, T C, width]`."""
        return (self.rows_first(vertical).unsqueeze(2) * self.rows_first(grad).unsqueeze(1)).flatten(1, 2)


def _tiles(rows: Tensor, maps: Tensor, size: int) -> Iterator[_Tile]:
    """Tiles about as wide as the kernels, and as high as `CHUNK` allows."""
    batch, _, height, width = maps.shape
    wide = min(max(16, size), width)
    high = max(1, CHUNK // (size * rows.shape[2] * (wide + size - 1)))
    for sample in range(batch):
        for top in range(0, height, high):
            for left in range(0, width, wide):
                yield _Tile(sample, top, min(high, height - top), left, min(wide, width - left), size)


def _skewed(kernels: Tensor) -> Tensor:
    """The band matrix `[rows, width, width + T - 1]`: kernels `[rows, T, width]`, each one place further right."""
    rows, size, width = kernels.shape
    shifted = F.pad(kernels.transpose(1, 2), (0, width)).flatten(1)
    return shifted[:, : width * (width + size - 1)].view(rows, width, width + size - 1)


def _unskewed(band: Tensor, size: int) -> Tensor:
    """What a gradient of the band matrix says about its kernels, `[rows, width, T]`."""
    rows, width, columns = band.shape
    return band.as_strided((rows, width, size), (width * columns, columns + 1, 1))
