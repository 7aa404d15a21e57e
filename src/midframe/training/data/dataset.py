"""The training data set in memory: every window decoded once, so that training never waits for a decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from midframe.errors import InputError, OutputError, SettingError
from midframe.training.data.shards import ShardSample, Split, decode, read_shards

MOTION_RANGE = (0.5, 24.0)
"""Pixels between neighbouring frames to which a window's motion is clamped before balanced sampling weights it."""


def load_dataset(
    folders: Sequence[str | Path],
    split: Split = "train",
    *,
    threads: int = 2,
    progress: Callable[[int], None] = lambda count: None,
) -> InMemoryDataset:
    """Decode all samples of one split of data set folders into memory.

    folders: written by `midframe dataset build`. threads: decoding threads. progress: called with the number of windows
    decoded so far; an exception that it raises ends the loading.

    Raises `InputError` if a folder has no training samples or a sample is damaged, `SettingError` if `folders` is
    empty.
    """
    if not folders:
        raise SettingError("no data set was named; give the folder of a `midframe dataset build`")
    windows: list[Tensor] = []
    films: list[str] = []
    motions: list[float] = []

    with ThreadPoolExecutor(threads) as pool:
        for folder in folders:
            count_before = len(windows)
            for window, film, motion in pool.map(partial(_decode_sample, folder), read_shards(folder, split)):
                windows.append(window)
                films.append(film)
                motions.append(motion)
                progress(len(windows))
            if len(windows) == count_before and split == "train":
                raise InputError(f"{folder} holds no samples to train on; midframe dataset build makes them")
    film_names = tuple(sorted(set(films)))
    film_indices = torch.tensor([film_names.index(name) for name in films], dtype=torch.long)
    return InMemoryDataset(tuple(windows), film_indices, film_names, torch.tensor(motions))


@dataclass(frozen=True)
class InMemoryDataset:
    """Windows of consecutive frames, with the film and the motion of each."""

    windows: tuple[Tensor, ...]
    """The frames of each window, uint8 `[N, 3, H, W]`, RGB; sizes may differ between windows."""
    film_indices: Tensor
    """The index into `film_names` of each window's film, int64 `[windows]`."""
    film_names: tuple[str, ...]
    """The films' file names, without repetitions."""
    motions: Tensor
    """Approximate mean motion between neighbouring frames of each window, in pixels, `[windows]`."""

    @property
    def bytes(self) -> int:
        """Return the memory of all windows in bytes."""
        return sum(window.nbytes for window in self.windows)

    @cached_property
    def balanced_probabilities(self) -> Tensor:
        """Return the probability of each window in balanced sampling, `[windows]`.

        All films are equally probable; within a film, a window's probability is proportional to the square root of its
        motion, clamped to `MOTION_RANGE`.
        """
        weights = self.motions.clamp(*MOTION_RANGE).sqrt()
        for film in range(len(self.film_names)):
            in_film = self.film_indices == film
            weights[in_film] /= weights[in_film].sum().clamp_min(1e-9)
        return weights / weights.sum()

    @cached_property
    def textures(self) -> list[Tensor]:
        """Return the middle frame of each window, uint8 `[3, H, W]`, as texture for synthetic samples."""
        return [window[len(window) // 2] for window in self.windows]

    def to(self, device: torch.device) -> InMemoryDataset:
        """Copy the windows to a device; samples are then made on that device."""
        return replace(self, windows=tuple(window.to(device) for window in self.windows))

    def save_pixels(self, path: Path) -> MemoryMappedDataset:
        """Write the windows' pixels to one file, which several processes can memory-map without a copy each.

        Raises `OutputError` if the file cannot be written.
        """
        try:
            with path.open("wb") as file:
                for window in self.windows:
                    file.write(window.cpu().numpy().tobytes())
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written: {error.strerror}; it holds the windows for `workers`, {self.bytes} bytes"
            ) from error
        shapes = tuple(tuple(window.shape) for window in self.windows)
        return MemoryMappedDataset(path, shapes, self.film_indices, self.film_names, self.motions)


@dataclass(frozen=True)
class MemoryMappedDataset:
    """A data set whose pixels lie in a file; small enough to be sent to a worker process (see `save_pixels`)."""

    path: Path
    """The file: the pixels of all windows one after the other, uint8, without a header."""
    shapes: tuple[tuple[int, ...], ...]
    """The shape `[N, 3, H, W]` of each window, in the order of the file."""
    film_indices: Tensor
    film_names: tuple[str, ...]
    motions: Tensor
    """This field and the two before it are as in `InMemoryDataset`."""

    def open(self) -> InMemoryDataset:
        """Return the data set with windows that are views of the memory-mapped file (changes are not written back)."""
        pixels = torch.from_numpy(np.memmap(self.path, np.uint8, "c"))
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        windows = [part.view(shape) for part, shape in zip(torch.split(pixels, sizes), self.shapes, strict=True)]
        return InMemoryDataset(tuple(windows), self.film_indices, self.film_names, self.motions)


def _decode_sample(folder: str | Path, sample: ShardSample) -> tuple[Tensor, str, float]:
    """Return a sample's window `[N, 3, H, W]`, its film's name and its mean motion from frame to frame in pixels."""
    try:
        if len(sample.frames) < 3:
            raise ValueError(f"it has {len(sample.frames)} frames, and needs 3 at least")
        frames = np.stack([decode(frame) for frame in sample.frames])
        motion = float(sample.info["motion"]) / (len(frames) - 1)
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))), str(sample.info["name"]), motion
    except (InputError, KeyError, TypeError, ValueError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"the sample {sample.key} of {folder} is damaged: {problem}") from error
