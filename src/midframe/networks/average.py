"""The network that moves nothing: the mean of the two frames, by the operator that all networks use."""

from __future__ import annotations

from torch import Tensor

from midframe.networks.base import InterpolationNetwork
from midframe.ops import separable_convolution


class Average(InterpolationNetwork):
    """The weighted mean of two frames, as two separable convolutions whose kernels are parts of a delta.

    The vertical kernels are the weights `1 - t` and `t`, the horizontal ones are 1 (one tap each): the paper's formula
    with nothing predicted. It has no parameters: the cheapest frames there are, and what any other is measured against.
    """

    any_time = True
    averages = True

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        batch, _, height, width = first.shape
        delta = first.new_ones(1, 1, 1, 1).expand(batch, 1, height, width)
        weight = time.to(first.dtype).view(-1, 1, 1, 1).expand_as(delta)
        made: Tensor = separable_convolution(first, delta - weight, delta)
        return made + separable_convolution(second, weight, delta)
