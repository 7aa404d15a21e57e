"""Training samples: functions of their number alone, with correct times and flow."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from films.scenes import texture
from midframe.training.config import DataConfig, TrainingConfig
from midframe.training.data import samples
from midframe.training.data.samples import TIMES, augmentation_of, make_batch, make_sample
from midframe.training.data.teacher_flow import estimate_teacher_flow
from midframe.training.presets import PRESETS
from runs import GUIDED, PAPER, equal_values, flat_dataset, in_memory_dataset


def plain(**data: object) -> TrainingConfig:
    """The report's samples, 32 pixels wide, of pictures that need not be larger."""
    return replace(PAPER, data=DataConfig(crop_size=32, max_offset=2, **data))  # type: ignore[arg-type]


@pytest.mark.parametrize("config", [GUIDED, PAPER], ids=["guided", "paper"])
def test_a_sample_does_not_depend_on_its_batch(config: TrainingConfig) -> None:
    data = in_memory_dataset()
    whole = make_batch(data, config, range(5, 11))
    again = make_batch(data, config, [10, 7])
    for name, values in vars(whole).items():
        assert equal_values(values[[5, 2]], getattr(again, name))
    assert whole.first.shape == (6, 3, config.data.crop_size, config.data.crop_size)
    assert whole.flow.shape[1] == 4
    assert not equal_values(vars(whole), vars(make_batch(data, replace(config, seed=2), range(5, 11))))


def test_each_epoch_takes_each_window_once_in_its_own_order() -> None:
    data = flat_dataset([10 * k for k in range(12)])
    orders = []
    for epoch in range(3):
        made = make_batch(data, plain(), range(12 * epoch, 12 * epoch + 12))
        orders.append([round(float(target.mean()) / 10) for target in made.target])
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


def test_balanced_sampling_takes_films_equally_often() -> None:
    data = flat_dataset([10 * k for k in range(10)])
    data = replace(data, film_indices=torch.tensor([0] * 9 + [1]), film_names=("many", "one"))
    made = make_batch(data, plain(balanced_sampling=True), range(100))
    of_one = sum(float(target.mean()) > 85 for target in made.target)
    assert 30 < of_one < 70  # 50 expected, deviation 5
    assert sum(float(t.mean()) > 85 for t in make_batch(data, plain(), range(20)).target) == 2


def test_targets_match_their_times_forwards_and_backwards() -> None:
    data = flat_dataset([40, 60], frames=7, rise=20)
    made = make_batch(data, plain(arbitrary_times=True), range(120))
    first, target, second = (frames.mean((1, 2, 3)) for frames in (made.first, made.target, made.second))
    torch.testing.assert_close(target, first + (second - first) * made.time, atol=1e-3, rtol=0)
    seen = Counter(
        (Fraction(float(time)).limit_denominator(8), bool(back))
        for time, back in zip(made.time, first > second, strict=True)
    )
    assert seen.keys() == {(time, back) for time in TIMES for back in (False, True)}
    apart = {round(float(gap)) for gap in (second - first).abs() / 20}
    assert apart == {2, 3, 4, 6}
    assert {float(time) for time in make_batch(data, plain(), range(20)).time} == {0.5}


def test_drawn_samples_are_exact_and_as_many_as_asked_for() -> None:
    data = in_memory_dataset()
    made = make_batch(data, replace(GUIDED, data=replace(GUIDED.data, synthetic=1.0)), range(12))
    assert made.flow_is_exact.tolist() == [1.0] * 12
    time = made.time.view(-1, 1, 1, 1)
    torch.testing.assert_close(made.flow[:, :2] / time, -made.flow[:, 2:] / (1 - time), atol=1e-2, rtol=1e-3)
    assert made.flow_confidence.min() >= samples.OCCLUDED_CONFIDENCE - 1e-6
    assert made.flow_confidence.max() <= 1
    assert 0.5 in made.time.tolist()
    assert len(set(made.time.tolist())) > 2
    mixed = make_batch(data, replace(GUIDED, data=replace(GUIDED.data, synthetic=0.5)), range(60))
    assert 15 < mixed.flow_is_exact.sum() < 45
    assert not make_batch(data, PAPER, range(6)).flow_is_exact.any()


def test_teacher_flow_is_estimated_on_the_augmented_frames() -> None:
    data = in_memory_dataset()
    sample = make_sample(data, replace(GUIDED, data=replace(GUIDED.data, synthetic=0.0)), 3)
    frames = (sample.first, sample.target, sample.second)
    flow, confidence = estimate_teacher_flow(*(frame.round().byte() for frame in frames))
    assert torch.equal(sample.flow, flow)
    assert torch.equal(sample.flow_confidence, confidence)
    assert sample.flow_is_exact == 0
    without = replace(
        GUIDED, data=replace(GUIDED.data, synthetic=0.0), losses=replace(GUIDED.losses, flow_distillation=0.0)
    )
    assert not make_sample(data, without, 3).flow.any()


def test_teacher_flow_is_right_on_a_translation_and_unsure_of_unrelated_frames() -> None:
    frames = [
        torch.from_numpy(texture(128, 128, (k * 3.0, -k * 2.0), 4) * 255).round().byte().permute(2, 0, 1)
        for k in (-1, 0, 1)
    ]
    motion, trust = estimate_teacher_flow(*frames)
    assert motion.shape == (4, 128, 128)
    assert trust.shape == (1, 128, 128)
    wanted = torch.tensor([-3.0, 2.0, 3.0, -2.0]).view(4, 1, 1)
    assert (motion - wanted)[:, 32:-32, 32:-32].abs().max() < 0.5
    assert trust[:, 32:-32, 32:-32].min() > 0.8
    other = torch.from_numpy(texture(128, 128, (0, 0), 9) * 255).round().byte().permute(2, 0, 1)
    _, doubted = estimate_teacher_flow(other, frames[1], other.flip(2))
    assert doubted.mean() < 0.5 * trust.mean()


def test_crop_and_offset_of_the_settings_replace_those_of_the_preset() -> None:
    assert augmentation_of(PRESETS["paper"].data).crop == 160
    augmentation = augmentation_of(replace(PRESETS["repository"].data, crop_size=96, max_offset=0))
    assert (augmentation.crop, augmentation.offset, augmentation.interpolation) == (96, 0, "bilinear_or_area")
