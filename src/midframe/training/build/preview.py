"""Looking at a data set: training batches as the network will get them, and how its samples are spread."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from midframe.errors import DeviceError, InputError, OutputError
from midframe.training.data.shards import Split, decode, read_shards

BATCH = 6
"""Samples of a batch (the report's)."""

Way = Literal["paper", "repository", "guided"]


def draw_preview(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: Split = "train",
    batches: int = 2,
    seed: int = 0,
    way: Way = "paper",
) -> dict[str, Any]:
    """Draw sample batches (the report's Fig. 6) and histograms of motion and difference to a picture `out`.

    A column of a batch is a sample after augmentation: its first, middle and last frame. way: whose augmentation.
    Returns how many samples there are, and the percentiles of motion and difference. Raises `InputError` where the
    folder holds no such samples, `OutputError`, and `DeviceError` where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DeviceError("drawing needs matplotlib; install midframe[train]") from None
    infos = list(_infos(folder, split))
    strips = list(_strips(folder, split, batches, seed, way))
    if not strips:
        raise InputError(f"{folder} holds no samples of the split '{split}'")
    values = {name: [float(info[name]) for info in infos if name in info] for name in ("motion", "difference")}
    figure = Figure(figsize=(10, 5.2 * len(strips) + 3), layout="constrained")
    grid = figure.add_gridspec(len(strips) + 1, 2, height_ratios=[5.0] * len(strips) + [2.8])
    for k, strip in enumerate(strips):
        axes = figure.add_subplot(grid[k, :])
        axes.imshow(strip)
        side = strip.shape[0] // 3
        axes.set(
            xticks=[], yticks=[side // 2 + side * row for row in range(3)], yticklabels=["first", "middle", "last"]
        )
        axes.set_title(f"batch {k + 1}, {strip.shape[1] // side} samples, augmented ({way})", fontsize=10)
    words = {"motion": "mean motion between the outer frames, pixels", "difference": "their mean squared difference"}
    for k, (name, of) in enumerate(values.items()):
        axes = figure.add_subplot(grid[-1, k])
        axes.hist(_positive(of), bins=_edges(of), color="tab:blue")
        axes.set(xscale="log", xlabel=words[name], ylabel="samples")
        axes.set_title(f"{len(of)} samples of {len({info.get('film') for info in infos})} films", fontsize=10)
    try:
        figure.savefig(out, dpi=100)
    except (OSError, ValueError) as error:
        raise OutputError(f"the picture {out} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return {"split": split, "samples": len(infos), **{name: _percentiles(of) for name, of in values.items()}}


def _strips(folder: str | os.PathLike[str], split: Split, batches: int, seed: int, way: Way) -> Iterator[Any]:
    """Batches as pictures: uint8 `[3 crop, samples · crop, 3]`."""
    import numpy as np
    import torch

    from midframe.training.data.augmentation import GUIDED, PAPER, REPOSITORY, augment, generator_for

    how = {"paper": PAPER, "repository": REPOSITORY, "guided": GUIDED}[way]
    samples = islice(read_shards(folder, split), batches * BATCH)
    columns = []
    for k, sample in enumerate(samples):
        window = torch.from_numpy(np.stack([decode(frame) for frame in sample.frames])).permute(0, 3, 1, 2)
        frames = augment(window, generator_for(seed, 0, k), how)[[0, len(window) // 2, -1]]
        columns.append(frames.add(0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).flatten(0, 1).numpy())
    for first in range(0, len(columns), BATCH):
        yield np.concatenate(columns[first : first + BATCH], 1)


def _infos(folder: str | os.PathLike[str], split: Split) -> Iterator[Mapping[str, Any]]:
    """What is known of each sample of a split: from the manifest, or from the shards where there is none."""
    manifest = Path(folder) / "manifest.jsonl"
    if not manifest.is_file():
        yield from (sample.info for sample in read_shards(folder, split))
        return
    with manifest.open("rb") as file:
        for line in map(json.loads, file):
            if line["kind"] == "sample" and line["shard"].startswith(f"{split}-"):
                yield line


LEAST = 0.05
"""Where the histograms begin; what is smaller is counted there."""


def _positive(values: list[float]) -> list[float]:
    return [max(value, LEAST) for value in values]


def _edges(values: list[float]) -> list[float]:
    low, high = min(_positive(values), default=LEAST), max(_positive(values), default=1.0) * 1.001 + 1e-9
    return [low * (high / low) ** (k / 40) for k in range(41)]


def _percentiles(values: list[float]) -> dict[str, float]:
    import numpy as np

    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (5, 25, 50, 75, 95)} if values else {}
