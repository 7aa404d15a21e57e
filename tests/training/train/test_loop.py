"""Small training runs from beginning to end: their files, bit-exact continuation, length, validation, failures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midframe.errors import Cancelled, InputError, OutputError, SettingError, TrainingError
from midframe.networks import load_weights, read_info
from midframe.training.config import DataConfig, TrainingConfig
from midframe.training.data.dataset import InMemoryDataset
from midframe.training.train import curves, loop, setup, state, validation
from midframe.training.train.checkpoints import load_checkpoint, save_checkpoint
from midframe.training.train.loop import train
from midframe.training.train.run_folder import read_log
from midframe.training.train.setup import Budget, Datasets
from midframe.training.train.state import Progress
from midframe.training.train.validation import validation_batch
from runs import (
    GUIDED,
    PAPER,
    equal_values,
    in_memory_dataset,
    read_checkpoint,
    shrink_paper,
    timeless_log,
    write_small_vgg,
)

VALIDATION_SIDE = 100
"""Side of the validation crops in these tests, in pixels."""

DATASETS = Datasets(in_memory_dataset(), in_memory_dataset(2, 1))


@pytest.fixture(scope="module")
def small_validation() -> Iterator[None]:
    """One thread, and small validation crops."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "CROP_SIZE", VALIDATION_SIDE)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _draw_no_curves(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curves except for the run `whole`: that would take longer than training."""
    monkeypatch.setattr(curves, "draw_curves", lambda folders, target: None)


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TrainingConfig:
    shrink_paper(monkeypatch)
    return replace(PAPER, losses=replace(PAPER.losses, vgg_file=str(write_small_vgg(tmp_path / "vgg.pth"))))


def run(config: TrainingConfig | None, folder: Path, **keywords: Any) -> Path:
    return train(config, folder, datasets=DATASETS, **keywords)


def cancel_after(steps: int) -> Callable[[], bool]:
    """Return a `cancelled` callback that stops a run after so many steps; it is called after each step once."""
    calls = iter(range(1, steps))
    return lambda: next(calls, None) is None


def validation_lines(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(folder) if line["kind"] == "validation"]


def training_lines(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(folder) if line["kind"] == "train"]


