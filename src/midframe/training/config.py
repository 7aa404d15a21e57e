"""What a training run is told: one frozen dataclass, read from TOML, with the presets."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from midframe.errors import DeviceError, SettingError

Schedule = Literal["paper", "repository", "cosine", "constant"]
Precision = Literal["auto", "float32", "bfloat16", "float64"]

_STRICT = {"extra": "forbid"}
"""What pydantic is told of each table: no names but these."""


@dataclass(frozen=True)
class Data:
    """What samples are made of."""

    __pydantic_config__ = _STRICT

    shards: tuple[str, ...] = ()
    """Folders that `midframe dataset build` wrote."""
    augmentation: Literal["paper", "repository", "guided"] = "paper"
    crop: int | None = None
    """Side of a sample in pixels; none: the augmentation's own."""
    offset: int | None = None
    """How far the outer frames are moved at most, in pixels; none: the augmentation's own."""
    drawn: float = 0.0
    """The share of samples that are drawn, with exact middles and motion, out of pictures of the data set."""
    balance: bool = False
    """Pick films alike, and what moves more often than what does not; else each window once an epoch."""
    reach: int | None = None
    """How many frames the outer ones of a sample are apart at most, 2 or more; none: as many as the windows hold."""
    times: bool = False
    """Also times other than the middle, and frames further apart, out of windows longer than three."""
    on_device: bool = False
    """Keep the windows in the memory of the device that trains, and make samples there."""


