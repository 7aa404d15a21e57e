"""The discriminator of adversarial training: tells target frames from predicted frames by features of VGG-19."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from midframe.errors import SettingError
from midframe.networks.vgg import BLOCKS, LAYERS

POOLED_SIZE = 5
"""Features are pooled to 5x5. On crops of 160x160 the last pooling of VGG-19 has this size already."""

BASE_LAYER = "pool5"
"""The layer of VGG-19 whose features the author's discriminator reads."""

NEGATIVE_SLOPE = 0.2
"""Slope of every leaky ReLU."""


class Discriminator(nn.Module):
    """A classifier of VGG-19 features with one logit for each picture, positive if it takes the picture for a target.

    Two 3x3 convolutions, the second with a skip connection around it, max pooling, two dense layers with dropout, and
    the layer of the logit. Source: the report's section 2 and its author's code.
    """

    def __init__(
        self,
        channels: int = 512,
        *,
        normalise_input: bool = False,
        width: int = 512,
        dense: int = 2048,
        dropout: float = 0.5,
    ) -> None:
        """Build the discriminator; the defaults have 13,114,369 parameters.

        channels: of the features, 512 for `BASE_LAYER`.
        normalise_input: divide the features of each picture by their root mean square. Needed for layers other than
            `BASE_LAYER`, whose activations are hundreds of times as large and would give logits of 100 at the start.
        width: channels of the convolutions. dense: units of each dense layer. dropout: probability.
        """
        super().__init__()
        self.normalise_input = normalise_input
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.dense1 = nn.Linear(width * 4, dense)
        self.dense2 = nn.Linear(dense, dense)
        self.logit = nn.Linear(dense, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits `[B]` of features `[B, C, h, w]`."""
        x = F.adaptive_avg_pool2d(features, POOLED_SIZE)
        if self.normalise_input:
            x = x * x.square().mean((1, 2, 3), keepdim=True).clamp_min(1e-12).rsqrt()
        x = F.leaky_relu(self.first(x), NEGATIVE_SLOPE)
        x = F.leaky_relu(self.second(x), NEGATIVE_SLOPE) + x
        x = F.max_pool2d(x, 3, stride=2).flatten(1)
        x = self.dropout(F.leaky_relu(self.dense1(x), NEGATIVE_SLOPE))
        x = self.dropout(F.leaky_relu(self.dense2(x), NEGATIVE_SLOPE))
        logits: Tensor = self.logit(x)
        return logits[:, 0]


def layer_channels(layer: str) -> int:
    """Return the number of channels of a layer of VGG-19; raises `SettingError` if there is no such layer."""
    if layer not in LAYERS:
        raise SettingError(f"VGG-19 has no layer '{layer}'; there are: {', '.join(LAYERS)}")
    block = layer.removeprefix("relu").removeprefix("pool")[0]
    return BLOCKS[int(block) - 1][0]
