"""Training runs small enough for tests: a data set in memory or in shards, settings, what a run leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from films.scenes import texture
from midframe.networks.vgg import random_vgg19
from midframe.training.build.frames import encode_picture
from midframe.training.config import TrainingConfig, config_to_dict
from midframe.training.data.dataset import InMemoryDataset
from midframe.training.data.shards import ShardSample, write_shard
from midframe.training.presets import PRESETS
from midframe.training.train.run_folder import CHECKPOINT, RunLog, create, read_log

SMALL = {"feature_channels": [16] * 4, "decoder_channels": [16] * 4, "decoder_convolutions": [1] * 4}
"""Settings of a guided network of a few thousand weights."""

GUIDED = replace(
    PRESETS["guided"],
    network_settings=SMALL,
    data=replace(PRESETS["guided"].data, crop_size=64),
    batch_size=4,
    samples=24,
    coarse_iterations=(1, 2),
    log_every=2,
    validate_every=4,
    precision="float32",
)

PAPER = replace(
    PRESETS["paper"],
    data=replace(PRESETS["paper"].data, crop_size=48, max_offset=4),
    batch_size=2,
    samples=12,
    log_every=2,
    validate_every=4,
    precision="float32",
)

CLOCK_KEYS = {"seconds", "seconds_left", "samples_per_second", "data_wait", "memory_bytes"}
"""Values of the log that may differ between two equal runs."""


def moving_window(seed: int, frames: int = 5, height: int = 80, width: int = 96) -> Tensor:
    """Return frames of a texture that moves uniformly, uint8 `[frames, 3, H, W]`."""
    step = (1.0 + seed % 3, 0.5 * (seed % 4))
    pictures = [texture(width, height, (k * step[0], k * step[1]), seed) for k in range(frames)]
    return torch.stack([torch.from_numpy(picture * 255).round().byte().permute(2, 0, 1) for picture in pictures])


def in_memory_dataset(windows: int = 6, films: int = 3, frames: int = 5) -> InMemoryDataset:
    """Return a data set of moving windows, assigned to the films in turn."""
    numbers = torch.arange(windows) % films
    motions = torch.arange(windows) % 3 + 1.0
    names = tuple(f"film-{k}.mp4" for k in range(films))
    return InMemoryDataset(tuple(moving_window(k, frames) for k in range(windows)), numbers, names, motions)


def flat_dataset(values: list[int], frames: int = 3, rise: int = 0, size: int = 48) -> InMemoryDataset:
    """Return a data set of windows of flat pictures: every pixel of frame k is `value + k * rise`."""
    windows = [torch.stack([torch.full((3, size, size), v + k * rise) for k in range(frames)]).byte() for v in values]
    return InMemoryDataset(
        tuple(windows), torch.zeros(len(values), dtype=torch.long), ("flat.mp4",), torch.ones(len(values))
    )


def write_shards(folder: Path) -> Path:
    """Write a data set of six windows of three films; the third film is for validation. Returns the folder."""
    for split, numbers in (("train", (0, 1, 3, 4)), ("validation", (2, 5))):
        samples = []
        for k in numbers:
            pictures = [encode_picture(frame.permute(1, 2, 0).contiguous().numpy(), None) for frame in moving_window(k)]
            samples.append(
                ShardSample(f"film-{k % 3}-{k}", tuple(pictures), {"name": f"film-{k % 3}.mp4", "motion": 4.0})
            )
        with (folder / f"{split}-000000.tar").open("wb") as file:
            write_shard(file, samples)
    return folder


def write_small_vgg(path: Path) -> Path:
    """Write a VGG-19 file with random weights that ends at relu2_2, and return its path."""
    whole = random_vgg19()
    names = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7}
    state = {}
    for name, index in names.items():
        for part, tensor in whole.convolutions[name].state_dict().items():
            state[f"features.{index}.{part}"] = tensor
    torch.save(state, path)
    return path


def shrink_paper(patch: pytest.MonkeyPatch) -> None:
    """Reduce the report's network and the discriminator to a hundredth of their size."""
    import midframe.networks.paper
    import midframe.training.train.models
    from midframe.networks.discriminator import Discriminator

    patch.setattr(midframe.networks.paper, "CHANNELS", (8, 64, 8, 8, 8))
    small = lambda *given, **named: Discriminator(*given, **named, width=16, dense=32)  # noqa: E731
    patch.setattr(midframe.training.train.models, "Discriminator", small)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of files to a number of bytes within this context, as on a full disk."""
    resource = pytest.importorskip("resource", reason="the size of files can be limited on POSIX only")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_log(folder: Path, steps: range, after: int = 0) -> None:
    """Write a log with a line for each step and a validation at each even one, continuing a run after a step."""
    create(folder, GUIDED)
    with RunLog(folder, after) as log:
        for step in steps:
            log.write(step, "train", {"samples": step * 4, "total": 10.0 / step, "gradient_norm": 1.0})
            if step % 2 == 0:
                log.write(step, "validation", {"samples": step * 4, "psnr": 20.0 + step})


def timeless_log(folder: Path) -> list[dict[str, Any]]:
    """Return the log of a run without the values that depend on the clock."""
    return [{name: value for name, value in line.items() if name not in CLOCK_KEYS} for line in read_log(folder)]


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Return the last checkpoint of a run without the durations, which depend on the clock."""
    checkpoint: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True)
    del checkpoint["state"]["seconds"], checkpoint["state"]["step_seconds"]
    return checkpoint


def equal_values(one: Any, other: Any) -> bool:
    """Return whether nested values are equal, tensors bit for bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal_values(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal_values, one, other))
    return bool(one == other)


def config_to_toml(config: TrainingConfig) -> str:
    """Return a run's settings as TOML."""
    settings, tables = [], []
    for name, value in config_to_dict(config).items():
        if isinstance(value, dict):
            tables += [f"[{name}]", *(f"{key} = {json.dumps(each)}" for key, each in value.items() if each is not None)]
        elif value is not None:
            settings.append(f"{name} = {json.dumps(value)}")
    return "\n".join(settings + tables)