@pytest.fixture(scope="module")
def whole(small_validation: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of the guided network."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(GUIDED, folder) == folder / "weights.safetensors"
    return folder


def test_a_run_folder_is_complete(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names == {
        "best.md",
        "best.safetensors",
        "checkpoint.pt",
        "config.json",
        "curves.png",
        "environment.json",
        "log.jsonl",
        "pictures",
        "tensorboard",
        "weights.md",
        "weights.safetensors",
    }
    assert [path.name for path in sorted((whole / "pictures").iterdir())] == ["step-0000004.png", "step-0000006.png"]
    log = read_log(whole)
    assert [(line["step"], line["kind"]) for line in log] == [
        (1, "train"),
        (2, "train"),
        (4, "train"),
        (4, "validation"),
        (6, "train"),
        (6, "validation"),
    ]
    assert [line["samples"] for line in log] == [4, 8, 16, 16, 24, 24]
    for line in training_lines(whole):
        assert line.keys() >= {
            "samples_per_second",
            "data_wait",
            "seconds_left",
            "seconds",
            "learning_rate",
            "memory_bytes",
            "gradient_norm",
            "total",
        }
        assert 0 <= line["data_wait"] <= 1
        assert line["samples_per_second"] > 0
    for line in validation_lines(whole):
        assert line.keys() >= {"psnr", "charbonnier", "laplacian"}
    info = read_info(whole / "weights.safetensors")
    assert (info.network, info.training["samples"], info.training["steps"]) == ("guided", 24, 6)
    assert info.data == "film-0.mp4, film-1.mp4, film-2.mp4"
    assert "film-1.mp4" in (whole / "weights.md").read_text()


def test_the_log_has_means_over_the_steps_since_its_last_line(whole: Path, tmp_path: Path) -> None:
    run(replace(GUIDED, log_every=1, validate_every=100), tmp_path / "run")
    every_step, means = training_lines(tmp_path / "run"), training_lines(whole)
    assert [line["step"] for line in means] == [1, 2, 4, 6]
    assert means[2]["laplacian"] == pytest.approx((every_step[2]["laplacian"] + every_step[3]["laplacian"]) / 2)
    norms = [line["gradient_norm"] for line in every_step]
    assert means[3]["gradient_norm"] == pytest.approx((norms[4] + norms[5]) / 2)


@pytest.mark.parametrize("steps", [3, pytest.param(1, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
def test_a_continued_run_of_guided_ends_with_the_same_bits(whole: Path, tmp_path: Path, steps: int) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Cancelled, match=f"stopped after {4 * steps} samples"):
        run(GUIDED, folder, cancelled=cancel_after(steps))
    torch.rand(3)  # the global generator must not matter
    run(None, folder)
    assert timeless_log(folder) == timeless_log(whole)
    assert equal_values(read_checkpoint(folder), read_checkpoint(whole))
    for name in ("weights.safetensors", "best.safetensors"):
        weights, expected = load_weights(folder / name), load_weights(whole / name)
        assert equal_values(dict(weights.state_dict()), dict(expected.state_dict()))


def test_a_continued_run_with_discriminator_and_dropout_ends_with_the_same_bits(
    paper: TrainingConfig, tmp_path: Path
) -> None:
    assert paper.discriminator.dropout == 0.5
    run(paper, tmp_path / "whole")
    with pytest.raises(Cancelled, match="stopped after 6 samples"):
        run(paper, tmp_path / "run", cancelled=cancel_after(3))
    run(None, tmp_path / "run")
    assert timeless_log(tmp_path / "run") == timeless_log(tmp_path / "whole")
    assert equal_values(read_checkpoint(tmp_path / "run"), read_checkpoint(tmp_path / "whole"))
    assert {"discriminator", "discriminator_optimiser"} <= read_checkpoint(tmp_path / "run").keys()


def test_a_run_killed_before_its_first_step_can_be_continued(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*arguments: Any, **keywords: Any) -> None:
        raise Killed("before the first step")

    monkeypatch.setattr(loop, "generator_step", kill)
    with pytest.raises(Killed, match="before the first step"):
        run(GUIDED, tmp_path / "run")
    monkeypatch.undo()
    run(None, tmp_path / "run")
    assert timeless_log(tmp_path / "run") == timeless_log(whole)
    assert equal_values(read_checkpoint(tmp_path / "run"), read_checkpoint(whole))


def test_minutes_are_converted_to_samples_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "TIMED_STEPS", (2, 5))
    data = replace(GUIDED.data, crop_size=32, synthetic=0.0)
    config = replace(GUIDED, batch_size=2, coarse_iterations=(1,), validate_every=100, data=data)
    folder = tmp_path / "run"
    with pytest.raises(Cancelled, match="stopped after 8 samples"):
        run(config, folder, budget=Budget(minutes=50), cancelled=cancel_after(4))
    assert read_checkpoint(folder)["state"]["total_samples"] is None
    with pytest.raises(Cancelled, match="stopped after 12 samples"):
        run(None, folder, cancelled=cancel_after(2))
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    stored = checkpoint["state"]
    first, timed = stored["step_seconds"][:5], stored["step_seconds"][2:]
    assert (stored["step"], len(timed)) == (6, 3)
    assert stored["total_samples"] == 2 * (5 + math.ceil((3000 - sum(first)) / (sum(timed) / 3)))
    stored["total_samples"] = 18
    save_checkpoint(checkpoint, folder / "checkpoint.pt")
    totals: list[int | None] = []
    run(None, folder, report=lambda progress: totals.append(progress.total_samples))
    assert set(totals) == {18}
    assert read_log(folder)[-1]["samples"] == 18


def test_a_continued_run_may_have_a_new_budget(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(GUIDED, folder, budget=Budget(samples=8))
    assert json.loads((folder / "config.json").read_text())["samples"] == 8
    assert run(None, folder) == folder / "weights.safetensors"  # the run is over
    with pytest.raises(SettingError, match="already seen 8 samples"):
        run(None, folder, budget=Budget(samples=8))
    run(None, folder, budget=Budget(samples=12))
    assert read_checkpoint(folder)["state"]["samples"] == 12
    assert json.loads((folder / "config.json").read_text())["samples"] == 12


def test_progress_is_reported(tmp_path: Path) -> None:
    reports: list[Progress] = []
    run(replace(GUIDED, samples=8), tmp_path / "run", report=reports.append)
    assert [(each.step, each.samples, each.total_samples) for each in reports] == [(1, 4, 8), (2, 8, 8)]
    assert reports[-1].seconds_left == 0
    assert reports[0].seconds_left == pytest.approx(4 / reports[0].samples_per_second)


def test_a_folder_with_a_run_is_refused_before_any_data_are_read(whole: Path) -> None:
    without_data = replace(GUIDED, data=replace(GUIDED.data, folders=("nowhere",)))
    before = (whole / "log.jsonl").read_bytes()
    with pytest.raises(OutputError, match="holds a run; --resume goes on"):
        train(without_data, whole)
    assert (whole / "log.jsonl").read_bytes() == before


def test_windows_smaller_than_the_crop_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    large = torch.zeros(5, 3, 120, 120, dtype=torch.uint8)
    small = DATASETS.training.windows[0]
    data = InMemoryDataset((large, small), torch.tensor([0, 1]), ("a.mp4", "b.mp4"), torch.ones(2))
    with pytest.raises(SettingError, match="crops of 90x90 cannot be cut out of frames of 96x80"):
        train(replace(GUIDED, data=DataConfig(crop_size=90)), tmp_path / "run", datasets=Datasets(data))
    assert not (tmp_path / "run").exists()


def test_a_run_without_checkpoint_or_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no checkpoint\.pt to go on from"):
        run(None, tmp_path)
    save_checkpoint({"state": {"step": 1}}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="another version"):
        run(None, tmp_path)
    with pytest.raises(InputError, match="there is no data set in nowhere"):
        train(replace(GUIDED, data=replace(GUIDED.data, folders=("nowhere",))), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_a_network_that_has_changed_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Cancelled, match="stopped after 4 samples"):
        run(GUIDED, folder, cancelled=cancel_after(1))
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    checkpoint["generator"].popitem()
    save_checkpoint(checkpoint, folder / "checkpoint.pt")
    before = (folder / "log.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"checkpoint\.pt does not fit the network guided as it is now") as caught:
        run(None, folder)
    assert "\n" not in str(caught.value)
    assert (folder / "log.jsonl").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_its_batch_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_step, folder, config = loop.generator_step, tmp_path / "run", replace(GUIDED, checkpoint_every=1)
    good_steps, failures = iter(range(3)), []

    def step_with_nan(models: Any, batch: Any, *arguments: Any, **keywords: Any) -> Any:
        if next(good_steps, None) is None:
            batch.first[1, 0, 3, 3] = float("nan")
            weights = {name: tensor.clone() for name, tensor in models.generator.state_dict().items()}
            failures.append((batch, models.generator, weights))
        return real_step(models, batch, *arguments, **keywords)

    monkeypatch.setattr(loop, "generator_step", step_with_nan)
    with pytest.raises(TrainingError, match=r"not finite.*not-finite-3-0\.pt") as caught:
        run(config, folder)
    assert "\n" not in str(caught.value)
    batch, generator, before = failures[0]
    assert equal_values(dict(generator.state_dict()), before)
    saved = load_checkpoint(folder / "not-finite-3-0.pt")["batch"]
    for name, tensor in vars(batch).items():
        assert torch.equal(torch.nan_to_num(saved[name]), torch.nan_to_num(tensor))
    assert saved["first"].isnan().sum() == 1
    assert read_checkpoint(folder)["state"]["step"] == 3
    assert equal_values(read_checkpoint(folder)["generator"], before)
    monkeypatch.undo()
    run(None, folder, budget=Budget(samples=16))
    assert read_checkpoint(folder)["state"]["step"] == 4


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_moving_average_against_its_definition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decay: float
) -> None:
    real_step, before, after = loop.optimiser_step, [], []

    def record(optimiser: Any, *arguments: Any) -> float:
        weights = [weight for group in optimiser.param_groups for weight in group["params"]]
        before.append([weight.detach().double().clone() for weight in weights])
        norm = real_step(optimiser, *arguments)
        after.append([weight.detach().double().clone() for weight in weights])
        return float(norm)

    monkeypatch.setattr(loop, "optimiser_step", record)
    folder = tmp_path / "run"
    config = replace(GUIDED, ema_decay=decay, samples=20, optimiser=replace(GUIDED.optimiser, warmup_steps=0))
    run(config, folder)
    if decay == 0:
        expected = after[-1]
    else:
        expected = before[0]
        for step, weights in enumerate(after, start=1):
            factor = min(decay, step / (step + 9))
            expected = [factor * old + (1 - factor) * new for old, new in zip(expected, weights, strict=True)]
        for weight, average in zip(read_checkpoint(folder)["state"]["ema_weights"], expected, strict=True):
            torch.testing.assert_close(weight.double(), average, atol=1e-7, rtol=1e-5)
    for weight, average in zip(load_weights(folder / "weights.safetensors").parameters(), expected, strict=True):
        torch.testing.assert_close(weight.double(), average, atol=1e-6, rtol=1e-3)  # stored in half precision


def test_the_validation_psnr_against_numpy(whole: Path) -> None:
    windows = DATASETS.validation.windows  # type: ignore[union-attr]
    batch = validation_batch(DATASETS.validation)  # type: ignore[arg-type]
    assert batch is not None
    network = load_weights(whole / "weights.safetensors")
    with torch.no_grad():
        averages = read_checkpoint(whole)["state"]["ema_weights"]
        network.load_state_dict(dict(zip(dict(network.named_parameters()), averages, strict=True)), strict=False)
        network.precision = "float32"
        predicted = network(batch.first / 255, batch.second / 255, batch.time).numpy()
    rounded = np.clip(np.floor(predicted.astype(np.float64) * 255 + 0.5), 0, 255)
    padding = ((0, 0), (0, VALIDATION_SIDE - 80), (0, VALIDATION_SIDE - 96))
    targets = np.stack([np.pad(window[2].numpy(), padding, mode="edge") for window in windows]).astype(np.float64)
    psnrs = [10 * np.log10(255**2 / ((a - b) ** 2).mean()) for a, b in zip(rounded, targets, strict=True)]
    assert read_log(whole)[-1]["psnr"] == pytest.approx(np.mean(psnrs), abs=1e-3)
    assert torch.equal(batch.first[0, :, :80, :96].byte(), windows[0][1])  # first neighbours, then the whole window
    assert torch.equal(batch.second[1, :, :80, :96].byte(), windows[1][4])


def test_the_best_weights_are_those_of_the_best_psnr(whole: Path) -> None:
    best = max(validation_lines(whole), key=lambda line: line["psnr"])
    training = read_info(whole / "best.safetensors").training
    assert (training["steps"], training["validation_psnr"]) == (best["step"], best["psnr"])
    assert read_checkpoint(whole)["state"]["best_psnr"] == best["psnr"]


def test_a_run_without_validation_set_has_its_latest_weights_only(tmp_path: Path) -> None:
    train(replace(GUIDED, samples=4), tmp_path / "run", datasets=Datasets(DATASETS.training))
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert "There was no validation set" in (tmp_path / "run" / "weights.md").read_text()


def test_reading_the_data_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(folders: Any, split: str, progress: Callable[[int], None]) -> None:
        progress(7)

    monkeypatch.setattr(setup, "load_dataset", load)
    with pytest.raises(Cancelled, match="after reading 7 windows"):
        train(GUIDED, tmp_path / "run", cancelled=lambda: True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_loss_falls(tmp_path: Path) -> None:
    config = replace(
        GUIDED,
        batch_size=2,
        micro_batches=1,
        coarse_iterations=(1,),
        samples=80,
        log_every=10,
        validate_every=1000,
        data=replace(GUIDED.data, synthetic=0.0, crop_size=32),
        optimiser=replace(GUIDED.optimiser, warmup_steps=0, learning_rate=0.003),
    )
    run(config, tmp_path / "run")
    lines = training_lines(tmp_path / "run")
    assert lines[-1]["laplacian"] < 0.9 * lines[1]["laplacian"]
