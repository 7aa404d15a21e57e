"""The network `average`: the weighted mean of two frames, computed by the operator that all networks use."""

from __future__ import annotations

from torch import Tensor

from midframe.networks.base import InterpolationNetwork
from midframe.ops import separable_convolution


class Average(InterpolationNetwork):
    """The weighted mean of two frames, as two separable convolutions with kernels of one tap.

    The vertical kernels are the weights `1 - t` and `t`, and the horizontal kernels are 1: the report's formula without
    a prediction. The network has no parameters. It is the cheapest baseline.
    """

    any_time = True
    is_untrained_average = True

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the weighted mean at `time`; see `InterpolationNetwork`. Any number of channels is possible."""
        batch, _, height, width = first.shape
        ones = first.new_ones(1, 1, 1, 1).expand(batch, 1, height, width)
        weight = time.to(first.dtype).view(-1, 1, 1, 1).expand_as(ones)
        first_part: Tensor = separable_convolution(first, ones - weight, ones)
        return first_part + separable_convolution(second, weight, ones)
