"""The convolutional parts of the network `guided`: the encoder and the decoder of one pyramid level."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midframe.ops.feature_normalisation import normalise_features

NEGATIVE_SLOPE = 0.2
"""Slope of every leaky ReLU, as in the report."""

LEARNING_RATE_MULTIPLIER = 25.0
"""Factor on the few parameters that act on a whole level, `feature_centre` and `initial_flow_scale`. The step of Adam
does not depend on the size of a gradient, so the factor makes these parameters learn faster than the others."""

OUTPUT_SCALE = 0.1
"""Factor on the decoders' outputs. In one step, Adam changes each of the thousands of weights behind an output by the
same amount; without the factor, their sum could move the flow out of the picture, where it has no gradient."""


class LevelEncoder(nn.Module):
    """The encoder of one pyramid level: halves the size, convolves, and normalises the features."""

    def __init__(self, input_channels: int, channels: int, kernel_size: int, convolutions: int) -> None:
        super().__init__()
        self.downsample = _convolution(input_channels, channels, kernel_size, stride=2)
        with torch.no_grad():  # Filters whose weights sum to zero respond to texture, not to brightness.
            self.downsample.weight -= self.downsample.weight.mean((1, 2, 3), keepdim=True)
        self.convolutions = nn.ModuleList(_near_identity_convolution(channels) for _ in range(convolutions))
        self.feature_centre = nn.Parameter(torch.zeros(channels))
        """The centre of `normalise_features`, divided by `LEARNING_RATE_MULTIPLIER`."""

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps that the next level reads and the normalised features, both `[2B, C, h, w]`."""
        maps = _activate(self.downsample(maps))
        for convolution in self.convolutions:
            maps = _activate(convolution(maps))
        return maps, normalise_features(maps, self.feature_centre * LEARNING_RATE_MULTIPLIER)


class LevelDecoder(nn.Module):
    """The decoder of one pyramid level, which reads a cost volume and the hidden maps of the coarser level."""

    def __init__(
        self,
        *,
        cost_channels: int,
        hidden_channels: int,
        coarser_channels: int,
        output_channels: int,
        convolutions: int,
        search_radius: int,
    ) -> None:
        super().__init__()
        self.search_radius = search_radius
        """Radius of the level's cost volume, in pixels of the level."""
        self.read_costs = _convolution(cost_channels, hidden_channels)
        self.read_coarser = _convolution(coarser_channels, hidden_channels, kernel_size=1)
        self.convolutions = nn.ModuleList(_near_identity_convolution(hidden_channels) for _ in range(convolutions))
        self.output = _convolution(hidden_channels, output_channels)
        self.output.scale = OUTPUT_SCALE
        nn.init.zeros_(self.output.weight)

    def forward(self, costs: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the hidden maps `[B, C, h, w]` and the output of the level.

        costs: the cost volume with features and context, `[B, cost_channels, h, w]`.
        coarser: hidden maps of the coarser level, half as large; None at the coarsest level.
        """
        hidden = self.read_costs(costs)
        if coarser is not None:
            hidden = hidden + F.interpolate(self.read_coarser(coarser), scale_factor=2.0, mode="nearest")
        hidden = _activate(hidden)
        for convolution in self.convolutions:
            hidden = _activate(convolution(hidden))
        return hidden, self.output(hidden)


class Convolution(nn.Conv2d):
    """A convolution that computes in the type of its input, whatever the type of its parameters."""

    bias: nn.Parameter

    scale = 1.0
    """Factor on weight and bias."""

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve maps `[B, C, h, w]`."""
        scale = self.scale
        weight, bias = (self.weight, self.bias) if scale == 1 else (self.weight * scale, self.bias * scale)
        return F.conv2d(maps, weight.to(maps.dtype), bias.to(maps.dtype), self.stride, self.padding)


def _convolution(input_channels: int, channels: int, kernel_size: int = 3, stride: int = 1) -> Convolution:
    """Build a convolution with He initialisation for leaky ReLU and a bias of zero."""
    convolution = Convolution(input_channels, channels, kernel_size, stride, padding=(kernel_size - 1) // 2)
    nn.init.kaiming_normal_(convolution.weight, NEGATIVE_SLOPE)
    nn.init.zeros_(convolution.bias)
    return convolution


def _near_identity_convolution(channels: int) -> Convolution:
    """Build a convolution that starts as the identity plus random weights; both add the same variance to the output.

    It has the effect of a residual connection without an addition of maps.
    """
    convolution = _convolution(channels, channels)
    identity = nn.init.dirac_(torch.empty_like(convolution.weight))
    with torch.no_grad():
        convolution.weight.mul_(((1 + NEGATIVE_SLOPE**2) / 2) ** 0.5).add_(identity)
    return convolution


def _activate(maps: Tensor) -> Tensor:
    """Apply the leaky ReLU in place."""
    return F.leaky_relu(maps, NEGATIVE_SLOPE, inplace=True)
