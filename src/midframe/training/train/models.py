"""The two players of a training run, and one step of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from midframe.errors import SettingError
from midframe.networks import load, network_class
from midframe.networks.base import InterpolationNetwork
from midframe.networks.discriminator import BASE_LAYER, Discriminator, layer_channels
from midframe.networks.guided import Guided
from midframe.networks.paper import Paper
from midframe.networks.vgg import Vgg19, choose_layer, find_vgg19, load_vgg19
from midframe.training.config import Config, Losses, Optimiser
from midframe.training.data.batch import Batch
from midframe.training.distributed import World
from midframe.training.train.losses import discriminator_loss
from midframe.training.train.objective import level_losses, make, picture_losses, weighted


@dataclass
class Players:
    """The network and, where the adversarial loss has a weight, the discriminator, each with its optimiser."""

    network: InterpolationNetwork
    optimiser: torch.optim.Optimizer
    vgg: Vgg19 | None
    layer: str
    """Of VGG-19, for the perceptual loss."""
    discriminator: Discriminator | None
    base: str
    """The layer of VGG-19 that the discriminator looks at."""
    discriminator_optimiser: torch.optim.Optimizer | None
    mixed: bool
    """Whether VGG-19 and the discriminator work in bfloat16, as the network does; losses never do."""

    def see(self, pictures: Tensor) -> dict[str, Tensor]:
        """VGG-19's features of pictures in 0..255 at the layers that are looked at."""
        assert self.vgg is not None
        with self._precision(pictures):
            found: dict[str, Tensor] = self.vgg(pictures, {layer for layer in (self.layer, self.base) if layer})
        return {name: features.to(pictures.dtype) for name, features in found.items()}

    def judge(self, features: Tensor) -> Tensor:
        """The discriminator's logits `[B]`."""
        assert self.discriminator is not None
        with self._precision(features):
            logits: Tensor = self.discriminator(features)
        return logits.to(features.dtype)

    def losses(self, made: Tensor, batch: Batch, weights: Losses) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The losses of made frames, 0..255, that have a weight, each by its name, not weighted.

        Also what the discriminator learns from, where there is one: the features of the targets and of the made frames.
        """
        if self.vgg is None:
            return picture_losses(made, batch, weights), []
        with torch.no_grad():
            true = self.see(batch.target)
        seen = self.see(made)
        features = (seen[self.layer], true[self.layer]) if self.layer else None
        logits = None if self.discriminator is None else self.judge(seen[self.base])
        found = picture_losses(made, batch, weights, features=features, layer=self.layer, logits=logits)
        return found, [true[self.base], seen[self.base].detach()] if self.base else []

    def _precision(self, pictures: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(pictures.device.type, torch.bfloat16) if self.mixed else nullcontext()


def players(config: Config, device: torch.device) -> Players:
    """Build both players on a device; weights are drawn from the run's seed."""
    torch.manual_seed(config.seed)
    kind = torch.float64 if config.precision == "float64" else torch.float32
    if config.start is None:
        try:
            network = network_class(config.network)(**config.settings)
        except TypeError as error:
            raise SettingError(f"{config.network} does not take the settings {config.settings}: {error}") from error
    else:
        network = load(config.start)
        if type(network) is not network_class(config.network):
            found = type(network).__name__.lower()
            raise SettingError(f"{config.start} holds weights of {found}; this run trains {config.network}")
    if not list(network.parameters()):
        raise SettingError(f"the network {config.network} has nothing to train")
    precision = config.precision
    if precision == "auto" and config.network == "paper":
        precision = "bfloat16" if device.type == "cuda" else "float32"
    if isinstance(network, (Guided, Paper)):
        network.precision = "float32" if precision == "float64" else precision
    network.to(device, kind).train()
    weights, vgg, discriminator, layer, base = config.losses, None, None, "", ""
    if weights.perceptual or weights.adversarial:
        vgg = load_vgg19(weights.vgg or find_vgg19()).to(device, kind)
        layer = choose_layer(vgg, weights.layer) if weights.perceptual else ""
    if vgg is not None and weights.adversarial:
        base = choose_layer(vgg, config.discriminator.base)
        dropout = config.discriminator.dropout
        discriminator = Discriminator(layer_channels(base), normalise_input=base != BASE_LAYER, dropout=dropout).to(
            device, kind
        )
    return Players(
        network,
        _optimiser(network, config.optimiser.rate, config.optimiser.weight_decay),
        vgg,
        layer,
        discriminator,
        base,
        None if discriminator is None else _optimiser(discriminator, config.discriminator.rate, 0.0),
        mixed=precision == "bfloat16",
    )


