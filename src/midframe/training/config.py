"""Settings of a training run: one frozen dataclass with a table for data, losses, optimiser and discriminator.

The names of the fields are those in a TOML file (`config_file.read_config`) and in `midframe train --set NAME=VALUE`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from midframe.errors import SettingError

Schedule = Literal["step_decay", "power_decay", "cosine", "constant"]
"""How the learning rate falls (`train.schedule.learning_rate_at` has the formulas)."""

Precision = Literal["auto", "float32", "bfloat16", "float64"]
"""The floating-point type that networks compute in; `auto` lets the network and the device decide."""

FLOW_LOSSES = ("blended_photometric", "warped_photometric", "flow", "flow_distillation")
"""Losses of the optical flow at every level of the network `guided`; no other network has such flow."""

_PYDANTIC_CONFIG = {"extra": "forbid"}
"""Makes pydantic refuse unknown names in a table."""


@dataclass(frozen=True)
class DataConfig:
    """Which samples a run trains on (table `data`)."""

    __pydantic_config__ = _PYDANTIC_CONFIG

    folders: tuple[str, ...] = ()
    """Data set folders written by `midframe dataset build`."""
    augmentation: Literal["paper", "repository", "guided"] = "paper"
    """Augmentation preset: `paper` as in the report, `repository` as in its author's code, `guided` for the network."""
    crop_size: int | None = None
    """Side of the square samples in pixels; None takes that of the augmentation preset."""
    max_offset: int | None = None
    """Largest random translation of the two input frames in pixels; None takes that of the augmentation preset."""
    synthetic: float = 0.0
    """Fraction of the samples that are synthetic scenes with exact optical flow, textured from the data set."""
    balanced_sampling: bool = False
    """Choose films with equal probability and windows with more motion more often; else each window once an epoch."""
    max_frame_distance: int | None = None
    """Largest distance between the two input frames, in source frames, 2 or more; None for the length of the window."""
    arbitrary_times: bool = False
    """Also choose targets at other times than the middle: thirds and quarters of long enough windows; 0.2 to 0.8 in
    synthetic samples."""
    on_device: bool = False
    """Keep the data set in the memory of the training device and make the samples there."""


@dataclass(frozen=True)
class LossConfig:
    """The weight of each loss and the settings of some of them (table `losses`). A loss of weight 0 is not computed."""

    __pydantic_config__ = _PYDANTIC_CONFIG

    perceptual: float = 0.0
    """Squared difference of VGG-19 features."""
    reconstruction: float = 0.0
    """Mean absolute error."""
    adversarial: float = 0.0
    """-log sigmoid of the discriminator's logit; a weight above 0 adds a discriminator to the run."""
    luminosity: float = 0.0
    """Mean squared error of the luma."""
    charbonnier: float = 0.0
    """Charbonnier loss."""
    log_mse: float = 0.0
    """Logarithm of the mean squared error, in decibels."""
    laplacian: float = 0.0
    """Mean absolute error of Laplacian pyramids."""
    census: float = 0.0
    """Census loss."""
    blended_photometric: float = 0.0
    """`guided` only: Charbonnier loss of the warped frames blended by visibility, at every level."""
    warped_photometric: float = 0.0
    """`guided` only: Charbonnier loss of each warped frame, at every level; fades to 0."""
    flow: float = 0.0
    """`guided` only: end-point error against the exact flow of synthetic samples, in pixels; fades to a quarter."""
    flow_distillation: float = 0.0
    """`guided` only: end-point error against the flow that DIS estimates, in pixels; fades to 0."""
    fade_until: float = 0.4
    """Fraction of the run after which the losses that fade have reached their final weight; they fall linearly."""
    vgg_file: str | None = None
    """File of VGG-19's weights; None for the one that `midframe models fetch vgg19` stores."""
    vgg_layer: str = "relu4_4"
    """VGG-19 layer of the perceptual loss; if the file ends before it, the deepest layer in the file is taken."""

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each loss by its name."""
        return {
            name: value for name, value in vars(self).items() if name not in ("fade_until", "vgg_file", "vgg_layer")
        }


@dataclass(frozen=True)
class OptimiserConfig:
    """The AdamW optimiser of the generator, which is the network that is trained (table `optimiser`)."""

    __pydantic_config__ = _PYDANTIC_CONFIG

    learning_rate: float = 0.0006
    """Learning rate before the schedule."""
    schedule: Schedule = "step_decay"
    """How the learning rate falls during the run."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    clip_norm: float | None = None
    """Largest norm of all gradients together; None for no limit."""
    clip_norm_per_tensor: float | None = None
    """Largest norm of the gradient of each parameter tensor; None for no limit (the author's code has 5)."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator (table `discriminator`); it exists only if the weight of the adversarial loss is non-zero."""

    __pydantic_config__ = _PYDANTIC_CONFIG

    learning_rate: float = 0.0001
    """Learning rate of its Adam optimiser, constant."""
    vgg_layer: str = "pool5"
    """VGG-19 layer whose features are its input; if the file ends before it, the deepest pooling or ReLU layer."""
    label_smoothing: float = 0.0
    """How far the label of real frames lies below 1."""
    dropout: float = 0.5
    """Dropout probability of its dense layers."""


