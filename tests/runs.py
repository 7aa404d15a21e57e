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
from midframe.training.config import PRESETS, Config
from midframe.training.data.dataset import InMemoryDataset
from midframe.training.data.shards import ShardSample, write_shard
from midframe.training.train.run_folder import CHECKPOINT, read_log

SMALL = {"feature_channels": [16] * 4, "decoder_channels": [16] * 4, "decoder_convolutions": [1] * 4}
"""Settings of a guided network of a few thousand weights."""

GUIDED = replace(
    PRESETS["guided"],
    settings=SMALL,
    data=replace(PRESETS["guided"].data, crop=64),
    batch=4,
    samples=24,
    depths=(1, 2),
    log_every=2,
    evaluate_every=4,
    precision="float32",
)

PAPER = replace(
    PRESETS["paper"],
    data=replace(PRESETS["paper"].data, crop=48, offset=4),
    batch=2,
    samples=12,
    log_every=2,
    evaluate_every=4,
    precision="float32",
)

TIMED = {"seconds", "left", "per_second", "waited", "memory"}
"""What two equal runs may differ in."""


def window(seed: int, frames: int = 5, height: int = 80, width: int = 96) -> Tensor:
    """A texture that moves evenly, uint8 `[frames, 3, H, W]`."""
    step = (1.0 + seed % 3, 0.5 * (seed % 4))
    drawn = [texture(width, height, (k * step[0], k * step[1]), seed) for k in range(frames)]
    return torch.stack([torch.from_numpy(frame * 255).round().byte().permute(2, 0, 1) for frame in drawn])


def packed(windows: int = 6, films: int = 3, frames: int = 5) -> InMemoryDataset:
    """Windows that go round the films."""
    numbers = torch.arange(windows) % films
    motions = torch.arange(windows) % 3 + 1.0
    names = tuple(f"film-{k}.mp4" for k in range(films))
    return InMemoryDataset(tuple(window(k, frames) for k in range(windows)), numbers, names, motions)


def constant(values: list[int], frames: int = 3, rise: int = 0, size: int = 48) -> InMemoryDataset:
    """Windows of flat pictures: frame k of a window is `value + k * rise` all over."""
    windows = [torch.stack([torch.full((3, size, size), v + k * rise) for k in range(frames)]).byte() for v in values]
    return InMemoryDataset(
        tuple(windows), torch.zeros(len(values), dtype=torch.long), ("flat.mp4",), torch.ones(len(values))
    )


def shards(folder: Path) -> Path:
    """A data set in a folder: six windows of three films, the third held back."""
    for split, numbers in (("train", (0, 1, 3, 4)), ("validation", (2, 5))):
        samples = []
        for k in numbers:
            pictures = [encode_picture(frame.permute(1, 2, 0).contiguous().numpy(), None) for frame in window(k)]
            samples.append(
                ShardSample(f"film-{k % 3}-{k}", tuple(pictures), {"name": f"film-{k % 3}.mp4", "motion": 4.0})
            )
        with (folder / f"{split}-000000.tar").open("wb") as file:
            write_shard(file, samples)
    return folder


def small_vgg(path: Path) -> Path:
    """A file of VGG-19 with random weights that ends at relu2_2."""
    whole = random_vgg19()
    names = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7}
    state = {}
    for name, index in names.items():
        for part, tensor in whole.convolutions[name].state_dict().items():
            state[f"features.{index}.{part}"] = tensor
    torch.save(state, path)
    return path


def shrink_paper(patch: pytest.MonkeyPatch) -> None:
    """Make the report's network and the discriminator a hundredth of their size."""
    import midframe.networks.paper
    import midframe.training.train.models
    from midframe.networks.discriminator import Discriminator

    patch.setattr(midframe.networks.paper, "CHANNELS", (8, 64, 8, 8, 8))
    made = lambda *given, **named: Discriminator(*given, **named, width=16, dense=32)  # noqa: E731
    patch.setattr(midframe.training.train.models, "Discriminator", made)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes, as on a full disk."""
    resource = pytest.importorskip("resource", reason="the size of files can be limited on POSIX only")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def lines(out: Path) -> list[dict[str, Any]]:
    """The log of a run, less what depends on the clock."""
    return [{name: value for name, value in line.items() if name not in TIMED} for line in read_log(out)]


def state(out: Path) -> dict[str, Any]:
    """A run's last checkpoint, less what depends on the clock."""
    kept = torch.load(out / CHECKPOINT, weights_only=True)
    return {name: value for name, value in kept.items() if name not in ("seconds", "times")}


def same(one: Any, other: Any) -> bool:
    """Whether nested values are the same, tensors bit for bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def toml(config: Config) -> str:
    """A run's settings as TOML."""
    from midframe.training.config import tables

    top, below = [], []
    for name, value in tables(config).items():
        if isinstance(value, dict):
            below += [f"[{name}]", *(f"{key} = {json.dumps(each)}" for key, each in value.items() if each is not None)]
        elif value is not None:
            top.append(f"{name} = {json.dumps(value)}")
    return "\n".join(top + below)