def network_step(
    who: Players,
    batch: Batch,
    config: Config,
    progress: float,
    depth: int | None,
    world: World,
    pool: ThreadPoolExecutor,
) -> tuple[dict[str, float], list[Tensor | None], list[Tensor]]:
    """The network's losses on a batch and the gradients of its weights: nothing is moved yet.

    Also what the discriminator learns from (`Players.losses`).

    The batch is worked on in `config.shares` parts side by side; losses and gradients are means over the parts in order
    and then over the processes, so they do not depend on who is done first. Only the network's weights have gradients.
    """
    weights = [weight for weight in who.network.parameters() if weight.requires_grad]

    def share(index: int) -> tuple[dict[str, Tensor], Sequence[Tensor | None], list[Tensor]]:
        part = batch.micro_batch(index, config.shares)
        made, levels = make(who.network, part, depth)
        found, seen = who.losses(made, part, config.losses)
        if levels is not None:
            found |= level_losses(levels, part, config.losses)
        total = weighted(found, config.losses, progress)
        gradients = torch.autograd.grad(total, weights, allow_unused=True)
        return {name: loss.detach() for name, loss in {**found, "total": total}.items()}, gradients, seen

    parts = list(pool.map(share, range(config.shares))) if config.shares > 1 else [share(0)]
    losses, gradients, seen = zip(*parts, strict=True)
    means = [_mean(each) for each in zip(*gradients, strict=True)]
    agreed = iter(world.mean([gradient for gradient in means if gradient is not None]))
    said = {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}
    return (
        _numbers(said, world),
        [None if gradient is None else next(agreed) for gradient in means],
        [torch.cat(each) for each in zip(*seen, strict=True)],
    )


def discriminator_step(
    who: Players, features: Sequence[Tensor], config: Config, world: World
) -> tuple[dict[str, float], list[Tensor]]:
    """The discriminator's loss on the features of true and of made frames, and the gradients of its weights.

    Also how often it is right on true and on made frames, 0..1. Nothing where there is no discriminator.
    """
    if who.discriminator is None:
        return {}, []
    true, made = (who.judge(each) for each in features)
    loss = discriminator_loss(true, made, config.discriminator.smoothing)
    gradients = world.mean(torch.autograd.grad(loss, list(who.discriminator.parameters())))
    right = {"true_right": true > 0, "made_right": made < 0}
    said = {"discriminator": loss.detach()} | {name: each.to(loss.dtype).mean() for name, each in right.items()}
    return _numbers(said, world), gradients


def move(
    optimiser: torch.optim.Optimizer, gradients: Sequence[Tensor | None], rate: float, how: Optimiser | None = None
) -> float:
    """One step of an optimiser by these gradients, clipped as told; returns their norm before clipping.

    A norm that is not finite moves nothing.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for weight, gradient in zip(weights, gradients, strict=True):
        # A fused optimiser on a CPU reads both as they lie in memory: other strides would be other numbers.
        alike = gradient is None or gradient.stride() == weight.stride()
        weight.grad = gradient if alike or gradient is None else torch.empty_like(weight).copy_(gradient)
    if how is not None and how.clip_each is not None:
        for weight in weights:
            nn.utils.clip_grad_norm_(weight, how.clip_each)
    limit = how.clip if how is not None and how.clip is not None else float("inf")
    norm = float(nn.utils.clip_grad_norm_(weights, limit))
    if math.isfinite(norm):
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm


def _numbers(said: dict[str, Tensor], world: World) -> dict[str, float]:
    """Scalars as numbers, each the mean over the processes."""
    return dict(zip(said, world.mean([torch.stack(list(said.values()))])[0].tolist(), strict=True))


def _mean(tensors: Sequence[Tensor | None]) -> Tensor | None:
    given = [tensor for tensor in tensors if tensor is not None]
    if not given:
        return None
    total = given[0]
    for tensor in given[1:]:
        total = total + tensor
    return total / len(tensors)


def _optimiser(network: nn.Module, rate: float, decay: float) -> torch.optim.Optimizer:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.999), weight_decay=decay, fused=True)
