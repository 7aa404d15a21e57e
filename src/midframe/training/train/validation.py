"""How good a network is on held-back films while it is trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from midframe.networks.guided import Guided
from midframe.networks.paper import Paper
from midframe.training.config import Losses
from midframe.training.data.batch import Batch
from midframe.training.data.dataset import InMemoryDataset
from midframe.training.train.models import Players
from midframe.training.train.objective import make

TRIPLETS = 24
"""Held-back triplets that are made, spread over the films."""
SIDE = 256
"""Each is cut to this side about its middle, so that all lie in one batch and it does not take long."""


@dataclass(frozen=True)
class Score:
    """What the held-back triplets say: psnr in dB, 8-bit, the mean of the pictures; and each loss that has a weight."""

    psnr: float
    losses: dict[str, float]
    pictures: Tensor
    """`[K, 4, 3, S, S]`, 0..255: first, target, made and second of the first few."""


def held_batch(held: InMemoryDataset) -> Batch | None:
    """The triplets that are looked at, always the same: neighbours and the widest of each window, in turn."""
    chosen = torch.linspace(0, len(held.windows) - 1, min(TRIPLETS, len(held.windows))).round().long().tolist()
    triplets = []
    for place, index in enumerate(chosen):
        window = held.windows[index]
        middle = len(window) // 2
        far = middle if place % 2 else 1
        triplets.append(_cut(window[[middle - far, middle, middle + far]]).float())
    if not triplets:
        return None
    first, target, second = torch.stack(triplets).unbind(1)
    empty = torch.zeros(len(triplets), 4, 1, 1)
    return Batch(first, target, second, torch.full((len(triplets),), 0.5), empty, empty[:, :1], empty[:, 0, 0, 0])


@torch.no_grad()
def judged(who: Players, average: Sequence[Tensor]) -> Players:
    """A copy of the players to be looked at: the network with these weights, all in whole precision, no dropout.

    average: the network's weights in order; none of them: as they are.
    """
    network, discriminator = copy.deepcopy((who.network, who.discriminator))
    for weight, value in zip(network.parameters() if average else (), average, strict=True):
        weight.copy_(value)
    if isinstance(network, (Guided, Paper)):
        network.precision = "float32"
    if discriminator is not None:
        discriminator.eval()
    return replace(who, network=network.eval(), discriminator=discriminator, mixed=False)


@torch.no_grad()
def evaluate(who: Players, held: Batch, weights: Losses, pictures: int = 4) -> Score:
    """Make the held-back triplets' middles with the network as it is, and hold them against the true ones."""
    device, kind = next((p.device, p.dtype) for p in who.network.parameters())
    found: dict[str, float] = {}
    psnrs: list[Tensor] = []
    shown: list[Tensor] = []
    for index in range(len(held)):
        batch = held.micro_batch(index, len(held)).to(device, kind)
        made, _ = make(who.network, batch)
        for name, loss in who.losses(made, batch, weights)[0].items():
            found[name] = found.get(name, 0.0) + float(loss) / len(held)
        rounded = made.clamp(0, 255).round()
        error = (rounded - batch.target).square().mean().clamp_min(1e-10)
        psnrs.append(10 * torch.log10(255**2 / error))
        if len(shown) < pictures:
            shown.append(torch.cat((batch.first, batch.target, rounded, batch.second)).cpu().float())
    return Score(float(torch.stack(psnrs).mean()), found, torch.stack(shown))


def _cut(frames: Tensor) -> Tensor:
    """The middle `SIDE` x `SIDE` of frames; smaller ones are padded by their edge."""
    height, width = frames.shape[-2:]
    top, left = max(0, height - SIDE) // 2, max(0, width - SIDE) // 2
    cut = frames[..., top : top + SIDE, left : left + SIDE]
    below, right = SIDE - cut.shape[-2], SIDE - cut.shape[-1]
    if not below and not right:
        return cut
    return torch.nn.functional.pad(cut.float(), (0, right, 0, below), mode="replicate")