@dataclass(frozen=True)
class Losses:
    """The weight of each loss; a loss of weight 0 is not computed."""

    __pydantic_config__ = _STRICT

    perceptual: float = 0.0
    reconstruction: float = 0.0
    adversarial: float = 0.0
    luminosity: float = 0.0
    charbonnier: float = 0.0
    decibels: float = 0.0
    laplacian: float = 0.0
    census: float = 0.0
    merged: float = 0.0
    """Guided only: at each level, the frames brought together by its motion and blended, against the target."""
    warped: float = 0.0
    """Guided only: at each level, either frame moved, against the target; fades."""
    motion: float = 0.0
    """Guided only: distance in pixels from the exact motion of drawn samples; fades to a quarter."""
    teacher: float = 0.0
    """Guided only: distance in pixels from the motion that DIS finds; fades to nothing."""
    fade: float = 0.4
    """The part of the run after which what fades has faded."""
    vgg: str | None = None
    """The file of VGG-19; none: the one that `midframe models fetch vgg19` brought."""
    layer: str = "relu4_4"
    """Of VGG-19, for the perceptual loss; the deepest the file holds where it does not reach that far."""

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss by its name."""
        return {name: value for name, value in vars(self).items() if name not in ("fade", "vgg", "layer")}


@dataclass(frozen=True)
class Optimiser:
    """How weights move."""

    __pydantic_config__ = _STRICT

    rate: float = 0.0006
    schedule: Schedule = "paper"
    warmup: int = 0
    """Steps over which the rate rises."""
    weight_decay: float = 0.0
    clip: float | None = None
    """The largest norm of the gradients, all together."""
    clip_each: float | None = None
    """The largest norm of each tensor's gradient (the author's code: 5)."""


@dataclass(frozen=True)
class Discriminator:
    """The other player; it plays where the adversarial loss has a weight."""

    __pydantic_config__ = _STRICT

    rate: float = 0.0001
    base: str = "pool5"
    """The layer of VGG-19 it looks at; the deepest pooling or rectifier the file holds where it does not reach."""
    smoothing: float = 0.0
    dropout: float = 0.5


@dataclass(frozen=True)
class Config:
    """A training run."""

    __pydantic_config__ = _STRICT

    network: str = "paper"
    settings: dict[str, Any] = field(default_factory=dict)
    """What the network's class takes."""
    start: str | None = None
    """A weights file to go on from, or the name of shipped weights."""
    data: Data = Data()
    losses: Losses = Losses()
    optimiser: Optimiser = Optimiser()
    discriminator: Discriminator = Discriminator()
    batch: int = 6
    samples: int = 10_000_000
    """How many samples the run sees, unless it has so many minutes."""
    minutes: float | None = None
    """How long the run may take: turned into samples once its speed is known, and kept."""
    seed: int = 1
    precision: Precision = "auto"
    shares: int = 1
    """Parts of a batch that are worked on side by side, a thread each (CPU)."""
    workers: int = 0
    """Processes that make samples; none: a thread does, which is enough for a CPU."""
    average: float = 0.999
    """Of the moving average of the weights, a step; 0 for none."""
    depths: tuple[int, ...] = ()
    """Guided only: how many times the coarsest decoder runs, one a step in turn; none: by the size of the picture."""
    log_every: int = 50
    evaluate_every: int = 1000
    checkpoint_every: int = 500
    licence: str = "MIT"
    """Of the weights."""

    def __post_init__(self) -> None:
        weights = self.losses.weights
        every = {name: getattr(self, name) for name in ("log_every", "evaluate_every", "checkpoint_every")}
        clips = [clip for clip in (self.optimiser.clip, self.optimiser.clip_each) if clip is not None]
        dropout, smoothing = self.discriminator.dropout, self.discriminator.smoothing
        numbers = [*weights.values(), *clips, self.optimiser.rate, self.optimiser.weight_decay, self.discriminator.rate]
        numbers += [] if self.minutes is None else [self.minutes]
        for holds, needed in (
            (self.batch >= 1 <= self.shares, f"a batch and shares of 1 or more; got {self.batch}, {self.shares}"),
            (self.samples >= 1, f"samples of 1 or more; got {self.samples}"),
            (self.minutes is None or self.minutes > 0, f"more than no minutes; got {self.minutes}"),
            (0 <= self.data.drawn <= 1, f"a share of drawn samples from 0 to 1; got {self.data.drawn}"),
            (0 <= self.average < 1, f"an average from 0 to below 1; got {self.average}"),
            (self.workers >= 0, f"workers of 0 or more; got {self.workers}"),
            (min(every.values()) >= 1, f"{', '.join(every)} of 1 or more; got {', '.join(map(str, every.values()))}"),
            (min(self.optimiser.rate, self.discriminator.rate) > 0, "learning rates above 0"),
            (min(weights.values()) >= 0 < max(weights.values()), "a loss with a weight, and none below 0"),
            (min(self.depths, default=1) >= 1, f"depths of 1 or more; got {self.depths}"),
            (0 <= self.seed < 2**32, f"a seed from 0 to 4294967295; got {self.seed}"),
            (self.data.crop is None or self.data.crop >= 1, f"a crop of 1 pixel or more; got {self.data.crop}"),
            (self.data.offset is None or self.data.offset >= 0, f"an offset of 0 or more; got {self.data.offset}"),
            (self.data.reach is None or self.data.reach >= 2, f"a reach of 2 or more; got {self.data.reach}"),
            (self.optimiser.warmup >= 0, f"a warmup of 0 or more; got {self.optimiser.warmup}"),
            (self.optimiser.weight_decay >= 0, f"a weight_decay of 0 or more; got {self.optimiser.weight_decay}"),
            (min(clips, default=1) > 0, f"clip and clip_each above 0; got {', '.join(map(str, clips))}"),
            (self.losses.fade >= 0, f"a fade of 0 or more; got {self.losses.fade}"),
            (0 <= dropout < 1, f"a discriminator's dropout from 0 to below 1; got {dropout}"),
            (0 <= smoothing < 1, f"a discriminator's smoothing from 0 to below 1; got {smoothing}"),
            (all(map(math.isfinite, numbers)), "numbers that are finite"),
            (not (self.data.on_device and self.workers), "workers = 0 where samples are made on the device"),
        ):
            if not holds:
                raise SettingError(f"a run needs {needed}")
        if self.batch % self.shares:
            raise SettingError(f"a batch of {self.batch} cannot be cut into shares = {self.shares} equal ones")
        if self.losses.adversarial and self.shares > 1 and self.discriminator.dropout:
            raise SettingError("shares of a batch draw the discriminator's dropout in any order: shares = 1 is needed")
        if self.network != "guided" and any(weights[name] for name in GUIDED_LOSSES):
            raise SettingError(f"the losses {', '.join(GUIDED_LOSSES)} are of the network guided, not {self.network}")


