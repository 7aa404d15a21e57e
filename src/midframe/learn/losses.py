"""The losses of training, each a function of pictures `[B, 3, H, W]` in RGB, 0..255.

The scale is the report's, so that its weights mean what they meant. The first five are the report's (section 3 and
"Luminosity loss"); the last three serve the motion-guided network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PERCEPTUAL_LAYER = "relu4_4"
"""The report's layer of VGG-19; features of any other one are divided by their mean square."""


def perceptual_loss(made: Tensor, true: Tensor, layer: str = PERCEPTUAL_LAYER) -> Tensor:
    """Mean squared difference of VGG-19 features `[B, C, h, w]` of the made and the true frame.

    Of another layer than `relu4_4` it is divided by the mean square of the true features, so that its weight keeps its
    meaning while activations differ from layer to layer.
    """
    loss = F.mse_loss(made, true)
    return loss if layer == PERCEPTUAL_LAYER else loss / true.detach().square().mean().clamp_min(1e-12)


def reconstruction_loss(made: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference."""
    return F.l1_loss(made, true)


def adversarial_loss(logits: Tensor) -> Tensor:
    """-log sigmoid(D(made)), the mean over the logits of made frames."""
    return F.softplus(-logits).mean()


def discriminator_loss(true_logits: Tensor, made_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of the discriminator: true frames are 1, made ones 0.

    smoothing: how far the label of true frames lies below 1 (the author's code has 0.125).
    """
    true = F.binary_cross_entropy_with_logits(true_logits, torch.full_like(true_logits, 1 - smoothing))
    return true + F.binary_cross_entropy_with_logits(made_logits, torch.zeros_like(made_logits))


def luminosity_loss(made: Tensor, true: Tensor) -> Tensor:
    """Mean squared difference of the luma 0.299 R + 0.587 G + 0.114 B. The report set it aside."""
    weights = made.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return ((made - true) * weights).sum(1).square().mean()


def charbonnier_loss(made: Tensor, true: Tensor, epsilon: float = 0.255) -> Tensor:
    """Mean of sqrt(difference² + epsilon²): an absolute difference that is smooth at 0."""
    distance: Tensor = ((made - true).square() + epsilon * epsilon).sqrt()
    return distance.mean()


def laplacian_loss(made: Tensor, true: Tensor, levels: int = 5) -> Tensor:
    """Mean absolute difference of Laplacian pyramids, level k weighted by 2^k; source: Niklaus and Liu, CVPR 2018.

    Levels stop where a side falls below 8 pixels.
    """
    difference = made - true
    total = difference.new_zeros(())
    for level in range(levels):
        small = _halved(difference)
        weight = float(2**level)
        if level == levels - 1 or min(small.shape[-2:]) < 8:
            return total + weight * difference.abs().mean()
        total = total + weight * (difference - _doubled(small, difference.shape[-2:])).abs().mean()
        difference = small
    return total


def census_loss(made: Tensor, true: Tensor, radius: int = 3) -> Tensor:
    """Soft Hamming distance of census transforms of gray pictures; source: Meister et al., AAAI 2018.

    Each pixel is described by its neighbours within `radius` less itself, squashed to -1..1; so brightness does not
    count, only structure. The border of `radius` pixels is left out.
    """
    distance = (_census(made, radius) - _census(true, radius)).square()
    soft = distance / (0.1 + distance)
    return soft[..., radius:-radius, radius:-radius].mean()


_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def _smoothed(picture: Tensor, gain: float = 1.0) -> Tensor:
    """Smoothed by the binomial filter of five taps on each axis, the edge repeated."""
    channels = picture.shape[1]
    kernel = picture.new_tensor(_BINOMIAL) * gain
    padded = F.pad(picture, (2, 2, 2, 2), mode="replicate")
    across = F.conv2d(padded, kernel.view(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)
    return F.conv2d(across, kernel.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)


def _halved(picture: Tensor) -> Tensor:
    return _smoothed(picture)[..., ::2, ::2]


def _doubled(picture: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    return F.interpolate(picture, size=tuple(size), mode="bilinear", align_corners=False)


def _census(picture: Tensor, radius: int) -> Tensor:
    """`[B, (2 radius + 1)², H, W]`: neighbours less the pixel itself, squashed."""
    gray = picture.mul(picture.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    side = 2 * radius + 1
    height, width = gray.shape[-2:]
    padded = F.pad(gray, (radius,) * 4, mode="replicate")
    around = torch.cat([padded[..., y : y + height, x : x + width] for y in range(side) for x in range(side)], dim=1)
    difference = around - gray
    return difference / (0.81 + difference.square()).sqrt()
