"""Each loss against a value worked out by hand or by an independent computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from midframe.learn import losses


def pictures(height: int = 24, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64) * 255
    return made, torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64) * 255


def test_reconstruction_is_the_mean_absolute_difference() -> None:
    made, true = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    made[0, 0, 0, 0] = -24.0
    assert losses.reconstruction_loss(made, true).item() == pytest.approx(2.0)


def test_perceptual_loss_of_the_reports_layer_is_the_plain_mean_square() -> None:
    made, true = torch.full((1, 4, 3, 3), 5.0), torch.full((1, 4, 3, 3), 2.0)
    assert losses.perceptual_loss(made, true).item() == pytest.approx(9.0)


def test_perceptual_loss_of_another_layer_does_not_depend_on_the_scale_of_its_activations() -> None:
    made, true = pictures()
    plain = losses.perceptual_loss(made, true, "relu3_4")
    assert losses.perceptual_loss(made * 7, true * 7, "relu3_4").item() == pytest.approx(plain.item())
    assert plain.item() == pytest.approx(((made - true) ** 2).mean().item() / (true**2).mean().item())


@pytest.mark.parametrize("logit", [-30.0, -1.0, 0.0, 2.5, 40.0])
def test_adversarial_loss_is_minus_log_sigmoid(logit: float) -> None:
    wanted = math.log1p(math.exp(-logit)) if logit > -20 else -logit
    assert losses.adversarial_loss(torch.tensor([logit], dtype=torch.float64)).item() == pytest.approx(
        wanted, abs=1e-12
    )


def test_discriminator_loss_by_hand_with_and_without_smoothing() -> None:
    true, made = torch.tensor([0.7, -0.2], dtype=torch.float64), torch.tensor([-0.4, 1.1], dtype=torch.float64)
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    for label in (1.0, 0.875):
        of_true = [-(label * math.log(sigmoid(x)) + (1 - label) * math.log(1 - sigmoid(x))) for x in true.tolist()]
        of_made = [-math.log(1 - sigmoid(x)) for x in made.tolist()]
        wanted = sum(of_true) / 2 + sum(of_made) / 2
        assert losses.discriminator_loss(true, made, 1 - label).item() == pytest.approx(wanted, abs=1e-12)


def test_luminosity_loss_sees_luma_only() -> None:
    true = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    made = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert losses.luminosity_loss(made, true).item() == pytest.approx((2.99 - 11.74 + 3.42) ** 2)
    unseen = torch.tensor([0.587, -0.299, 0.0], dtype=torch.float64).view(1, 3, 1, 1) * 100
    assert losses.luminosity_loss(unseen, true).item() == pytest.approx(0, abs=1e-18)


def test_charbonnier_is_smooth_at_zero_and_the_absolute_difference_far_away() -> None:
    true = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    assert losses.charbonnier_loss(true, true, 0.5).item() == pytest.approx(0.5)
    assert losses.charbonnier_loss(true + 300, true, 0.5).item() == pytest.approx(300, rel=1e-5)


def test_laplacian_loss_of_a_constant_shift_is_only_in_the_last_level() -> None:
    made, true = pictures(64, 64)
    shift = losses.laplacian_loss(true + 3, true, levels=4)
    assert shift.item() == pytest.approx(8 * 3, rel=1e-9)
    assert losses.laplacian_loss(made, true).item() > 0
    assert losses.laplacian_loss(true, true).item() == 0


def test_laplacian_loss_of_one_level_is_the_mean_absolute_difference() -> None:
    made, true = pictures()
    assert losses.laplacian_loss(made, true, levels=1).item() == pytest.approx((made - true).abs().mean().item())


def test_census_loss_does_not_see_brightness_and_sees_structure() -> None:
    made, true = pictures()
    assert losses.census_loss(true + 40, true).item() == pytest.approx(0, abs=1e-12)
    assert losses.census_loss(made, true).item() > 0.3


def test_census_loss_against_loops() -> None:
    made, true = (p[:1, :, :9, :10] for p in pictures())
    weights = np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    grays = [(p[0].numpy() * weights).sum(0) for p in (made, true)]
    total, count = 0.0, 0
    for y in range(1, 8):
        for x in range(1, 9):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    a, b = ((g[y + dy, x + dx] - g[y, x]) for g in grays)
                    d = (a / math.sqrt(0.81 + a * a) - b / math.sqrt(0.81 + b * b)) ** 2
                    total, count = total + d / (0.1 + d), count + 1
    assert losses.census_loss(made, true, radius=1).item() == pytest.approx(total / count, rel=1e-9)


@pytest.mark.parametrize(
    "name", ["reconstruction_loss", "luminosity_loss", "charbonnier_loss", "laplacian_loss", "census_loss"]
)
def test_every_loss_has_the_gradient_of_its_value(name: str) -> None:
    made, true = (p[:1, :, :12, :12].contiguous() for p in pictures())
    loss = getattr(losses, name)
    assert torch.autograd.gradcheck(lambda x: loss(x, true), made.requires_grad_(), fast_mode=True)