@dataclass(frozen=True)
class TrainingConfig:
    """All settings of a training run. Raises `SettingError` if values are out of range or contradict each other."""

    __pydantic_config__ = _PYDANTIC_CONFIG

    network: str = "paper"
    """Name of the network to train."""
    network_settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the network's class."""
    init_from: str | None = None
    """Initial weights: a weights file or the name of shipped weights; None for random initialisation."""
    data: DataConfig = DataConfig()
    """Which samples the run trains on."""
    losses: LossConfig = LossConfig()
    """What the run minimises."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """How the weights of the network are updated."""
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    """The discriminator of the adversarial loss."""
    batch_size: int = 6
    """Samples per step of each process."""
    samples: int = 10_000_000
    """Length of the run in samples; ignored if `minutes` is set."""
    minutes: float | None = None
    """Length of the run in minutes; converted to samples once its speed has been measured, then fixed."""
    seed: int = 1
    """Seed of the initial weights, the samples and dropout."""
    precision: Precision = "auto"
    """Floating-point type of the networks. Losses, optimisers and weights are never in bfloat16."""
    micro_batches: int = 1
    """Equal parts of a batch that are processed in parallel, one thread each (for CPUs)."""
    workers: int = 0
    """Processes that make samples; 0 for one thread, which is enough on a CPU."""
    ema_decay: float = 0.999
    """Decay per step of the exponential moving average (EMA) of the weights; 0 for no average."""
    coarse_iterations: tuple[int, ...] = ()
    """`guided` only: its `depth`, how many times the coarsest decoder runs; the steps cycle through these numbers.
    Empty: the network chooses by frame size."""
    log_every: int = 50
    """Steps between two lines of the log."""
    validate_every: int = 1000
    """Steps between two validations."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    licence: str = "MIT"
    """Licence of the weights, for their metadata and model card."""

    def __post_init__(self) -> None:
        for check in (_check_run, _check_data, _check_losses, _check_optimisers):
            for holds, requirement in check(self):
                if not holds:
                    raise SettingError(f"a run needs {requirement}")
        if self.batch_size % self.micro_batches:
            raise SettingError(
                f"batch_size = {self.batch_size} cannot be divided into "
                f"micro_batches = {self.micro_batches} equal parts"
            )
        if self.losses.adversarial and self.micro_batches > 1 and self.discriminator.dropout:
            raise SettingError(
                "the discriminator's dropout would depend on the order in which micro-batches finish: "
                "micro_batches = 1 is needed"
            )
        if self.network != "guided" and any(self.losses.weights[name] for name in FLOW_LOSSES):
            raise SettingError(f"the losses {', '.join(FLOW_LOSSES)} need the network guided, not {self.network}")


def config_to_dict(config: TrainingConfig) -> dict[str, Any]:
    """Return the settings as nested dictionaries of plain values, the inverse of `config_from_dict`."""
    return dataclasses.asdict(config)


