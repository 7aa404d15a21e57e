"""The objective of a training step: the weighted sum of losses that the settings choose from one table, `LOSSES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.networks.base import InterpolationNetwork
from midframe.networks.guided import Guided, GuidedOutput
from midframe.ops import warp
from midframe.training.config import LossConfig
from midframe.training.data.batch import Batch
from midframe.training.train import losses
from midframe.training.train.losses import charbonnier_loss

FLOW_EPSILON = 1e-2
"""Added to the squared end-point error in pixels², so that its square root is differentiable at 0."""


def predict(
    network: InterpolationNetwork, batch: Batch, coarse_iterations: int | None = None
) -> tuple[Tensor, GuidedOutput | None]:
    """Predict the target frames `[B, 3, S, S]`, in 0..255; also return the output at every level if the network has it.

    coarse_iterations: how many times the coarsest decoder of `guided` runs; None chooses by frame size.
    """
    first, second = batch.first / 255, batch.second / 255
    if isinstance(network, Guided):
        output = network.predict(first, second, batch.time, coarse_iterations)
        return output.frame * 255, output
    predicted: Tensor = network(first, second, batch.time)
    return predicted * 255, None


def frame_losses(
    predicted: Tensor,
    target: Tensor,
    config: LossConfig,
    *,
    features: tuple[Tensor, Tensor, str] | None = None,
    logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the unweighted losses of the predicted frames, for every loss whose weight is non-zero.

    predicted, target: `[B, 3, S, S]` in 0..255. features: the VGG-19 features of the predicted and of the target frames
    and the name of their layer, for the perceptual loss. logits: the discriminator's logits `[B]` for the predicted
    frames, for the adversarial loss. A loss whose input is not given is left out.
    """
    arguments: dict[LossInput, tuple[Any, ...]] = {LossInput.FRAMES: (predicted, target)}
    if features is not None:
        arguments[LossInput.FEATURES] = features
    if logits is not None:
        arguments[LossInput.LOGITS] = (logits,)
    return {
        name: loss.function(*arguments[loss.input])
        for name, loss in LOSSES.items()
        if config.weights[name] and loss.input in arguments
    }


def flow_losses(output: GuidedOutput, batch: Batch, config: LossConfig) -> dict[str, Tensor]:
    """Return the unweighted losses of the optical flow, for every loss whose weight is non-zero.

    Each loss is the sum over the levels, from the finest to the coarsest. If the network padded the frames for some
    level, that level and the coarser ones are left out, because their pixels do not coincide with the target's.
    """
    names = [name for name, loss in LOSSES.items() if loss.input is LossInput.FLOW_LEVEL and config.weights[name]]
    totals = dict.fromkeys(names, batch.first.new_zeros(()))
    is_exact = batch.flow_is_exact.view(-1, 1, 1, 1)
    confidences = batch.flow_confidence * is_exact, batch.flow_confidence * (1 - is_exact)
    maps = torch.cat((batch.first, batch.second, batch.target, batch.flow, *confidences), 1)
    pixel_size = 1
    for flow, visibility in zip(output.flows[::-1], output.visibilities[::-1], strict=True):
        pixel_size *= 2
        if flow.shape[-1] * pixel_size != batch.first.shape[-1]:
            break
        maps = F.avg_pool2d(maps, 2)
        frames, target, true_flow, exact_confidence, teacher_confidence = torch.split(maps, [6, 3, 4, 1, 1], 1)
        error = (flow * pixel_size - true_flow).view(-1, 2, 2, *flow.shape[2:])
        end_point_error = (error.square().sum(2) + FLOW_EPSILON).sqrt().mean(1, keepdim=True)
        level = FlowLevel(frames, target, flow, visibility, end_point_error, exact_confidence, teacher_confidence)
        for name in names:
            totals[name] = totals[name] + LOSSES[name].function(level)
    return totals


def total_loss(values: dict[str, Tensor], config: LossConfig, progress: float) -> Tensor:
    """Return the weighted sum of the losses at a point of the run.

    progress: fraction of the run that is done, 0..1. The weights of fading losses fall linearly, to
    reach 0 at `fade_until`, but not below their final weight.
    """
    remaining = max(0.0, 1 - progress / config.fade_until) if config.fade_until else 0.0
    weights = {name: config.weights[name] * max(LOSSES[name].final_weight, remaining) for name in values}
    return torch.stack([values[name] * weights[name] for name in values]).sum()


