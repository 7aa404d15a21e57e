"""Loss functions on frames, VGG-19 features and discriminator logits.

Frames are `[B, 3, H, W]`, RGB in 0..255, the scale of the report's loss weights. Each loss is a scalar and a mean over
the batch, so the loss of a batch is the mean of the losses of its equal parts. `objective.LOSSES` is the table of the
losses that a run can choose from. "The report" is Sergio Pedri's (see docs/glossary.md); its section 3 is the source
unless a docstring gives another.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PERCEPTUAL_LAYER = "relu4_4"
"""The report's VGG-19 layer; features of any other layer are divided by their mean square."""

BT601 = (0.299, 0.587, 0.114)
"""Luma coefficients of red, green and blue in ITU-R BT.601."""

BT709 = (0.2126, 0.7152, 0.0722)
"""Luma coefficients of red, green and blue in ITU-R BT.709."""

CHARBONNIER_EPSILON = 0.255
"""Difference in 0..255 below which the Charbonnier loss is quadratic rather than absolute."""


def perceptual_loss(predicted: Tensor, target: Tensor, layer: str = PERCEPTUAL_LAYER) -> Tensor:
    """Return the mean squared difference of VGG-19 features `[B, C, h, w]` of the predicted and target frames.

    For layers other than `relu4_4` the result of each sample is divided by the mean square of its target features,
    because the magnitude of activations differs between layers. (The batch's mean square would make the loss of a batch
    differ from the mean of the losses of its parts.)
    """
    if layer == PERCEPTUAL_LAYER:
        return F.mse_loss(predicted, target)
    error = (predicted - target).square().flatten(1).mean(1)
    magnitude = target.detach().square().flatten(1).mean(1)
    return (error / magnitude.clamp_min(1e-12)).mean()


def reconstruction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error."""
    return F.l1_loss(predicted, target)


def adversarial_loss(logits: Tensor) -> Tensor:
    """Return the non-saturating generator loss -log sigmoid(D(predicted)) of the discriminator's logits `[B]`."""
    return F.softplus(-logits).mean()


