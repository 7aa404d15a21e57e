"""The models of a training run: generator, VGG-19 and discriminator, with their optimisers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from midframe.errors import SettingError
from midframe.networks import load, network_class
from midframe.networks.base import InterpolationNetwork
from midframe.networks.discriminator import BASE_LAYER, Discriminator, layer_channels
from midframe.networks.guided import Guided
from midframe.networks.paper import Paper
from midframe.networks.vgg import Vgg19, choose_layer, find_vgg19, load_vgg19
from midframe.training.config import LossConfig, Precision, TrainingConfig
from midframe.training.data.batch import Batch
from midframe.training.train.objective import frame_losses


def build_models(config: TrainingConfig, device: torch.device) -> Models:
    """Build the models of a run on a device; random initial weights are determined by the run's seed.

    VGG-19 is loaded if the weight of the perceptual or of the adversarial loss is non-zero, and a discriminator is
    built if that of the adversarial loss is. Raises `SettingError` if the network does not exist, does not take its
    settings, has no parameters or differs from the network whose weights `init_from` holds; `WeightsError` if a weights
    file cannot be read.
    """
    torch.manual_seed(config.seed)
    dtype = model_dtype(config)
    generator = _build_generator(config)
    precision = _resolve_precision(config, device)
    if isinstance(generator, (Guided, Paper)):
        generator.precision = "float32" if precision == "float64" else precision
    generator.to(device, dtype).train()
    losses = config.losses
    vgg, discriminator, perceptual_layer, discriminator_layer = None, None, "", ""
    if losses.perceptual or losses.adversarial:
        vgg = load_vgg19(losses.vgg_file or find_vgg19()).to(device, dtype)
        perceptual_layer = choose_layer(vgg, losses.vgg_layer) if losses.perceptual else ""
    if vgg is not None and losses.adversarial:
        discriminator_layer = choose_layer(vgg, config.discriminator.vgg_layer)
        discriminator = Discriminator(
            layer_channels(discriminator_layer),
            normalise_input=discriminator_layer != BASE_LAYER,
            dropout=config.discriminator.dropout,
        ).to(device, dtype)
    return Models(
        generator=generator,
        generator_optimiser=_build_optimiser(generator, config.optimiser.learning_rate, config.optimiser.weight_decay),
        vgg=vgg,
        perceptual_layer=perceptual_layer,
        discriminator=discriminator,
        discriminator_layer=discriminator_layer,
        discriminator_optimiser=None
        if discriminator is None
        else _build_optimiser(discriminator, config.discriminator.learning_rate, weight_decay=0.0),
        autocast=precision == "bfloat16",
    )


def model_dtype(config: TrainingConfig) -> torch.dtype:
    """Return the type of the weights and of the batches of a run."""
    return torch.float64 if config.precision == "float64" else torch.float32


@dataclass(frozen=True)
class FeaturePair:
    """The discriminator's training data in one step: VGG-19 features `[B, C, h, w]`."""

    target: Tensor
    """Features of the target frames."""
    predicted: Tensor
    """Features of the predicted frames, detached from the generator."""


@dataclass(frozen=True)
class Models:
    """The models of a run and their optimisers. VGG-19 and the discriminator are present only if a loss needs them."""

    generator: InterpolationNetwork
    """The network that is trained."""
    generator_optimiser: torch.optim.Optimizer
    vgg: Vgg19 | None
    """Frozen feature extractor of the perceptual loss and of the discriminator."""
    perceptual_layer: str
    """VGG-19 layer of the perceptual loss; empty if the weight of that loss is 0."""
    discriminator: Discriminator | None
    discriminator_layer: str
    """VGG-19 layer whose features the discriminator classifies; empty if there is none."""
    discriminator_optimiser: torch.optim.Optimizer | None
    autocast: bool
    """Whether VGG-19 and the discriminator compute in bfloat16 (the generator has a setting of its own)."""

    def extract_features(self, frames: Tensor) -> dict[str, Tensor]:
        """Return the VGG-19 features, by layer, of frames in 0..255 at the layers that the losses need."""
        assert self.vgg is not None
        layers = {layer for layer in (self.perceptual_layer, self.discriminator_layer) if layer}
        with self._autocast(frames):
            features: dict[str, Tensor] = self.vgg(frames, layers)
        return {layer: values.to(frames.dtype) for layer, values in features.items()}

    def discriminate(self, features: Tensor) -> Tensor:
        """Return the discriminator's logits `[B]` for VGG-19 features; positive means a real frame."""
        assert self.discriminator is not None
        with self._autocast(features):
            logits: Tensor = self.discriminator(features)
        return logits.to(features.dtype)

    def frame_losses(
        self, predicted: Tensor, batch: Batch, config: LossConfig
    ) -> tuple[dict[str, Tensor], FeaturePair | None]:
        """Return the unweighted losses of the predicted frames, for every loss whose weight is non-zero.

        predicted: `[B, 3, S, S]` in 0..255. Also return the discriminator's training data if there is a discriminator.
        """
        if self.vgg is None:
            return frame_losses(predicted, batch.target, config), None
        with torch.no_grad():
            target_features = self.extract_features(batch.target)
        features = self.extract_features(predicted)
        perceptual, logits, pair = None, None, None
        if layer := self.perceptual_layer:
            perceptual = (features[layer], target_features[layer], layer)
        if layer := self.discriminator_layer:
            logits = self.discriminate(features[layer])
            pair = FeaturePair(target_features[layer], features[layer].detach())
        losses = frame_losses(predicted, batch.target, config, features=perceptual, logits=logits)
        return losses, pair

    @torch.no_grad()
    def evaluation_copy(self, ema_weights: Sequence[Tensor]) -> Models:
        """Return a copy for validation: the generator with the averaged weights, all in float32, without dropout.

        ema_weights: one tensor per parameter of the generator; empty to keep the generator's own weights.
        """
        generator, discriminator = copy.deepcopy((self.generator, self.discriminator))
        if ema_weights:
            for weight, average in zip(generator.parameters(), ema_weights, strict=True):
                weight.copy_(average)
        if isinstance(generator, (Guided, Paper)):
            generator.precision = "float32"
        if discriminator is not None:
            discriminator.eval()
        return replace(self, generator=generator.eval(), discriminator=discriminator, autocast=False)

    def _autocast(self, tensor: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(tensor.device.type, torch.bfloat16) if self.autocast else nullcontext()


def _build_generator(config: TrainingConfig) -> InterpolationNetwork:
    """Build the network to train on the CPU, randomly initialised or with the weights of `init_from`."""
    if config.init_from is None:
        try:
            generator = network_class(config.network)(**config.network_settings)
        except TypeError as error:
            raise SettingError(
                f"{config.network} does not take the settings {config.network_settings}: {error}"
            ) from error
    else:
        generator = load(config.init_from)
        if type(generator) is not network_class(config.network):
            found = type(generator).__name__.lower()
            raise SettingError(f"{config.init_from} holds weights of {found}; this run trains {config.network}")
    if not list(generator.parameters()):
        raise SettingError(f"the network {config.network} has nothing to train")
    return generator


def _resolve_precision(config: TrainingConfig, device: torch.device) -> Precision:
    """Return the precision of a run; `auto` is decided here for `paper` and left to the network otherwise."""
    if config.precision == "auto" and config.network == "paper":
        return "bfloat16" if device.type == "cuda" else "float32"
    return config.precision


def _build_optimiser(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.999), weight_decay=weight_decay, fused=True)
