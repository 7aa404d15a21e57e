"""Each loss function against a value computed by hand or by an independent implementation."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from midframe.training.train import losses

FRAME_LOSSES = [
    f"{name}_loss" for name in ("reconstruction", "luminosity", "charbonnier", "log_mse", "laplacian", "census")
]


def random_frames(height: int = 24, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    predicted = torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64) * 255
    return predicted, torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64) * 255


def test_reconstruction_is_the_mean_absolute_error() -> None:
    predicted, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    predicted[0, 0, 0, 0] = -24.0
    assert losses.reconstruction_loss(predicted, target).item() == pytest.approx(2.0)


def test_perceptual_loss_of_the_reports_layer_is_the_plain_mean_square() -> None:
    predicted, target = torch.full((1, 4, 3, 3), 5.0), torch.full((1, 4, 3, 3), 2.0)
    assert losses.perceptual_loss(predicted, target).item() == pytest.approx(9.0)


def test_perceptual_loss_of_another_layer_does_not_depend_on_the_scale_of_its_activations() -> None:
    predicted, target = random_frames()
    plain = losses.perceptual_loss(predicted, target, "relu3_4")
    assert losses.perceptual_loss(predicted * 7, target * 7, "relu3_4").item() == pytest.approx(plain.item())
    each = [((m - t) ** 2).mean().item() / (t**2).mean().item() for m, t in zip(predicted, target, strict=True)]
    assert plain.item() == pytest.approx(sum(each) / len(each))


@pytest.mark.parametrize("logit", [-30.0, -1.0, 0.0, 2.5, 40.0])
def test_adversarial_loss_is_minus_log_sigmoid(logit: float) -> None:
    expected = math.log1p(math.exp(-logit)) if logit > -20 else -logit
    assert losses.adversarial_loss(torch.tensor([logit], dtype=torch.float64)).item() == pytest.approx(
        expected, abs=1e-12
    )


def test_discriminator_loss_by_hand_with_and_without_smoothing() -> None:
    target, predicted = torch.tensor([0.7, -0.2], dtype=torch.float64), torch.tensor([-0.4, 1.1], dtype=torch.float64)
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    for label in (1.0, 0.875):
        target_terms = [
            -(label * math.log(sigmoid(x)) + (1 - label) * math.log(1 - sigmoid(x))) for x in target.tolist()
        ]
        predicted_terms = [-math.log(1 - sigmoid(x)) for x in predicted.tolist()]
        expected = sum(target_terms) / 2 + sum(predicted_terms) / 2
        assert losses.discriminator_loss(target, predicted, 1 - label).item() == pytest.approx(expected, abs=1e-12)


def test_luminosity_loss_depends_on_luma_only() -> None:
    target = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    predicted = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert losses.luminosity_loss(predicted, target).item() == pytest.approx((2.99 - 11.74 + 3.42) ** 2)
    assert losses.luminosity_loss(predicted, target, losses.BT709).item() == pytest.approx(
        (2.126 - 14.304 + 2.166) ** 2
    )
    same_luma = torch.tensor([0.587, -0.299, 0.0], dtype=torch.float64).view(1, 3, 1, 1) * 100
    assert losses.luminosity_loss(same_luma, target).item() == pytest.approx(0, abs=1e-18)


def test_log_mse_is_48_db_minus_the_psnr_of_each_sample() -> None:
    target = torch.zeros(2, 3, 4, 5)
    predicted = torch.stack((torch.full((3, 4, 5), 10.0), torch.full((3, 4, 5), 100.0))).requires_grad_()
    psnr = [10 * math.log10(255**2 / (d * d + 1)) for d in (10, 100)]
    loss = losses.log_mse_loss(predicted, target)
    assert loss.item() == pytest.approx(20 * math.log10(255) - sum(psnr) / 2)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert gradient[1].norm() < gradient[0].norm()
    assert losses.log_mse_loss(target, target).item() == 0


def test_charbonnier_is_epsilon_at_zero_and_the_absolute_error_at_large_differences() -> None:
    target = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    assert losses.charbonnier_loss(target, target, 0.5).item() == pytest.approx(0.5)
    assert losses.charbonnier_loss(target + 300, target, 0.5).item() == pytest.approx(300, rel=1e-5)


def test_laplacian_loss_of_a_constant_shift_is_only_in_the_last_level() -> None:
    _, target = random_frames(64, 64)
    shift = losses.laplacian_loss(target + 3, target, levels=4)
    assert shift.item() == pytest.approx(8 * 3, rel=1e-9)
    assert losses.laplacian_loss(target, target).item() == 0


def test_laplacian_loss_of_one_level_is_the_mean_absolute_difference() -> None:
    predicted, target = random_frames()
    assert losses.laplacian_loss(predicted, target, levels=1).item() == pytest.approx(
        (predicted - target).abs().mean().item()
    )


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_laplacian_loss_against_matrices(levels: int) -> None:
    # Frames of 32x64 have at most three levels, of 32, 16 and 8 rows.
    predicted, target = random_frames(32, 64)
    residual = (predicted - target).numpy()
    expected = 0.0
    for level in range(min(levels, 3) - 1):
        down = [halving_matrix(side) for side in residual.shape[-2:]]
        up = [doubling_matrix(side // 2) for side in residual.shape[-2:]]
        small = down[0] @ residual @ down[1].T
        expected += 2**level * np.abs(residual - up[0] @ small @ up[1].T).mean()
        residual = small
    expected += 2 ** (min(levels, 3) - 1) * np.abs(residual).mean()
    assert losses.laplacian_loss(predicted, target, levels).item() == pytest.approx(expected, rel=1e-6)


def halving_matrix(side: int) -> np.ndarray:
    """Return the matrix that halves an axis: taps 1 3 3 1, normalised without the taps outside the picture."""
    matrix = np.zeros((side // 2, side))
    for row in range(side // 2):
        for tap, weight in zip(range(2 * row - 1, 2 * row + 3), (1, 3, 3, 1), strict=True):
            if 0 <= tap < side:
                matrix[row, tap] = weight
    return matrix / matrix.sum(1, keepdims=True)


def doubling_matrix(side: int) -> np.ndarray:
    """Return the matrix that doubles an axis bilinearly: taps 3 1 and 1 3, the edge repeated."""
    matrix = np.zeros((2 * side, side))
    for row in range(2 * side):
        near, far = row // 2, row // 2 + (1 if row % 2 else -1)
        matrix[row, near] += 0.75
        matrix[row, min(max(far, 0), side - 1)] += 0.25
    return matrix


@pytest.mark.parametrize("size", [(31, 17), (9, 40), (5, 5)], ids=str)
def test_laplacian_and_census_take_any_size(size: tuple[int, int]) -> None:
    predicted, target = random_frames(*size)
    for loss in (losses.laplacian_loss, losses.census_loss):
        assert loss(predicted, target).item() > 0
        assert loss(predicted, predicted).item() == 0


def test_census_loss_ignores_brightness_but_not_structure() -> None:
    predicted, target = random_frames()
    assert losses.census_loss(target + 40, target).item() == pytest.approx(0, abs=1e-12)
    assert losses.census_loss(predicted, target).item() > 0.3


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_census_loss_against_loops(radius: int) -> None:
    predicted, target = (p[:, :, :7, :8] for p in random_frames())
    weights = np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    lumas = [(p.numpy() * weights).sum(1) for p in (predicted, target)]
    squash = lambda x: x / math.sqrt(0.81 + x * x)  # noqa: E731
    offset_means = []
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            terms = []
            for b, y, x in np.ndindex(2, 7, 8):
                if (dy or dx) and 0 <= y + dy < 7 and 0 <= x + dx < 8:
                    u, v = (squash(g[b, y + dy, x + dx] - g[b, y, x]) for g in lumas)
                    terms.append((u - v) ** 2 / (0.1 + (u - v) ** 2))
            offset_means += [np.mean(terms)] if terms else []
    assert losses.census_loss(predicted, target, radius).item() == pytest.approx(np.mean(offset_means), rel=1e-9)


@pytest.mark.parametrize("name", FRAME_LOSSES)
def test_every_loss_of_frames_has_the_right_gradient(name: str) -> None:
    predicted, target = (p[:1, :, :16, :16].contiguous().requires_grad_() for p in random_frames())
    assert torch.autograd.gradcheck(getattr(losses, name), (predicted, target), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: getattr(losses, name)(x, target.detach()), (predicted,), fast_mode=True)


def test_the_losses_of_features_and_logits_have_the_right_gradients() -> None:
    predicted, target = (p[:, :, :6, :6].contiguous() for p in random_frames())
    for layer in ("relu4_4", "relu3_4"):
        perceptual = partial(losses.perceptual_loss, target=target, layer=layer)
        assert torch.autograd.gradcheck(perceptual, (predicted.requires_grad_(),))
    logits = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([0.7, -2.0], [-0.4, 3.0])]
    assert torch.autograd.gradcheck(losses.adversarial_loss, (logits[1],))
    assert torch.autograd.gradcheck(lambda a, b: losses.discriminator_loss(a, b, 0.125), tuple(logits))


def test_losses_of_micro_batches_average_to_that_of_the_batch() -> None:
    predicted, target = random_frames()
    for name in FRAME_LOSSES:
        loss = getattr(losses, name)
        parts = [loss(predicted[k : k + 1], target[k : k + 1]).item() for k in range(2)]
        assert loss(predicted, target).item() == pytest.approx(sum(parts) / 2)
    parts = [losses.perceptual_loss(predicted[k : k + 1], target[k : k + 1] + k, "relu3_4").item() for k in range(2)]
    shifted = torch.stack((target[0], target[1] + 1))
    assert losses.perceptual_loss(predicted, shifted, "relu3_4").item() == pytest.approx(sum(parts) / 2)
