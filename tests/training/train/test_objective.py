"""What a step minimises, against computations of its own: losses at the levels, their fading, their parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from films.scenes import texture
from midframe.networks.guided import Guided, GuidedOutput
from midframe.training.config import Losses
from midframe.training.data.batch import Batch
from midframe.training.train.objective import level_losses, make, picture_losses, weighted
from runs import SMALL

SIDE = 64
STEPS = (16, 8, 4, 2)
"""Pixels of the picture that a pixel of each level is wide."""


def moving(dx: float, dy: float, time: float = 0.5, exact: float = 1.0) -> Batch:
    """A texture that moves by (dx, dy) from the first frame to the second, with its exact motion."""

    def at(when: float) -> Tensor:
        drawn = texture(SIDE, SIDE, (dx * (when - time), dy * (when - time)), 3) * 255
        return torch.from_numpy(drawn).permute(2, 0, 1)[None]

    motion = torch.tensor([-time * dx, -time * dy, (1 - time) * dx, (1 - time) * dy], dtype=torch.float64)
    maps = motion.view(1, 4, 1, 1).expand(1, 4, SIDE, SIDE)
    ones = torch.ones(1, 1, SIDE, SIDE, dtype=torch.float64)
    return Batch(at(0), at(time), at(1), torch.tensor([time]), maps, ones, torch.tensor([exact]))


def levels_of(motion: Tensor, blend: float = 0.5) -> GuidedOutput:
    """A network output that has one motion (in pixels of the picture, `[4]`) everywhere."""
    sizes = [SIDE // step for step in STEPS]
    motions = [(motion / step).view(1, 4, 1, 1).expand(1, 4, n, n) for step, n in zip(STEPS, sizes, strict=True)]
    blends = [torch.full((1, 1, n, n), blend, dtype=motion.dtype) for n in sizes]
    none = torch.zeros(0)
    return GuidedOutput(none, tuple(motions), tuple(blends), none, none, none)


GUIDED = Losses(merged=1.0, warped=1.0, motion=1.0, teacher=1.0)


def test_at_the_true_motion_there_is_hardly_a_loss_and_next_to_it_there_is() -> None:
    batch = moving(16.0, -16.0)
    right = level_losses(levels_of(batch.flow[0, :, 0, 0]), batch, GUIDED)
    wrong = level_losses(levels_of(batch.flow[0, :, 0, 0] + 6), batch, GUIDED)
    assert right["motion"] == pytest.approx(len(STEPS) * 0.1)  # each level's distance is rounded off at 0.1 pixels
    assert wrong["motion"] == pytest.approx(len(STEPS) * np.sqrt(72 + 0.01))
    assert right["teacher"] == wrong["teacher"] == 0
    assert right["merged"] < 0.5 * wrong["merged"]
    assert right["warped"] < 0.5 * wrong["warped"]


def test_levels_by_hand() -> None:
    """Whole pixels of motion at the finest level, all computed by numpy and slices."""
    batch = moving(4.0, 8.0, time=0.25, exact=0.0)
    motion = torch.tensor([6.0, -2.0, 2.0, 4.0], dtype=torch.float64)
    only = levels_of(motion, blend=0.3)
    finest = replace(only, flows=only.flows[-1:], visibilities=only.visibilities[-1:])
    found = level_losses(finest, batch, GUIDED)

    half = [
        frame[0].numpy().reshape(3, 32, 2, 32, 2).mean((2, 4)) for frame in (batch.first, batch.target, batch.second)
    ]
    rows, columns = np.mgrid[:32, :32]

    def moved(picture: np.ndarray, x: int, y: int) -> np.ndarray:
        return picture[:, np.clip(rows + y, 0, 31), np.clip(columns + x, 0, 31)]

    one, other = moved(half[0], 3, -1), moved(half[2], 1, 2)
    charbonnier = lambda a, b: np.sqrt((a - b) ** 2 + 0.255**2).mean()  # noqa: E731
    assert found["merged"].item() == pytest.approx(charbonnier(0.3 * one + 0.7 * other, half[1]))
    apart = (charbonnier(one, half[1]) + charbonnier(other, half[1])) / 2
    assert found["warped"].item() == pytest.approx(apart)
    true = batch.flow[0, :, 0, 0].numpy()
    distance = [np.sqrt(((motion.numpy() - true)[k : k + 2] ** 2).sum() + 0.01) for k in (0, 2)]
    assert found["teacher"].item() == pytest.approx(np.mean(distance))
    assert found["motion"] == 0


def test_what_is_not_trusted_does_not_count() -> None:
    batch = moving(4.0, 0.0)
    batch = replace(batch, flow_confidence=batch.flow_confidence * 0.25)
    wrong = levels_of(batch.flow[0, :, 0, 0] + 3)
    assert level_losses(wrong, batch, GUIDED)["motion"] == pytest.approx(4 * 0.25 * np.sqrt(18.01))


def test_losses_without_a_weight_are_not_computed() -> None:
    batch = moving(4.0, 0.0)
    assert level_losses(levels_of(batch.flow[0, :, 0, 0]), batch, Losses(merged=1.0)).keys() == {"merged"}
    made = batch.first
    assert picture_losses(made, batch, Losses(perceptual=1.0, adversarial=1.0, census=1.0)).keys() == {"census"}
    found = picture_losses(made, batch, Losses(reconstruction=1.0, luminosity=2.0))
    assert found["reconstruction"].item() == pytest.approx((made - batch.target).abs().mean().item())


def test_losses_fade_as_they_say() -> None:
    losses = Losses(charbonnier=2.0, warped=3.0, motion=5.0, teacher=7.0, fade=0.4)
    found = {name: torch.tensor(1.0) for name in ("charbonnier", "warped", "motion", "teacher")}
    for progress, wanted in ((0.0, 2 + 3 + 5 + 7), (0.2, 2 + (3 + 5 + 7) / 2), (0.4, 2 + 5 / 4), (1.0, 2 + 5 / 4)):
        assert weighted(found, losses, progress).item() == pytest.approx(wanted)
    assert weighted(found, replace(losses, fade=0.0), 0.0).item() == pytest.approx(2 + 5 / 4)


def test_the_losses_of_parts_average_to_those_of_the_whole() -> None:
    whole = Batch(
        *(
            torch.cat(pair)
            for pair in zip(vars(moving(4, 2)).values(), vars(moving(-6, 3, 0.3, 0.0)).values(), strict=True)
        )
    )
    torch.manual_seed(0)
    network = Guided(**SMALL, precision="float32").double()
    made, levels = make(network, whole)
    assert levels is not None
    wanted = level_losses(levels, whole, GUIDED)
    parts = []
    for index in range(2):
        _, each = make(network, whole.micro_batch(index, 2))
        assert each is not None
        parts.append(level_losses(each, whole.micro_batch(index, 2), GUIDED))
    for name, loss in wanted.items():
        assert loss.item() == pytest.approx((parts[0][name] + parts[1][name]).item() / 2)
    assert made.shape == whole.first.shape
    assert 50 < made.mean() < 200  # of 255


def test_made_frames_are_in_255_like_the_losses() -> None:
    batch = moving(0.0, 0.0)
    made, _ = make(Guided(**SMALL, precision="float32").double(), batch)
    assert F.l1_loss(made, batch.target) < 1e-3
