"""What a training step minimises: the losses of a batch, weighted and added up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.networks.base import InterpolationNetwork
from midframe.networks.guided import Guided, GuidedOutput
from midframe.ops import warp
from midframe.training.config import GUIDED_LOSSES, Losses
from midframe.training.data.batch import Batch
from midframe.training.train import losses
from midframe.training.train.losses import charbonnier_loss


def picture_losses(
    made: Tensor,
    batch: Batch,
    weights: Losses,
    *,
    features: tuple[Tensor, Tensor] | None = None,
    layer: str = "",
    logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """The losses of made frames `[B, 3, S, S]`, 0..255, that have a weight, each by its name, not weighted.

    features: VGG-19's of the made frames and of the targets at `layer`, for the perceptual loss. logits: the
    discriminator's of the made frames, for the adversarial loss.
    """
    found: dict[str, Tensor] = {}
    if weights.perceptual and features is not None:
        found["perceptual"] = losses.perceptual_loss(*features, layer)
    if weights.adversarial and logits is not None:
        found["adversarial"] = losses.adversarial_loss(logits)
    for name in ("reconstruction", "luminosity", "charbonnier", "decibels", "laplacian", "census"):
        if getattr(weights, name):
            found[name] = getattr(losses, f"{name}_loss")(made, batch.target)
    return found


def level_losses(levels: GuidedOutput, batch: Batch, weights: Losses) -> dict[str, Tensor]:
    """The losses of the motions at every level that have a weight, each the sum over the levels, not weighted.

    Distances of motion are means in pixels of the picture, so a level counts as much as another.
    """
    found = dict.fromkeys((name for name in GUIDED_LOSSES if getattr(weights, name)), batch.first.new_zeros(()))
    exact = batch.flow_is_exact.view(-1, 1, 1, 1)
    trusts = batch.flow_confidence * exact, batch.flow_confidence * (1 - exact)
    maps, step = torch.cat((batch.first, batch.second, batch.target, batch.flow, *trusts), 1), 1
    for motion, blend in zip(levels.flows[::-1], levels.visibilities[::-1], strict=True):
        step *= 2
        if motion.shape[-1] * step != batch.first.shape[-1]:  # of a padded picture: they do not lie on the target's
            break
        maps = F.avg_pool2d(maps, 2)
        frames, target, true, *trusted = torch.split(maps, [6, 3, 4, 1, 1], 1)
        if "merged" in found or "warped" in found:
            moved = warp(frames.reshape(-1, 3, *frames.shape[2:]), motion.reshape(-1, 2, *motion.shape[2:]))
            first, second = moved[0::2], moved[1::2]
            if "merged" in found:
                found["merged"] = found["merged"] + charbonnier_loss(torch.lerp(second, first, blend), target)
            if "warped" in found:
                either = charbonnier_loss(first, target) + charbonnier_loss(second, target)
                found["warped"] = found["warped"] + either / 2
        apart = (motion * step - true).view(-1, 2, 2, *motion.shape[2:])
        distance = (apart.square().sum(2) + 1e-2).sqrt().mean(1, keepdim=True)
        for name, trust in zip(("motion", "teacher"), trusted, strict=True):
            if name in found:
                found[name] = found[name] + (distance * trust).mean()
    return found


def weighted(found: dict[str, Tensor], weights: Losses, progress: float) -> Tensor:
    """The weighted sum of losses, `progress` (0..1) of the run through."""
    fading = max(0.0, 1 - progress / weights.fade) if weights.fade else 0.0
    faded = {"warped": fading, "teacher": fading, "motion": max(0.25, fading)}
    return torch.stack([found[name] * (getattr(weights, name) * faded.get(name, 1.0)) for name in found]).sum()


def make(network: InterpolationNetwork, batch: Batch, depth: int | None = None) -> tuple[Tensor, GuidedOutput | None]:
    """The made frames in 0..255, and the levels where the network is a guided one."""
    first, second = batch.first / 255, batch.second / 255
    if isinstance(network, Guided):
        levels = network.predict(first, second, batch.time, depth)
        return levels.frame * 255, levels
    made: Tensor = network(first, second, batch.time)
    return made * 255, None
