"""The discriminator: tells true frames from made ones by VGG-19's features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from midframe.errors import SettingError
from midframe.networks.vgg import BLOCKS, LAYERS, Vgg19, choose_layer

SIDE = 5
"""Features are pooled to 5x5 first, which changes nothing for the last pooling of VGG-19 on crops of 160."""

BASE = "pool5"
"""The layer of VGG-19 that the author's code stands on."""


class Discriminator(nn.Module):
    """One logit a picture from VGG-19 features `[B, C, h, w]`: above 0 where the picture looks true.

    Two 3x3 convolutions, the second with a skip around it, max pooling, two dense layers with dropout, one logit.
    channels: of the features (512 after the last pooling of VGG-19: 13,114,369 parameters). scaled: divide each
    picture's features by their root mean square; wanted where they come from another layer than `BASE`, whose
    activations are hundreds of times as large and would make logits of a hundred from the start. Source: the report's
    section 2 and its author's code.
    """

    def __init__(
        self,
        channels: int = 512,
        *,
        scaled: bool = False,
        width: int = 512,
        dense: int = 2048,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.scaled = scaled
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.dense1 = nn.Linear(width * 4, dense)
        self.dense2 = nn.Linear(dense, dense)
        self.logit = nn.Linear(dense, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """The logits `[B]`."""
        x = F.adaptive_avg_pool2d(features, SIDE)
        if self.scaled:
            x = x * x.square().mean((1, 2, 3), keepdim=True).clamp_min(1e-12).rsqrt()
        x = F.leaky_relu(self.first(x), 0.2)
        x = F.leaky_relu(self.second(x), 0.2) + x
        x = F.max_pool2d(x, 3, stride=2).flatten(1)
        x = self.dropout(F.leaky_relu(self.dense1(x), 0.2))
        x = self.dropout(F.leaky_relu(self.dense2(x), 0.2))
        logits: Tensor = self.logit(x)
        return logits[:, 0]


def choose_base(vgg: Vgg19, wanted: str = BASE) -> str:
    """The layer `wanted` for a discriminator to stand on, or, with a warning, the deepest that the weights reach."""
    return choose_layer(vgg, wanted)


def base_channels(layer: str) -> int:
    """How many channels the features of a layer of VGG-19 have. Raises `SettingError` for one that it has not."""
    if layer not in LAYERS:
        raise SettingError(f"VGG-19 has no layer '{layer}'; there are: {', '.join(LAYERS)}")
    block = layer.removeprefix("relu").removeprefix("pool")[0]
    return BLOCKS[int(block) - 1][0]