def discriminator_loss(target_logits: Tensor, predicted_logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the discriminator's binary cross-entropy: target frames have label 1, predicted frames label 0.

    target_logits, predicted_logits: `[B]`. label_smoothing: how far the label of target frames lies below 1 (0.125 in
    the author's code).
    """
    labels = torch.full_like(target_logits, 1 - label_smoothing)
    target_loss = F.binary_cross_entropy_with_logits(target_logits, labels)
    return target_loss + F.binary_cross_entropy_with_logits(predicted_logits, torch.zeros_like(predicted_logits))


def luminosity_loss(predicted: Tensor, target: Tensor, coefficients: tuple[float, float, float] = BT601) -> Tensor:
    """Return the mean squared error of the luma.

    coefficients: of red, green and blue. The report has BT.601, its author's code BT.709.
    """
    return _luma(predicted - target, coefficients).square().mean()


def charbonnier_loss(predicted: Tensor, target: Tensor, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Return the mean of sqrt(difference² + epsilon²), an absolute error that is differentiable at 0."""
    distance: Tensor = ((predicted - target).square() + epsilon * epsilon).sqrt()
    return distance.mean()


def log_mse_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean over the batch of 10 log10(1 + MSE), the MSE being that of one sample.

    Without the 1 this is 48.13 dB minus the sample's PSNR. The gradient of a sample does not grow with its error, so
    samples that cannot be predicted do not dominate the batch.
    """
    return 10 * torch.log10(1 + (predicted - target).square().flatten(1).mean(1)).mean()


def laplacian_loss(predicted: Tensor, target: Tensor, levels: int = 5) -> Tensor:
    """Return the mean absolute error of Laplacian pyramids, level k weighted by 2^k.

    A level is the difference between a picture and its half-size version upsampled again. Downsampling filters with
    (1 3 3 1)/8 per axis, upsampling is bilinear. The last level is the remaining low-pass picture. There are fewer than
    `levels` levels if a side would become shorter than 8 pixels. Source: Niklaus and Liu, CVPR 2018.
    """
    residual = predicted - target  # the pyramid is linear, so one pyramid of the difference suffices
    total = residual.new_zeros(())
    for level in range(levels):
        height, width = residual.shape[-2:]
        weight = float(2**level)
        if level == levels - 1 or min(height, width) < 15:
            return total + weight * residual.abs().mean()
        half_size = ((height + 1) // 2, (width + 1) // 2)
        half = F.interpolate(residual, size=half_size, mode="bilinear", antialias=True, align_corners=False)
        upsampled = F.interpolate(half, size=(height, width), mode="bilinear", align_corners=False)
        total = total + weight * (residual - upsampled).abs().mean()
        residual = half
    return total


def census_loss(predicted: Tensor, target: Tensor, radius: int = 3) -> Tensor:
    """Return the census loss, which compares the luma differences between neighbouring pixels of two frames.

    For each pair of pixels at most `radius` apart on either axis, let x be the difference of their luma,
    u = x / sqrt(0.81 + x²), and d = u in the predicted frame - u in the target frame. The loss is the mean of
    d² / (0.1 + d²) over all pairs with the same offset, then over the offsets. It depends on structure, not on
    brightness. Source: Meister et al., AAAI 2018, who count each pair twice, with the same result.
    """
    loss: Tensor = _Census.apply(_luma(predicted, BT601), _luma(target, BT601), radius)  # type: ignore[no-untyped-call]
    return loss


def _luma(frames: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """Return the luma `[B, H, W]` of frames `[B, 3, H, W]`."""
    red, green, blue = frames.unbind(1)
    return red * coefficients[0] + green * coefficients[1] + blue * coefficients[2]


class _Census(torch.autograd.Function):
    """The census loss of luma pictures `[B, H, W]`.

    The forward pass also computes both gradients, so that no tensor per offset has to be saved for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, target: Tensor, radius: int) -> Tensor:
        height, width = predicted.shape[-2:]
        offsets = [
            (dy, dx)
            for dy in range(min(radius, height - 1) + 1)
            for dx in range(-min(radius, width - 1), min(radius, width - 1) + 1)
            if (dy, dx) > (0, 0)
        ]
        pictures = (predicted, target)
        gradients = [torch.zeros_like(luma) if ctx.needs_input_grad[k] else None for k, luma in enumerate(pictures)]
        total = predicted.new_zeros(())
        for dy, dx in offsets:
            (neighbour_rows, rows), (neighbour_columns, columns) = _shifted(dy, height), _shifted(dx, width)
            neighbour, pixel = (..., neighbour_rows, neighbour_columns), (..., rows, columns)
            squashed, slopes = [], []  # u(x) and 1 / sqrt(0.81 + x²), of both pictures
            for luma in pictures:
                difference = luma[neighbour] - luma[pixel]
                slope = (difference * difference).add_(0.81).rsqrt_()
                squashed.append(difference.mul_(slope))
                slopes.append(slope)
            d = squashed[0].sub_(squashed[1])
            d_squared = d * d
            weight = (d_squared + 0.1).reciprocal_()
            total += d_squared.mul_(weight).mean()
            # Chain rule: u'(x) = 0.81 slope³, and the derivative of d² / (0.1 + d²) is 0.2 d weight².
            outer_derivative = d.mul_(weight).mul_(weight).mul_(0.2 * 0.81 / (d.numel() * len(offsets)))
            for gradient, slope, sign in zip(gradients, slopes, (1, -1), strict=True):
                if gradient is not None:
                    change = (slope * slope).mul_(slope).mul_(outer_derivative)
                    gradient[neighbour].add_(change, alpha=sign)
                    gradient[pixel].sub_(change, alpha=sign)
        ctx.save_for_backward(*gradients)
        return total / max(1, len(offsets))

    @staticmethod
    def backward(ctx: Any, *output_gradients: Any) -> tuple[Tensor | None, Tensor | None, None]:
        predicted, target = (
            None if gradient is None else gradient * output_gradients[0] for gradient in ctx.saved_tensors
        )
        return predicted, target, None


def _shifted(offset: int, size: int) -> tuple[slice, slice]:
    """Return two slices of an axis that pair each element i + offset (first slice) with element i (second slice)."""
    return slice(max(offset, 0), size + min(offset, 0)), slice(max(-offset, 0), size - max(offset, 0))
