"""A data set held in memory: every window decoded once, for training that never waits for a decoder."""

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
from midframe.training.data.shards import Sample, Split, decode, read_shards


@dataclass(frozen=True)
class Packed:
    """Windows of consecutive frames, and where each comes from.

    windows: uint8 `[N, 3, H, W]` RGB each, of sizes of their own. films: the number of each one's film. names: the
    films' file names by number. motions: pixels between neighbouring frames of each, roughly.
    """

    windows: tuple[Tensor, ...]
    films: Tensor
    names: tuple[str, ...]
    motions: Tensor

    @property
    def bytes(self) -> int:
        """The memory that the windows take."""
        return sum(window.nbytes for window in self.windows)

    @cached_property
    def chances(self) -> Tensor:
        """How probable each window is in a balanced run, `[windows]`: films alike, and more where more moves."""
        weights = self.motions.clamp(0.5, 24).sqrt()
        for film in range(len(self.names)):
            own = self.films == film
            weights[own] /= weights[own].sum().clamp_min(1e-9)
        return weights / weights.sum()

    @cached_property
    def textures(self) -> list[Tensor]:
        """The middle frame of each window, `[3, H, W]`, for drawn samples."""
        return [window[len(window) // 2] for window in self.windows]

    def to(self, device: torch.device) -> Packed:
        """Its windows in a device's memory: samples are then made there."""
        return replace(self, windows=tuple(window.to(device) for window in self.windows))

    def save(self, path: Path) -> Stored:
        """Write the windows' pixels into one file, from where any number of processes read them without a copy each.

        Raises `OutputError`.
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
        return Stored(path, shapes, self.films, self.names, self.motions)


@dataclass(frozen=True)
class Stored:
    """A packed data set in a file: what is sent to another process. See `Packed.save`."""

    path: Path
    shapes: tuple[tuple[int, ...], ...]
    films: Tensor
    names: tuple[str, ...]
    motions: Tensor

    def open(self) -> Packed:
        """The data set, its pixels in the file's pages."""
        pixels = torch.from_numpy(np.memmap(self.path, np.uint8, "c"))
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        windows = [part.view(shape) for part, shape in zip(torch.split(pixels, sizes), self.shapes, strict=True)]
        return Packed(tuple(windows), self.films, self.names, self.motions)


def read_packed(
    folders: Sequence[str | Path],
    split: Split = "train",
    *,
    threads: int = 2,
    progress: Callable[[int], None] = lambda count: None,
) -> Packed:
    """Decode all samples of a split (`train`, `held`) of data set folders into memory.

    progress is told the number of windows so far. Raises `InputError` for a folder without samples to train on,
    `SettingError` where there is no folder.
    """
    if not folders:
        raise SettingError("no data set was named; give the folder of a `midframe dataset build`")
    windows: list[Tensor] = []
    films: list[str] = []
    motions: list[float] = []

    with ThreadPoolExecutor(threads) as pool:
        for folder in folders:
            before = len(windows)
            for window, film, motion in pool.map(partial(_decoded, folder), read_shards(folder, split)):
                windows.append(window)
                films.append(film)
                motions.append(motion)
                progress(len(windows))
            if len(windows) == before and split == "train":
                raise InputError(f"{folder} holds no samples to train on; midframe dataset build makes them")
    names = tuple(sorted(set(films)))
    numbers = torch.tensor([names.index(name) for name in films], dtype=torch.long)
    return Packed(tuple(windows), numbers, names, torch.tensor(motions))


def _decoded(folder: str | Path, sample: Sample) -> tuple[Tensor, str, float]:
    """A window `[N, 3, H, W]`, its film's name and its motion from frame to frame."""
    try:
        if len(sample.frames) < 3:
            raise ValueError(f"it has {len(sample.frames)} frames, and needs 3 at least")
        frames = np.stack([decode(frame) for frame in sample.frames])
        motion = float(sample.info["motion"]) / (len(frames) - 1)
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))), str(sample.info["name"]), motion
    except (InputError, KeyError, TypeError, ValueError) as error:
        found = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"the sample {sample.key} of {folder} is damaged: {found}") from error
