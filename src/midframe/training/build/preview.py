"""Preview of a data set: a picture of training batches as the network receives them, and histograms of its samples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from midframe.errors import DeviceError, InputError, OutputError
from midframe.training.data.shards import Split, decode, read_shards

BATCH_SIZE = 6
"""Samples of a batch (the report's)."""

HISTOGRAM_MIN = 0.05
"""Lower end of the logarithmic histograms; smaller values are counted there."""

HISTOGRAM_BINS = 40

PERCENTILES = (5, 25, 50, 75, 95)

AugmentationName = Literal["paper", "repository", "guided"]


def draw_preview(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: Split = "train",
    batches: int = 2,
    seed: int = 0,
    augmentation: AugmentationName = "paper",
) -> dict[str, Any]:
    """Draw training batches (the report's Fig. 6) and histograms of motion and difference to the picture file `out`.

    Each column of a batch shows the first, middle and last frame of a sample after augmentation by the named preset.
    seed: of the augmentation. Returns the number of samples in the split and the percentiles of motion and difference.

    Raises `InputError` if the split has no samples, `OutputError` if the picture cannot be written, `DeviceError` if
    matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DeviceError("drawing needs matplotlib; install midframe[train]") from None
    infos = list(_read_infos(folder, split))
    pictures = list(_batch_pictures(folder, split, batches, seed, augmentation))
    if not pictures:
        raise InputError(f"{folder} holds no samples of the split '{split}'")
    figure = Figure(figsize=(10, 5.2 * len(pictures) + 3), layout="constrained")
    grid = figure.add_gridspec(len(pictures) + 1, 2, height_ratios=[5.0] * len(pictures) + [2.8])
    for k, picture in enumerate(pictures):
        _draw_batch(figure.add_subplot(grid[k, :]), picture, f"batch {k + 1}", augmentation)
    film_count = len({info.get("film_id") for info in infos})
    motions, differences = ([float(info[name]) for info in infos if name in info] for name in ("motion", "difference"))
    _draw_histogram(
        figure.add_subplot(grid[-1, 0]), motions, "mean motion between the outer frames, pixels", film_count
    )
    _draw_histogram(figure.add_subplot(grid[-1, 1]), differences, "their mean squared difference", film_count)
    try:
        figure.savefig(out, dpi=100)
    except (OSError, ValueError) as error:
        raise OutputError(f"the picture {out} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return {
        "split": split,
        "samples": len(infos),
        "motion": _percentiles(motions),
        "difference": _percentiles(differences),
    }


def _draw_batch(axes: Any, picture: Any, title: str, augmentation: AugmentationName) -> None:
    """Draw the picture of a batch."""
    axes.imshow(picture)
    side = picture.shape[0] // 3
    axes.set(xticks=[], yticks=[side // 2 + side * row for row in range(3)], yticklabels=["first", "middle", "last"])
    axes.set_title(f"{title}, {picture.shape[1] // side} samples, augmented ({augmentation})", fontsize=10)


def _draw_histogram(axes: Any, values: Sequence[float], label: str, film_count: int) -> None:
    """Draw a histogram with a logarithmic axis of values."""
    clamped = [max(value, HISTOGRAM_MIN) for value in values]
    low, high = min(clamped, default=HISTOGRAM_MIN), max(clamped, default=1.0) * 1.001 + 1e-9
    edges = [low * (high / low) ** (k / HISTOGRAM_BINS) for k in range(HISTOGRAM_BINS + 1)]
    axes.hist(clamped, bins=edges, color="tab:blue")
    axes.set(xscale="log", xlabel=label, ylabel="samples")
    axes.set_title(f"{len(values)} samples of {film_count} films", fontsize=10)


def _batch_pictures(
    folder: str | os.PathLike[str], split: Split, batches: int, seed: int, augmentation: AugmentationName
) -> Iterator[Any]:
    """Yield each batch as one picture, uint8 `[3·crop, samples·crop, 3]`: a column for each sample."""
    import numpy as np
    import torch

    from midframe.training.data.augmentation import PRESETS, augment, generator_for

    samples = islice(read_shards(folder, split), batches * BATCH_SIZE)
    columns = []
    for k, sample in enumerate(samples):
        window = torch.from_numpy(np.stack([decode(frame) for frame in sample.frames])).permute(0, 3, 1, 2)
        augmented = augment(window, generator_for(seed, 0, k), PRESETS[augmentation])
        frames = augmented.frames[[0, len(window) // 2, -1]]
        columns.append(frames.add(0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).flatten(0, 1).numpy())
    for first in range(0, len(columns), BATCH_SIZE):
        yield np.concatenate(columns[first : first + BATCH_SIZE], 1)


def _read_infos(folder: str | os.PathLike[str], split: Split) -> Iterator[Mapping[str, Any]]:
    """Yield the info of each sample of a split, from the manifest or, without one, from the shards."""
    manifest = Path(folder) / "manifest.jsonl"
    if not manifest.is_file():
        yield from (sample.info for sample in read_shards(folder, split))
        return
    with manifest.open("rb") as file:
        for line in map(json.loads, file):
            if line["kind"] == "sample" and line["shard"].startswith(f"{split}-"):
                yield line


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of values by name: p5, p25, ...; nothing for no values."""
    import numpy as np

    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in PERCENTILES} if values else {}
