"""Training steps: which weights an optimiser step changes, gradients of micro-batches, precisions, clipping."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from midframe.training.config import OptimiserConfig, TrainingConfig
from midframe.training.data.batch import Batch
from midframe.training.data.samples import make_batch
from midframe.training.distributed import World
from midframe.training.train.models import Models, build_models
from midframe.training.train.steps import (
    DiscriminatorStep,
    GeneratorStep,
    discriminator_step,
    generator_step,
    optimiser_step,
)
from runs import GUIDED, PAPER, equal_values, in_memory_dataset, shrink_paper, write_small_vgg

CPU = torch.device("cpu")


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TrainingConfig:
    shrink_paper(monkeypatch)
    return replace(PAPER, losses=replace(PAPER.losses, vgg_file=str(write_small_vgg(tmp_path / "vgg.pth"))))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def batch_for(config: TrainingConfig, dtype: torch.dtype = torch.float32) -> Batch:
    return make_batch(in_memory_dataset(), config, range(config.batch_size)).to(CPU, dtype)


def step_generator(
    models: Models,
    batch: Batch,
    config: TrainingConfig,
    threads: ThreadPoolExecutor,
    *,
    progress: float = 0.0,
    coarse_iterations: int | None = None,
) -> GeneratorStep:
    return generator_step(
        models,
        batch,
        config,
        progress=progress,
        coarse_iterations=coarse_iterations,
        world=World(),
        threads=threads,
    )


def step_discriminator(models: Models, step: GeneratorStep, config: TrainingConfig) -> DiscriminatorStep:
    assert step.features is not None
    return discriminator_step(models, step.features, config, World())


def weights_of(module: nn.Module | None) -> dict[str, Tensor]:
    assert module is not None
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def stored_gradients(models: Models) -> list[Tensor | None]:
    modules: list[Any] = [models.generator, models.discriminator, models.vgg]
    return [weight.grad for module in modules for weight in module.parameters()]


def test_each_optimiser_changes_its_own_model_and_vgg_is_frozen(
    paper: TrainingConfig, threads: ThreadPoolExecutor
) -> None:
    models = build_models(paper, CPU)
    assert models.vgg is not None
    assert models.discriminator_optimiser is not None
    generator, discriminator, vgg = map(weights_of, (models.generator, models.discriminator, models.vgg))
    assert not any(weight.requires_grad for weight in models.vgg.parameters())

    first = step_generator(models, batch_for(paper), paper, threads)
    assert first.losses.keys() == {"perceptual", "adversarial", "reconstruction", "total"}
    weights = paper.losses.weights
    total = sum(first.losses[name] * weights[name] for name in first.losses if name != "total")
    assert first.losses["total"] == pytest.approx(total)
    second = step_discriminator(models, first, paper)
    assert second.losses.keys() == {"discriminator", "target_accuracy", "predicted_accuracy"}
    assert all(gradient is None for gradient in stored_gradients(models))
    assert equal_values(weights_of(models.generator), generator)

    assert optimiser_step(models.generator_optimiser, first.gradients, 0.01) > 0
    assert all(gradient is None for gradient in stored_gradients(models))
    assert not equal_values(weights_of(models.generator), generator)
    assert equal_values(weights_of(models.discriminator), discriminator)
    updated = weights_of(models.generator)
    assert optimiser_step(models.discriminator_optimiser, second.gradients, 0.01) > 0
    assert equal_values(weights_of(models.generator), updated)
    assert not equal_values(weights_of(models.discriminator), discriminator)
    assert equal_values(weights_of(models.vgg), vgg)


def test_the_discriminator_learns_from_targets_and_from_frames_predicted_before_the_update(
    paper: TrainingConfig, threads: ThreadPoolExecutor
) -> None:
    paper = replace(paper, discriminator=replace(paper.discriminator, dropout=0.0, label_smoothing=0.125))
    models = build_models(paper, CPU)
    batch = batch_for(paper)
    first = step_generator(models, batch, paper, threads)
    predicted = models.generator(batch.first / 255, batch.second / 255, batch.time) * 255
    optimiser_step(models.generator_optimiser, first.gradients, 0.01)
    losses = step_discriminator(models, first, paper).losses

    def logits(frames: Tensor) -> Tensor:
        return models.discriminate(models.extract_features(frames)[models.discriminator_layer]).double()

    def cross_entropy(logits: Tensor, label: float) -> Tensor:
        return -(label * logits.sigmoid().log() + (1 - label) * (-logits).sigmoid().log()).mean()

    target_logits, predicted_logits = logits(batch.target), logits(predicted)
    expected = cross_entropy(target_logits, 0.875) + cross_entropy(predicted_logits, 0.0)
    assert losses["discriminator"] == pytest.approx(expected.item(), rel=1e-5)
    assert losses["target_accuracy"] == float((target_logits > 0).double().mean())
    assert losses["predicted_accuracy"] == float((predicted_logits < 0).double().mean())


def test_the_discriminator_learns_to_classify_in_a_few_steps(
    paper: TrainingConfig, threads: ThreadPoolExecutor
) -> None:
    paper = replace(paper, discriminator=replace(paper.discriminator, dropout=0.0))
    models = build_models(paper, CPU)
    batch = batch_for(paper)
    generated = step_generator(models, replace(batch, first=batch.first * 0.5), paper, threads)
    assert models.discriminator_optimiser is not None
    losses = []
    for _ in range(12):
        step = step_discriminator(models, generated, paper)
        optimiser_step(models.discriminator_optimiser, step.gradients, 0.003)
        losses.append(step.losses["discriminator"])
    assert losses[-1] < 0.5 * losses[0]
    assert step.losses["target_accuracy"] == step.losses["predicted_accuracy"] == 1


def test_micro_batches_have_the_gradients_of_the_whole_batch(threads: ThreadPoolExecutor) -> None:
    config = replace(GUIDED, precision="float64")
    batch = batch_for(config, torch.float64)
    steps = []
    for micro_batches in (1, 2, 4):
        models = build_models(config, CPU)
        divided = replace(config, micro_batches=micro_batches)
        steps.append(step_generator(models, batch, divided, threads, progress=0.1, coarse_iterations=1))
    whole = steps[0]
    for step in steps[1:]:
        assert step.losses == pytest.approx(whole.losses)
        for gradient, expected in zip(step.gradients, whole.gradients, strict=True):
            assert (gradient is None) == (expected is None)
            if gradient is not None and expected is not None:
                assert (gradient - expected).norm() <= 1e-9 * expected.norm() + 1e-15


@pytest.mark.parametrize("network", ["guided", "paper"])
def test_precisions_agree(network: str, paper: TrainingConfig, threads: ThreadPoolExecutor) -> None:
    config = paper
    if network == "guided":
        losses = replace(GUIDED.losses, perceptual=1.0, vgg_file=paper.losses.vgg_file)
        config = replace(GUIDED, losses=losses, batch_size=2)
    config = replace(config, micro_batches=1, discriminator=replace(config.discriminator, dropout=0.0))
    found, state = {}, build_models(config, CPU).generator.state_dict()
    for precision in ("float64", "float32", "bfloat16"):
        dtype = torch.float64 if precision == "float64" else torch.float32
        chosen = replace(config, precision=precision)  # type: ignore[arg-type]
        models = build_models(chosen, CPU)
        models.generator.load_state_dict(state)
        step = step_generator(models, batch_for(chosen, dtype), chosen, threads, coarse_iterations=1)
        assert {gradient.dtype for gradient in step.gradients if gradient is not None} == {dtype}
        if step.features is not None:
            assert {step.features.target.dtype, step.features.predicted.dtype} == {dtype}
        found[precision] = step.losses
    for precision, tolerance in (("float32", 1e-4), ("bfloat16", 0.05)):
        assert found[precision] == pytest.approx(found["float64"], rel=tolerance)
        assert found[precision] != found["float64"]


def linear_layer() -> tuple[nn.Linear, list[Tensor | None]]:
    """Return a layer and random gradients for its weight and bias."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(4, 3)
    gradients: list[Tensor | None] = [
        torch.randn(weight.shape, generator=generator) * scale
        for weight, scale in zip(layer.parameters(), (9, 1), strict=True)
    ]
    return layer, gradients