GUIDED_LOSSES = ("merged", "warped", "motion", "teacher")

PRESETS: dict[str, Config] = {
    "paper": Config(losses=Losses(perceptual=1.0, reconstruction=0.4, adversarial=0.8)),
    "repository": Config(
        settings={"initialisation": "glorot", "centre_tap": False},
        data=Data(augmentation="repository"),
        losses=Losses(perceptual=1.0, reconstruction=0.2, adversarial=1.0),
        optimiser=Optimiser(schedule="repository", clip_each=5.0),
        discriminator=Discriminator(smoothing=0.125, dropout=0.0),
    ),
    "guided": Config(
        network="guided",
        data=Data(augmentation="guided", drawn=0.4, balance=True, times=True),
        losses=Losses(charbonnier=1.0, laplacian=0.1, merged=0.2, warped=0.1, motion=1.0, teacher=0.5),
        optimiser=Optimiser(rate=0.001, schedule="cosine", warmup=300, weight_decay=1e-4, clip=255.0),
        batch=16,
        samples=1_000_000,
        shares=2,
        depths=(1, 1, 1, 2),
    ),
}
"""`paper` and `repository` (the report and its author's code) and `guided` (ours)."""


def read_config(source: str | Path | dict[str, Any]) -> Config:
    """A run's settings: the name of a preset, a TOML file, or tables as TOML gives them.

    A file or tables may say `preset = NAME`; what else they say replaces that of the preset. Unknown names and values
    of the wrong type raise `SettingError`.
    """
    if isinstance(source, dict):
        return _checked(source, "these settings")
    if str(source) in PRESETS:
        return PRESETS[str(source)]
    import tomllib

    try:
        written = tomllib.loads(Path(source).read_text("utf-8"))
    except OSError as error:
        presets = ", ".join(PRESETS)
        raise SettingError(
            f"'{source}' is no preset ({presets}) and no file that can be read: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{source} is no TOML: {error}") from error
    return _checked(written, str(source))


def tables(config: Config) -> dict[str, Any]:
    """A run's settings as plain tables: `read_config` or `from_tables` of them gives the run back."""
    return dataclasses.asdict(config)


def from_tables(tables: dict[str, Any]) -> Config:
    """The run that `tables` made these of: nothing is converted, and pydantic is not needed."""
    parts = {"data": Data, "losses": Losses, "optimiser": Optimiser, "discriminator": Discriminator}
    return Config(**{name: parts[name](**value) if name in parts else value for name, value in tables.items()})


def _checked(written: dict[str, Any], where: str) -> Config:
    """Tables that a person wrote."""
    try:
        from pydantic import TypeAdapter, ValidationError
    except ImportError as error:
        raise DeviceError("settings are read by pydantic: pip install 'midframe[train]'") from error
    given = dict(written)
    preset = given.pop("preset", None)
    if preset is not None and preset not in list(PRESETS):
        raise SettingError(f"{where}: there is no preset {preset!r}; there are: {', '.join(PRESETS)}")
    base = tables(PRESETS[preset]) if preset else {}
    try:
        # As JSON, where strict means that nothing is taken for another type, but a list may become a tuple.
        text = json.dumps(_merged(base, given), default=str)
        return TypeAdapter(Config).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # of Config itself, which says what was found
            raise SettingError(f"{where}: {first['ctx']['error']}") from error
        place = ".".join(map(str, first["loc"])) or "settings"
        raise SettingError(f"{where}: {place}: {first['msg']}; got {first['input']!r}") from error


def _merged(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in given.items():
        below = merged.get(name)
        is_table = isinstance(value, dict) and isinstance(below, dict) and name != "settings"
        merged[name] = _merged(below, value) if is_table and isinstance(below, dict) else value
    return merged
