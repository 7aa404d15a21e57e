"""Validation during training: PSNR and losses on triplets of the validation set, which shares no film with training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.training.config import LossConfig
from midframe.training.data.batch import Batch
from midframe.training.data.dataset import InMemoryDataset
from midframe.training.train.models import Models
from midframe.training.train.objective import predict

TRIPLETS = 24
"""Number of triplets, evenly spaced in the validation set."""

CROP_SIZE = 256
"""Side in pixels of the centre crops; one size for all, so that they form a batch."""

PICTURES = 4
"""Number of triplets whose frames are kept as pictures."""

MIN_MSE = 1e-10
"""Lower bound of the mean squared error, which keeps the PSNR of a perfect prediction finite."""


@dataclass(frozen=True)
class ValidationResult:
    """What `validate` measures."""

    psnr: float
    """Mean over the triplets of the PSNR of the predicted frames, rounded to 8 bits, in dB."""
    losses: dict[str, float]
    """Unweighted losses of the predicted frames, for every loss whose weight is non-zero."""
    pictures: Tensor
    """First, target, predicted and second frame of the first few triplets, `[K, 4, 3, S, S]`, 0..255."""


def validation_batch(dataset: InMemoryDataset) -> Batch | None:
    """Return the triplets to validate on, always the same ones of a data set; None if it is empty.

    The windows are evenly spaced in the data set. In turn, a window gives its middle frame with both neighbours, or its
    first, middle and last frame.
    """
    count = min(TRIPLETS, len(dataset.windows))
    if not count:
        return None
    indices = torch.linspace(0, len(dataset.windows) - 1, count).round().long().tolist()
    triplets = []
    for position, index in enumerate(indices):
        window = dataset.windows[index]
        middle = len(window) // 2
        distance = middle if position % 2 else 1
        triplets.append(_centre_crop(window[[middle - distance, middle, middle + distance]]).float())
    first, target, second = torch.stack(triplets).unbind(1)
    return Batch(
        first=first,
        target=target,
        second=second,
        time=torch.full((count,), 0.5),
        flow=torch.zeros(count, 4, 1, 1),
        flow_confidence=torch.zeros(count, 1, 1, 1),
        flow_is_exact=torch.zeros(count),
    )


@torch.no_grad()
def validate(models: Models, batch: Batch, config: LossConfig) -> ValidationResult:
    """Predict the target frames one by one and compare them with the true ones.

    models: from `Models.evaluation_copy`.
    """
    weight = next(models.generator.parameters())
    losses: dict[str, float] = {}
    psnrs: list[Tensor] = []
    pictures: list[Tensor] = []
    for index in range(len(batch)):
        triplet = batch.micro_batch(index, len(batch)).to(weight.device, weight.dtype)
        predicted, _ = predict(models.generator, triplet)
        for name, loss in models.frame_losses(predicted, triplet, config)[0].items():
            losses[name] = losses.get(name, 0.0) + float(loss) / len(batch)
        rounded = predicted.clamp(0, 255).round()
        mse = (rounded - triplet.target).square().mean().clamp_min(MIN_MSE)
        psnrs.append(10 * torch.log10(255**2 / mse))
        if len(pictures) < PICTURES:
            pictures.append(torch.cat((triplet.first, triplet.target, rounded, triplet.second)).cpu().float())
    return ValidationResult(float(torch.stack(psnrs).mean()), losses, torch.stack(pictures))


def tile_pictures(rows: Tensor) -> Tensor:
    """Arrange pictures `[rows, columns, 3, H, W]` in 0..255 in a grid: one picture `[3, rows·H, columns·W]`, uint8."""
    row_count, column_count, _, height, width = rows.shape
    grid = rows.permute(2, 0, 3, 1, 4).reshape(3, row_count * height, column_count * width)
    return grid.clamp(0, 255).round().byte()


def _centre_crop(frames: Tensor) -> Tensor:
    """Return the centre of frames `[N, 3, H, W]`, with sides of `CROP_SIZE`, padding smaller frames by replication."""
    height, width = frames.shape[-2:]
    top, left = max(0, height - CROP_SIZE) // 2, max(0, width - CROP_SIZE) // 2
    crop = frames[..., top : top + CROP_SIZE, left : left + CROP_SIZE]
    padding_bottom, padding_right = CROP_SIZE - crop.shape[-2], CROP_SIZE - crop.shape[-1]
    if not padding_bottom and not padding_right:
        return crop
    return F.pad(crop.float(), (0, padding_right, 0, padding_bottom), mode="replicate")