@pytest.mark.parametrize("clip_norm", [None, 7.0, 1000.0])
@pytest.mark.parametrize("clip_norm_per_tensor", [None, 5.0])
def test_gradients_are_clipped_by_the_norm_of_all_and_of_each_tensor(
    clip_norm: float | None, clip_norm_per_tensor: float | None
) -> None:
    layer, gradients = linear_layer()
    expected = [gradient.numpy().copy() for gradient in gradients if gradient is not None]
    before = [weight.detach().clone() for weight in layer.parameters()]
    clipping = OptimiserConfig(clip_norm=clip_norm, clip_norm_per_tensor=clip_norm_per_tensor)
    norm = optimiser_step(torch.optim.SGD(layer.parameters(), lr=1.0), gradients, 0.5, clipping)
    if clip_norm_per_tensor is not None:
        expected = [each * min(1.0, clip_norm_per_tensor / float(np.linalg.norm(each))) for each in expected]
    total = float(np.hypot(*(np.linalg.norm(each) for each in expected)))
    assert norm == pytest.approx(total, rel=1e-4)
    factor = 1.0 if clip_norm is None else min(1.0, clip_norm / total)
    for old, new, gradient in zip(before, layer.parameters(), expected, strict=True):
        applied = ((old - new) / 0.5).detach().numpy()
        np.testing.assert_allclose(applied, gradient * factor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "clipping",
    [
        pytest.param(OptimiserConfig(), id="no clipping"),
        pytest.param(OptimiserConfig(clip_norm=1.0), id="clip_norm"),
        pytest.param(OptimiserConfig(clip_norm_per_tensor=5.0), id="clip_norm_per_tensor"),
    ],
)
def test_gradients_that_are_not_finite_change_no_weights(value: float, clipping: OptimiserConfig) -> None:
    layer, gradients = linear_layer()
    assert gradients[1] is not None
    gradients[1][0] = value
    before = weights_of(layer)
    assert not np.isfinite(optimiser_step(torch.optim.AdamW(layer.parameters()), gradients, 0.1, clipping))
    assert equal_values(weights_of(layer), before)
