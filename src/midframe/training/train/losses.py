"""The losses of training, each a function of pictures `[B, 3, H, W]` in RGB, 0..255.

The scale is the report's, so that its weights mean what they meant. The first five are the report's (section 3 and
"Luminosity loss"); the last three serve the motion-guided network.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PERCEPTUAL_LAYER = "relu4_4"
"""The report's layer of VGG-19; features of any other one are divided by their mean square."""

BT601 = (0.299, 0.587, 0.114)
BT709 = (0.2126, 0.7152, 0.0722)
"""Shares of red, green and blue in the luma."""


def perceptual_loss(made: Tensor, true: Tensor, layer: str = PERCEPTUAL_LAYER) -> Tensor:
    """Mean squared difference of VGG-19 features `[B, C, h, w]` of the made and the true frame.

    Of another layer than `relu4_4` each picture's is divided by the mean square of its true features, so that the
    weight keeps its meaning while activations differ from layer to layer. (Not by the batch's: the loss of a batch is
    the mean of its parts'.)
    """
    if layer == PERCEPTUAL_LAYER:
        return F.mse_loss(made, true)
    apart, size = (x.square().flatten(1).mean(1) for x in (made - true, true.detach()))
    return (apart / size.clamp_min(1e-12)).mean()


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


def luminosity_loss(made: Tensor, true: Tensor, luma: tuple[float, float, float] = BT601) -> Tensor:
    """Mean squared difference of the luma, 0.299 R + 0.587 G + 0.114 B. The report set it aside; its code has BT709."""
    return _gray(made - true, luma).square().mean()


def charbonnier_loss(made: Tensor, true: Tensor, epsilon: float = 0.255) -> Tensor:
    """Mean of sqrt(difference² + epsilon²): an absolute difference that is smooth at 0."""
    distance: Tensor = ((made - true).square() + epsilon * epsilon).sqrt()
    return distance.mean()


def decibels_loss(made: Tensor, true: Tensor) -> Tensor:
    """Mean over the pictures of 10 log10(1 + mean squared difference): but for the 1, what PSNR lacks to 48.13 dB.

    Every picture counts alike, also where little can be known: gradients do not grow with what differs.
    """
    return 10 * torch.log10(1 + (made - true).square().flatten(1).mean(1)).mean()


def laplacian_loss(made: Tensor, true: Tensor, levels: int = 5) -> Tensor:
    """Mean absolute difference of Laplacian pyramids, that of level k times 2^k; after Niklaus and Liu, CVPR 2018.

    A level is what is lost by halving the one before (by 1 3 3 1 on each axis) and doubling it again (bilinear); the
    last one is what is left. Levels stop where a side would fall below 8 pixels.
    """
    difference = made - true  # a pyramid is linear: the difference of two is that of the difference
    total = difference.new_zeros(())
    for level in range(levels):
        height, width = difference.shape[-2:]
        weight = float(2**level)
        if level == levels - 1 or min(height, width) < 15:
            return total + weight * difference.abs().mean()
        half = ((height + 1) // 2, (width + 1) // 2)
        small = F.interpolate(difference, size=half, mode="bilinear", antialias=True, align_corners=False)
        doubled = F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
        total = total + weight * (difference - doubled).abs().mean()
        difference = small
    return total


def census_loss(made: Tensor, true: Tensor, radius: int = 3) -> Tensor:
    """How differently two pictures order the gray of their neighbouring pixels; after Meister et al., AAAI 2018.

    For each pair of pixels at most `radius` apart on each axis, u is their difference of gray, squashed to -1..1 by
    x / sqrt(0.81 + x²); d = u(made) − u(true); the loss is the mean of d² / (0.1 + d²), each direction in which a
    neighbour may lie counting alike. So brightness does not count, only structure. Meister et al. look at each pair
    twice, from either pixel, with the same result.
    """
    loss: Tensor = _Census.apply(_gray(made, BT601), _gray(true, BT601), radius)  # type: ignore[no-untyped-call]
    return loss


def _gray(picture: Tensor, luma: tuple[float, float, float]) -> Tensor:
    """`[B, H, W]` of `[B, 3, H, W]`."""
    red, green, blue = picture.unbind(1)
    return red * luma[0] + green * luma[1] + blue * luma[2]


class _Census(torch.autograd.Function):
    """The census loss of grays `[B, H, W]`. Both gradients are worked out on the way: nothing is kept per pair."""

    @staticmethod
    def forward(ctx: Any, made: Tensor, true: Tensor, radius: int) -> Tensor:
        height, width = made.shape[-2:]
        pairs = [
            (_apart(dy, height), _apart(dx, width))
            for dy in range(min(radius, height - 1) + 1)
            for dx in range(-min(radius, width - 1), min(radius, width - 1) + 1)
            if (dy, dx) > (0, 0)
        ]
        grays = (made, true)
        gradients = [torch.zeros_like(gray) if ctx.needs_input_grad[k] else None for k, gray in enumerate(grays)]
        total = made.new_zeros(())
        for (there_y, here_y), (there_x, here_x) in pairs:
            there, here = (..., there_y, there_x), (..., here_y, here_x)
            squashed, slopes = [], []
            for gray in grays:
                apart = gray[there] - gray[here]
                slope = (apart * apart).add_(0.81).rsqrt_()
                squashed.append(apart.mul_(slope))
                slopes.append(slope)
            d = squashed[0].sub_(squashed[1])
            square = d * d
            weight = (square + 0.1).reciprocal_()
            total += square.mul_(weight).mean()
            # d/dx of x / sqrt(0.81 + x²) is 0.81 slope³, d/dd of d² / (0.1 + d²) is 0.2 d weight².
            outer = d.mul_(weight).mul_(weight).mul_(0.2 * 0.81 / (d.numel() * len(pairs)))
            for gradient, slope, sign in zip(gradients, slopes, (1, -1), strict=True):
                if gradient is not None:
                    change = (slope * slope).mul_(slope).mul_(outer)
                    gradient[there].add_(change, alpha=sign)
                    gradient[here].sub_(change, alpha=sign)
        ctx.save_for_backward(*gradients)
        return total / max(1, len(pairs))

    @staticmethod
    def backward(ctx: Any, *wanted: Any) -> tuple[Tensor | None, Tensor | None, None]:
        made, true = (None if gradient is None else gradient * wanted[0] for gradient in ctx.saved_tensors)
        return made, true, None


def _apart(step: int, size: int) -> tuple[slice, slice]:
    """Along an axis, all that have one `step` before them, and those."""
    return slice(max(step, 0), size + min(step, 0)), slice(max(-step, 0), size - max(step, 0))