def config_from_dict(tables: dict[str, Any]) -> TrainingConfig:
    """Return the settings that `config_to_dict` made these dictionaries of.

    Does not need pydantic: types are not checked. Raises `TypeError` for unknown names.
    """
    classes = {
        "data": DataConfig,
        "losses": LossConfig,
        "optimiser": OptimiserConfig,
        "discriminator": DiscriminatorConfig,
    }
    return TrainingConfig(
        **{name: classes[name](**value) if name in classes else value for name, value in tables.items()}
    )


_Check = tuple[bool, str]
"""Whether a requirement holds, and the requirement in words, with the value found."""


def _check_run(config: TrainingConfig) -> Iterator[_Check]:
    """Check the settings outside of the tables."""
    batch_size, micro_batches = config.batch_size, config.micro_batches
    yield batch_size >= 1, f"batch_size of 1 or more; got {batch_size}"
    yield micro_batches >= 1, f"micro_batches of 1 or more; got {micro_batches}"
    yield config.samples >= 1, f"samples of 1 or more; got {config.samples}"
    yield config.minutes is None or 0 < config.minutes < math.inf, f"finite minutes above 0; got {config.minutes}"
    yield 0 <= config.ema_decay < 1, f"ema_decay from 0 to below 1; got {config.ema_decay}"
    yield config.workers >= 0, f"workers of 0 or more; got {config.workers}"
    for name in ("log_every", "validate_every", "checkpoint_every"):
        yield getattr(config, name) >= 1, f"{name} of 1 or more; got {getattr(config, name)}"
    iterations = config.coarse_iterations
    yield min(iterations, default=1) >= 1, f"coarse_iterations of 1 or more; got {iterations}"
    yield 0 <= config.seed < 2**32, f"a seed from 0 to 4294967295; got {config.seed}"


def _check_data(config: TrainingConfig) -> Iterator[_Check]:
    """Check the table `data`."""
    data = config.data
    yield 0 <= data.synthetic <= 1, f"data.synthetic from 0 to 1; got {data.synthetic}"
    yield data.crop_size is None or data.crop_size >= 1, f"data.crop_size of 1 or more; got {data.crop_size}"
    yield data.max_offset is None or data.max_offset >= 0, f"data.max_offset of 0 or more; got {data.max_offset}"
    distance = data.max_frame_distance
    yield distance is None or distance >= 2, f"data.max_frame_distance of 2 or more; got {distance}"
    yield not (data.on_device and config.workers), "workers = 0 if data.on_device is true"


def _check_losses(config: TrainingConfig) -> Iterator[_Check]:
    """Check the table `losses`."""
    weights = config.losses.weights.values()
    yield all(map(math.isfinite, weights)), "loss weights that are finite"
    yield min(weights) >= 0 < max(weights), "a loss with a weight, and none below 0"
    yield config.losses.fade_until >= 0, f"losses.fade_until of 0 or more; got {config.losses.fade_until}"


def _check_optimisers(config: TrainingConfig) -> Iterator[_Check]:
    """Check the tables `optimiser` and `discriminator`."""
    optimiser, discriminator = config.optimiser, config.discriminator
    for table, rate in (("optimiser", optimiser.learning_rate), ("discriminator", discriminator.learning_rate)):
        yield 0 < rate < math.inf, f"a finite {table}.learning_rate above 0; got {rate}"
    yield optimiser.warmup_steps >= 0, f"optimiser.warmup_steps of 0 or more; got {optimiser.warmup_steps}"
    decay = optimiser.weight_decay
    yield 0 <= decay < math.inf, f"a finite optimiser.weight_decay of 0 or more; got {decay}"
    for name in ("clip_norm", "clip_norm_per_tensor"):
        limit = getattr(optimiser, name)
        yield limit is None or 0 < limit < math.inf, f"a finite optimiser.{name} above 0; got {limit}"
    smoothing, dropout = discriminator.label_smoothing, discriminator.dropout
    yield 0 <= smoothing < 1, f"discriminator.label_smoothing from 0 to below 1; got {smoothing}"
    yield 0 <= dropout < 1, f"discriminator.dropout from 0 to below 1; got {dropout}"
