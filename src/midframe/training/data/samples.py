"""The samples of a training run: each is a pure function of the data set, the settings and the sample's number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Generator, Tensor

from midframe.training.config import DataConfig, TrainingConfig
from midframe.training.data.augmentation import (
    PRESETS,
    Augmentation,
    augment,
    generator_for,
    plan_augmentation,
)
from midframe.training.data.batch import Batch, TrainingSample
from midframe.training.data.dataset import InMemoryDataset
from midframe.training.data.frame_choice import choose_frames
from midframe.training.data.teacher_flow import estimate_teacher_flow
from midframe.training.synthetic.sample import render_sample

MIDDLE = (Fraction(1, 2),)
"""Times of targets without `DataConfig.arbitrary_times`."""

TIMES = (*MIDDLE * 3, Fraction(1, 3), Fraction(2, 3), Fraction(1, 4), Fraction(3, 4))
"""Times of targets with `DataConfig.arbitrary_times`, the middle three times as often.

A time is not drawn if the window has too few frames for it."""

OCCLUDED_CONFIDENCE = 0.3
"""Confidence in the flow of a synthetic pixel that is occluded in both frames; 1 if either frame shows it."""


def make_batch(data: InMemoryDataset, config: TrainingConfig, numbers: Sequence[int]) -> Batch:
    """Make the samples with these numbers, counted from the start of the run, as a batch on the data set's device."""
    return Batch.stack([make_sample(data, config, number) for number in numbers])


def make_sample(data: InMemoryDataset, config: TrainingConfig, number: int) -> TrainingSample:
    """Make sample `number` (from 0) of a training run.

    An epoch has as many samples as there are windows. All random numbers come from a generator that is seeded by the
    run's seed, the epoch and the sample's position in it: a sample does not depend on batches or processes.
    """
    epoch, position = divmod(number, len(data.windows))
    generator = generator_for(config.seed, epoch, position)
    if config.data.synthetic and _random(generator) < config.data.synthetic:
        return _synthetic_sample(data, config, generator)
    if config.data.balanced_sampling:
        index = int(torch.multinomial(data.balanced_probabilities, 1, generator=generator))
    else:
        index = _window_order(len(data.windows), config.seed, epoch)[position]
    return _film_sample(data.windows[index], config, generator)


def augmentation_of(data: DataConfig) -> Augmentation:
    """Return the augmentation of film samples: the preset that the settings name, with their crop and offset."""
    preset = PRESETS[data.augmentation]
    offset = preset.offset if data.max_offset is None else data.max_offset
    return replace(preset, crop=data.crop_size or preset.crop, offset=offset)


def check_windows(data: InMemoryDataset, config: TrainingConfig) -> None:
    """Raise `SettingError` if some window has too few frames for a sample, or frames smaller than the crop."""
    augmentation, generator = augmentation_of(config.data), generator_for(0, 0, 0)
    if config.data.synthetic == 1:
        return
    for count, *shape in sorted({tuple(window.shape) for window in data.windows}):
        used = min(count, (config.data.max_frame_distance or count) + 1)
        choose_frames(used, generator, TIMES if config.data.arbitrary_times else MIDDLE)
        plan_augmentation((3, *shape), generator, augmentation)


def _film_sample(window: Tensor, config: TrainingConfig, generator: Generator) -> TrainingSample:
    """Choose three frames of a window and augment them; the flow is the teacher's, or 0 if `flow_distillation` is 0."""
    if config.data.max_frame_distance is not None and len(window) > config.data.max_frame_distance + 1:
        start = int(torch.randint(len(window) - config.data.max_frame_distance, (), generator=generator))
        window = window[start : start + config.data.max_frame_distance + 1]
    choice = choose_frames(len(window), generator, TIMES if config.data.arbitrary_times else MIDDLE)
    positions = list(choice.indices)
    augmented = augment(window[positions], generator, augmentation_of(config.data), positions=positions)
    first, target, second = frames = augmented.frames.float()
    size, device = frames.shape[-1], frames.device
    flow, confidence = torch.zeros(4, size, size, device=device), torch.zeros(1, size, size, device=device)
    if config.losses.flow_distillation:
        flow, confidence = (maps.to(device) for maps in estimate_teacher_flow(*frames.round().byte().cpu()))
    time = 1 - choice.time if augmented.plan.is_time_reversed else choice.time
    return TrainingSample(
        first,
        target,
        second,
        time=torch.tensor(float(time), device=device),
        flow=flow,
        flow_confidence=confidence,
        flow_is_exact=torch.tensor(0.0, device=device),
    )


def _synthetic_sample(data: InMemoryDataset, config: TrainingConfig, generator: Generator) -> TrainingSample:
    """Render a synthetic sample with ground-truth flow, textured by frames of the data set."""
    time = 0.5 if not config.data.arbitrary_times or _random(generator) < 0.5 else 0.2 + 0.6 * _random(generator)
    size = augmentation_of(config.data).crop
    rendered = render_sample(data.textures, generator, size=size, time=time)
    visible_in_either = rendered.visibility.amax(0, keepdim=True)
    time_tensor = torch.tensor(time, device=rendered.first.device)
    return TrainingSample(
        rendered.first,
        rendered.target,
        rendered.second,
        time=time_tensor,
        flow=rendered.flow,
        flow_confidence=OCCLUDED_CONFIDENCE + (1 - OCCLUDED_CONFIDENCE) * visible_in_either,
        flow_is_exact=torch.ones_like(time_tensor),
    )


@lru_cache(maxsize=2)
def _window_order(count: int, seed: int, epoch: int) -> list[int]:
    """Return the random order of the windows in an epoch."""
    order: list[int] = torch.randperm(count, generator=generator_for(seed, epoch, -1)).tolist()
    return order


def _random(generator: Generator) -> float:
    """Return a uniform random number in [0, 1)."""
    return float(torch.rand((), generator=generator))