@dataclass(frozen=True)
class FlowLevel:
    """The flow of one level of `guided` and what it is compared with, all at that level's resolution h x w."""

    frames: Tensor
    """The first and second frames, downsampled, `[B, 6, h, w]`, 0..255."""
    target: Tensor
    """The target frames, downsampled, `[B, 3, h, w]`, 0..255."""
    flow: Tensor
    """Estimated flow from the target to the first frame (x, y) and to the second, `[B, 4, h, w]`, in level pixels."""
    visibility: Tensor
    """Weight of the first frame in the blend, 0..1, `[B, 1, h, w]`."""
    end_point_error: Tensor
    """Distance between the estimated flow and the batch's flow, mean of both directions, `[B, 1, h, w]`, in pixels of
    the full resolution."""
    exact_confidence: Tensor
    """Confidence of the batch's flow if it is exact, else 0, `[B, 1, h, w]`."""
    teacher_confidence: Tensor
    """Confidence of the batch's flow if it is a teacher's estimate, else 0, `[B, 1, h, w]`."""

    @cached_property
    def warped(self) -> tuple[Tensor, Tensor]:
        """The first and the second frames warped to the target's time by the estimated flow, `[B, 3, h, w]` each."""
        size = self.frames.shape[2:]
        warped = warp(self.frames.reshape(-1, 3, *size), self.flow.reshape(-1, 2, *size))
        return warped[0::2], warped[1::2]


def blended_photometric_loss(level: FlowLevel) -> Tensor:
    """Return the Charbonnier loss of the warped frames blended by visibility."""
    first, second = level.warped
    return charbonnier_loss(torch.lerp(second, first, level.visibility), level.target)


def warped_photometric_loss(level: FlowLevel) -> Tensor:
    """Return the mean of the Charbonnier losses of the two warped frames."""
    first, second = level.warped
    return (charbonnier_loss(first, level.target) + charbonnier_loss(second, level.target)) / 2


def flow_loss(level: FlowLevel) -> Tensor:
    """Return the mean end-point error against exact flow, weighted by its confidence, in pixels."""
    return (level.end_point_error * level.exact_confidence).mean()


def flow_distillation_loss(level: FlowLevel) -> Tensor:
    """Return the mean end-point error against the teacher's flow, weighted by its confidence, in pixels."""
    return (level.end_point_error * level.teacher_confidence).mean()


class LossInput(Enum):
    """The inputs that a loss function is called with."""

    FRAMES = "the predicted and the target frames"
    FEATURES = "the VGG-19 features of the predicted and of the target frames, and the name of their layer"
    LOGITS = "the discriminator's logits for the predicted frames"
    FLOW_LEVEL = "a FlowLevel; the loss is the sum over the levels"


@dataclass(frozen=True)
class Loss:
    """An entry of the table of losses."""

    function: Callable[..., Tensor]
    """Computes the unweighted loss, a scalar."""
    input: LossInput
    """The arguments of the function."""
    final_weight: float = 1.0
    """Fraction of the configured weight that remains once fading has ended; 1 for a loss that does not fade."""


LOSSES: dict[str, Loss] = {
    "perceptual": Loss(losses.perceptual_loss, LossInput.FEATURES),
    "adversarial": Loss(losses.adversarial_loss, LossInput.LOGITS),
    "reconstruction": Loss(losses.reconstruction_loss, LossInput.FRAMES),
    "luminosity": Loss(losses.luminosity_loss, LossInput.FRAMES),
    "charbonnier": Loss(losses.charbonnier_loss, LossInput.FRAMES),
    "log_mse": Loss(losses.log_mse_loss, LossInput.FRAMES),
    "laplacian": Loss(losses.laplacian_loss, LossInput.FRAMES),
    "census": Loss(losses.census_loss, LossInput.FRAMES),
    "blended_photometric": Loss(blended_photometric_loss, LossInput.FLOW_LEVEL),
    "warped_photometric": Loss(warped_photometric_loss, LossInput.FLOW_LEVEL, final_weight=0.0),
    "flow": Loss(flow_loss, LossInput.FLOW_LEVEL, final_weight=0.25),
    "flow_distillation": Loss(flow_distillation_loss, LossInput.FLOW_LEVEL, final_weight=0.0),
}
"""All losses by their names in the settings (`LossConfig`)."""
