"""The samples of a training run: each a pure function of the data, the settings and its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Generator, Tensor

from midframe.training.config import Config, Data
from midframe.training.data.augmentation import (
    GUIDED,
    PAPER,
    REPOSITORY,
    Augmentation,
    augment,
    choose_frames,
    generator_for,
    plan,
)
from midframe.training.data.memory import Packed
from midframe.training.synthetic.scenes import draw
from midframe.training.train.distillation import teacher_motion
from midframe.training.train.objective import Batch

AUGMENTATIONS = {"paper": PAPER, "repository": REPOSITORY, "guided": GUIDED}

MIDDLE = (Fraction(1, 2),)
TIMES = (*MIDDLE * 3, Fraction(1, 3), Fraction(2, 3), Fraction(1, 4), Fraction(3, 4))
"""Of targets with `Data.times`; windows too short for one of these pass it over."""
UNSEEN = 0.3
"""How much the motion of a drawn point counts that neither frame shows."""


def make_batch(data: Packed, config: Config, numbers: Sequence[int]) -> Batch:
    """The samples with these numbers, counted from the start of the run, side by side on the data's device."""
    made = [make_sample(data, config, number) for number in numbers]
    return Batch(*(torch.stack(parts) for parts in zip(*made, strict=True)))


def make_sample(data: Packed, config: Config, number: int) -> tuple[Tensor, ...]:
    """Sample `number` of a run: what a `Batch` holds, without the batch dimension.

    An epoch is as many samples as there are windows. Everything is drawn from the generator of the epoch and the
    sample's place in it, so a sample is the same whatever the batch, the process and the moment.
    """
    epoch, place = divmod(number, len(data.windows))
    generator = generator_for(config.seed, epoch, place)
    if config.data.drawn and _chance(generator) < config.data.drawn:
        return _drawn(data, config, generator)
    if config.data.balance:
        index = int(torch.multinomial(data.chances, 1, generator=generator))
    else:
        index = _order(len(data.windows), config.seed, epoch)[place]
    return _filmed(data.windows[index], config, generator)


def augmentation_of(data: Data) -> Augmentation:
    """What is done to filmed samples."""
    how = AUGMENTATIONS[data.augmentation]
    return replace(how, crop=data.crop or how.crop, offset=how.offset if data.offset is None else data.offset)


def check_windows(data: Packed, config: Config) -> None:
    """Raises `SettingError` where a sample cannot be made of some window: too few frames, or smaller than the crop."""
    how, generator = augmentation_of(config.data), generator_for(0, 0, 0)
    if config.data.drawn == 1:
        return
    for count, *shape in sorted({tuple(window.shape) for window in data.windows}):
        held = min(count, (config.data.reach or count) + 1)
        choose_frames(held, generator, TIMES if config.data.times else MIDDLE)
        plan((3, *shape), generator, how)


def _filmed(window: Tensor, config: Config, generator: Generator) -> tuple[Tensor, ...]:
    """Three frames of a window, augmented; their motion is a teacher's, where one is asked for."""
    if config.data.reach is not None and len(window) > config.data.reach + 1:
        start = int(torch.randint(len(window) - config.data.reach, (), generator=generator))
        window = window[start : start + config.data.reach + 1]
    chosen = choose_frames(len(window), generator, TIMES if config.data.times else MIDDLE)
    places = [chosen.first, chosen.target, chosen.second]
    crops, done = augment(window[places], generator, augmentation_of(config.data), positions=places, return_plan=True)
    crops = crops.float()
    size, device = crops.shape[-1], crops.device
    time = float(1 - chosen.time if done.reversed else chosen.time)
    motion, trust = torch.zeros(4, size, size, device=device), torch.zeros(1, size, size, device=device)
    if config.losses.teacher:
        motion, trust = (maps.to(device) for maps in teacher_motion(*crops.round().byte().cpu()))
    return (*crops, torch.tensor(time, device=device), motion, trust, torch.tensor(0.0, device=device))


def _drawn(data: Packed, config: Config, generator: Generator) -> tuple[Tensor, ...]:
    """A drawn sample with textures out of the data; its motion is exact."""
    time = 0.5 if not config.data.times or _chance(generator) < 0.5 else 0.2 + 0.6 * _chance(generator)
    size = augmentation_of(config.data).crop
    made = draw(data.textures, generator, size=size, time=time)
    trust = UNSEEN + (1 - UNSEEN) * made.seen.amax(0, keepdim=True)
    at = torch.tensor(time, device=made.first.device)
    return made.first, made.target, made.second, at, made.motion, trust, torch.ones_like(at)


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch takes the windows."""
    order: list[int] = torch.randperm(count, generator=generator_for(seed, epoch, -1)).tolist()
    return order


def _chance(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))
