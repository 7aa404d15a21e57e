"""The parts of a training step: the losses and gradients of generator and discriminator, and the optimiser's update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from midframe.training.config import OptimiserConfig, TrainingConfig
from midframe.training.data.batch import Batch
from midframe.training.distributed import World
from midframe.training.train.losses import discriminator_loss
from midframe.training.train.models import FeaturePair, Models
from midframe.training.train.objective import flow_losses, predict, total_loss


@dataclass(frozen=True)
class GeneratorStep:
    """The generator's losses and gradients on one batch."""

    losses: dict[str, float]
    """Unweighted losses by name, and their weighted sum as `total`; means over all processes."""
    gradients: list[Tensor | None]
    """Gradient of each trainable parameter, averaged over all processes; None if the loss does not depend on it."""
    features: FeaturePair | None
    """The discriminator's training data, if there is a discriminator."""


@dataclass(frozen=True)
class DiscriminatorStep:
    """The discriminator's loss and gradients on one batch."""

    losses: dict[str, float]
    """`discriminator` (the loss), `target_accuracy` and `predicted_accuracy` (fraction of the target and of the
    predicted frames that it classifies correctly); means over all processes."""
    gradients: list[Tensor]
    """Gradient of each of its parameters, averaged over all processes."""


def generator_step(
    models: Models,
    batch: Batch,
    config: TrainingConfig,
    *,
    progress: float,
    coarse_iterations: int | None,
    world: World,
    threads: ThreadPoolExecutor,
) -> GeneratorStep:
    """Compute the generator's losses and gradients on a batch, without changing any weights.

    progress: fraction of the run that is done, 0..1. coarse_iterations: see `objective.predict`. The batch is split
    into `config.micro_batches` parts, which `threads` process in parallel. Results are averaged over the parts in their
    order, so they do not depend on timing.
    """
    weights = [weight for weight in models.generator.parameters() if weight.requires_grad]

    def process(index: int) -> tuple[dict[str, Tensor], Sequence[Tensor | None], FeaturePair | None]:
        micro_batch = batch.micro_batch(index, config.micro_batches)
        predicted, output = predict(models.generator, micro_batch, coarse_iterations)
        losses, features = models.frame_losses(predicted, micro_batch, config.losses)
        if output is not None:
            losses |= flow_losses(output, micro_batch, config.losses)
        total = total_loss(losses, config.losses, progress)
        gradients = torch.autograd.grad(total, weights, allow_unused=True)
        return {name: loss.detach() for name, loss in {**losses, "total": total}.items()}, gradients, features

    parallel = config.micro_batches > 1
    parts = list(threads.map(process, range(config.micro_batches))) if parallel else [process(0)]
    losses, gradients, features = zip(*parts, strict=True)
    mean_losses = {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}
    mean_gradients = [_mean(each) for each in zip(*gradients, strict=True)]
    reduced = iter(world.all_reduce_mean([gradient for gradient in mean_gradients if gradient is not None]))
    return GeneratorStep(
        losses=_reduce_losses(mean_losses, world),
        gradients=[None if gradient is None else next(reduced) for gradient in mean_gradients],
        features=_concatenate([pair for pair in features if pair is not None]),
    )


def discriminator_step(
    models: Models, features: FeaturePair, config: TrainingConfig, world: World
) -> DiscriminatorStep:
    """Compute the discriminator's loss and gradients on the features of target and predicted frames."""
    assert models.discriminator is not None
    target_logits, predicted_logits = models.discriminate(features.target), models.discriminate(features.predicted)
    loss = discriminator_loss(target_logits, predicted_logits, config.discriminator.label_smoothing)
    gradients = world.all_reduce_mean(torch.autograd.grad(loss, list(models.discriminator.parameters())))
    losses = {
        "discriminator": loss.detach(),
        "target_accuracy": (target_logits > 0).to(loss.dtype).mean(),
        "predicted_accuracy": (predicted_logits < 0).to(loss.dtype).mean(),
    }
    return DiscriminatorStep(_reduce_losses(losses, world), gradients)


def optimiser_step(
    optimiser: torch.optim.Optimizer,
    gradients: Sequence[Tensor | None],
    learning_rate: float,
    clipping: OptimiserConfig | None = None,
) -> float:
    """Clip the gradients and apply one step of an optimiser; return the norm of all gradients together.

    clipping: the settings with the limits of the norms; None for no clipping. The norm is taken before clipping by
    `clip_norm`, but after `clip_norm_per_tensor`. If it is not finite, the weights are not changed.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for weight, gradient in zip(weights, gradients, strict=True):
        # The fused CPU optimiser ignores strides, so each gradient must share its parameter's memory layout.
        has_same_layout = gradient is None or gradient.stride() == weight.stride()
        weight.grad = gradient if has_same_layout or gradient is None else torch.empty_like(weight).copy_(gradient)
    if clipping is not None and clipping.clip_norm_per_tensor is not None:
        for weight in weights:
            nn.utils.clip_grad_norm_(weight, clipping.clip_norm_per_tensor)
    limit = clipping.clip_norm if clipping is not None and clipping.clip_norm is not None else float("inf")
    norm = float(nn.utils.clip_grad_norm_(weights, limit))
    if math.isfinite(norm):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm


def _reduce_losses(losses: dict[str, Tensor], world: World) -> dict[str, float]:
    """Return scalar losses as numbers, each the mean over all processes."""
    means = world.all_reduce_mean([torch.stack(list(losses.values()))])[0]
    return dict(zip(losses, means.tolist(), strict=True))


def _mean(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Return the mean of a parameter's gradients over the micro-batches, None counting as 0; None if all are None."""
    present = [gradient for gradient in gradients if gradient is not None]
    if not present:
        return None
    total = present[0]
    for gradient in present[1:]:
        total = total + gradient
    return total / len(gradients)


def _concatenate(pairs: Sequence[FeaturePair]) -> FeaturePair | None:
    """Join the features of the micro-batches to those of the batch; None if there are none."""
    if not pairs:
        return None
    return FeaturePair(torch.cat([pair.target for pair in pairs]), torch.cat([pair.predicted for pair in pairs]))
