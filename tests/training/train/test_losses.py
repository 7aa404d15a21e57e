"""Each loss against a value worked out by hand or by an independent computation."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from midframe.training.train import losses

PICTURE_LOSSES = [
    f"{name}_loss" for name in ("reconstruction", "luminosity", "charbonnier", "decibels", "laplacian", "census")
]


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
    each = [((m - t) ** 2).mean().item() / (t**2).mean().item() for m, t in zip(made, true, strict=True)]
    assert plain.item() == pytest.approx(sum(each) / len(each))


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
    assert losses.luminosity_loss(made, true, losses.BT709).item() == pytest.approx((2.126 - 14.304 + 2.166) ** 2)
    unseen = torch.tensor([0.587, -0.299, 0.0], dtype=torch.float64).view(1, 3, 1, 1) * 100
    assert losses.luminosity_loss(unseen, true).item() == pytest.approx(0, abs=1e-18)


def test_decibels_are_what_the_psnr_lacks_picture_by_picture() -> None:
    true = torch.zeros(2, 3, 4, 5)
    made = torch.stack((torch.full((3, 4, 5), 10.0), torch.full((3, 4, 5), 100.0))).requires_grad_()
    psnr = [10 * math.log10(255**2 / (d * d + 1)) for d in (10, 100)]
    loss = losses.decibels_loss(made, true)
    assert loss.item() == pytest.approx(20 * math.log10(255) - sum(psnr) / 2)
    (gradient,) = torch.autograd.grad(loss, made)
    assert gradient[1].norm() < gradient[0].norm()
    assert losses.decibels_loss(true, true).item() == 0


def test_charbonnier_is_smooth_at_zero_and_the_absolute_difference_far_away() -> None:
    true = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    assert losses.charbonnier_loss(true, true, 0.5).item() == pytest.approx(0.5)
    assert losses.charbonnier_loss(true + 300, true, 0.5).item() == pytest.approx(300, rel=1e-5)


def test_laplacian_loss_of_a_constant_shift_is_only_in_the_last_level() -> None:
    _, true = pictures(64, 64)
    shift = losses.laplacian_loss(true + 3, true, levels=4)
    assert shift.item() == pytest.approx(8 * 3, rel=1e-9)
    assert losses.laplacian_loss(true, true).item() == 0


def test_laplacian_loss_of_one_level_is_the_mean_absolute_difference() -> None:
    made, true = pictures()
    assert losses.laplacian_loss(made, true, levels=1).item() == pytest.approx((made - true).abs().mean().item())


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_laplacian_loss_against_matrices(levels: int) -> None:
    # 32x64 has levels of 32, 16 and 8 lines, and no more however many are asked for.
    made, true = pictures(32, 64)
    left = (made - true).numpy()
    wanted = 0.0
    for level in range(min(levels, 3) - 1):
        down = [halving(side) for side in left.shape[-2:]]
        up = [doubling(side // 2) for side in left.shape[-2:]]
        small = down[0] @ left @ down[1].T
        wanted += 2**level * np.abs(left - up[0] @ small @ up[1].T).mean()
        left = small
    wanted += 2 ** (min(levels, 3) - 1) * np.abs(left).mean()
    assert losses.laplacian_loss(made, true, levels).item() == pytest.approx(wanted, rel=1e-6)


def halving(side: int) -> np.ndarray:
    """1 3 3 1 about each pair of pixels, what lies outside left out."""
    matrix = np.zeros((side // 2, side))
    for row in range(side // 2):
        for tap, weight in zip(range(2 * row - 1, 2 * row + 3), (1, 3, 3, 1), strict=True):
            if 0 <= tap < side:
                matrix[row, tap] = weight
    return matrix / matrix.sum(1, keepdims=True)


def doubling(side: int) -> np.ndarray:
    """3 1 and 1 3, the edge repeated."""
    matrix = np.zeros((2 * side, side))
    for row in range(2 * side):
        near, far = row // 2, row // 2 + (1 if row % 2 else -1)
        matrix[row, near] += 0.75
        matrix[row, min(max(far, 0), side - 1)] += 0.25
    return matrix


@pytest.mark.parametrize("size", [(31, 17), (9, 40), (5, 5)])
def test_laplacian_and_census_take_any_size(size: tuple[int, int]) -> None:
    made, true = pictures(*size)
    for loss in (losses.laplacian_loss, losses.census_loss):
        assert loss(made, true).item() > 0
        assert loss(made, made).item() == 0


def test_census_loss_does_not_see_brightness_and_sees_structure() -> None:
    made, true = pictures()
    assert losses.census_loss(true + 40, true).item() == pytest.approx(0, abs=1e-12)
    assert losses.census_loss(made, true).item() > 0.3


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_census_loss_against_loops(radius: int) -> None:
    made, true = (p[:, :, :7, :8] for p in pictures())
    weights = np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    grays = [(p.numpy() * weights).sum(1) for p in (made, true)]
    squash = lambda x: x / math.sqrt(0.81 + x * x)  # noqa: E731
    by_direction = []
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            found = []
            for b, y, x in np.ndindex(2, 7, 8):
                if (dy or dx) and 0 <= y + dy < 7 and 0 <= x + dx < 8:
                    u, v = (squash(g[b, y + dy, x + dx] - g[b, y, x]) for g in grays)
                    found.append((u - v) ** 2 / (0.1 + (u - v) ** 2))
            by_direction += [np.mean(found)] if found else []
    assert losses.census_loss(made, true, radius).item() == pytest.approx(np.mean(by_direction), rel=1e-9)


@pytest.mark.parametrize("name", PICTURE_LOSSES)
def test_every_loss_of_pictures_has_the_gradient_of_its_value(name: str) -> None:
    made, true = (p[:1, :, :16, :16].contiguous().requires_grad_() for p in pictures())
    assert torch.autograd.gradcheck(getattr(losses, name), (made, true), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: getattr(losses, name)(x, true.detach()), (made,), fast_mode=True)


def test_the_losses_of_features_and_logits_have_the_gradients_of_their_values() -> None:
    made, true = (p[:, :, :6, :6].contiguous() for p in pictures())
    for layer in ("relu4_4", "relu3_4"):
        perceptual = partial(losses.perceptual_loss, true=true, layer=layer)
        assert torch.autograd.gradcheck(perceptual, (made.requires_grad_(),))
    logits = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([0.7, -2.0], [-0.4, 3.0])]
    assert torch.autograd.gradcheck(losses.adversarial_loss, (logits[1],))
    assert torch.autograd.gradcheck(lambda a, b: losses.discriminator_loss(a, b, 0.125), tuple(logits))


def test_losses_of_several_shares_average_to_that_of_the_whole() -> None:
    made, true = pictures()
    for name in PICTURE_LOSSES:
        loss = getattr(losses, name)
        parts = [loss(made[k : k + 1], true[k : k + 1]).item() for k in range(2)]
        assert loss(made, true).item() == pytest.approx(sum(parts) / 2)
    parts = [losses.perceptual_loss(made[k : k + 1], true[k : k + 1] + k, "relu3_4").item() for k in range(2)]
    shifted = torch.stack((true[0], true[1] + 1))
    assert losses.perceptual_loss(made, shifted, "relu3_4").item() == pytest.approx(sum(parts) / 2)
