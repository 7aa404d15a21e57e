"""Training runs from end to end, small: what they leave, going on bit for bit, ending early."""

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
from midframe.training.config import Config, Data
from midframe.training.data.dataset import InMemoryDataset
from midframe.training.train import loop as trainer
from midframe.training.train import run_folder
from midframe.training.train import validation as evaluation
from midframe.training.train.checkpoints import load_checkpoint, save_checkpoint
from midframe.training.train.loop import Progress, train
from midframe.training.train.run_folder import read_log
from midframe.training.train.validation import held_batch
from runs import GUIDED, PAPER, lines, packed, same, shrink_paper, small_vgg, state

SIDE = 100
"""Pictures are judged at this size here."""
DATA = packed()
HELD = packed(2, 1)


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """One thread, and small pictures to judge by."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "SIDE", SIDE)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_curves(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the run that all are held against, drawing would take longer than training."""
    monkeypatch.setattr(run_folder, "draw_curves", lambda runs, target: None)


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    shrink_paper(monkeypatch)
    return replace(PAPER, losses=replace(PAPER.losses, vgg=str(small_vgg(tmp_path / "vgg.pth"))))


def run(config: Config | None, out: Path, **named: Any) -> Path:
    return train(config, out, data=DATA, held=HELD, **named)


def after(steps: int) -> Callable[[], bool]:
    """Says yes when it is asked for the last of so many times: after each step once."""
    asked = iter(range(1, steps))
    return lambda: next(asked, None) is None


@pytest.fixture(scope="module")
def whole(small: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the guided network that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(GUIDED, out) == out / "weights.safetensors"
    return out


def test_a_runs_folder_has_all_of_it(whole: Path) -> None:
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
        (4, "held"),
        (6, "train"),
        (6, "held"),
    ]
    assert [line["samples"] for line in log] == [4, 8, 16, 16, 24, 24]
    for line in log:
        if line["kind"] == "train":
            assert line.keys() >= {"per_second", "waited", "left", "seconds", "rate", "memory", "norm", "total"}
            assert 0 <= line["waited"] <= 1 and line["per_second"] > 0  # noqa: PT018
        else:
            assert line.keys() >= {"psnr", "charbonnier", "laplacian"}
    info = read_info(whole / "weights.safetensors")
    assert (info.network, info.training["samples"], info.training["steps"]) == ("guided", 24, 6)
    assert info.data == "film-0.mp4, film-1.mp4, film-2.mp4"
    assert "film-1.mp4" in (whole / "weights.md").read_text()


def test_the_log_says_means_over_the_steps_since_its_last_line(whole: Path, tmp_path: Path) -> None:
    run(replace(GUIDED, log_every=1, evaluate_every=100), tmp_path / "run")
    each = [line for line in read_log(tmp_path / "run") if line["kind"] == "train"]
    said = [line for line in read_log(whole) if line["kind"] == "train"]
    assert [line["step"] for line in said] == [1, 2, 4, 6]
    assert said[2]["laplacian"] == pytest.approx((each[2]["laplacian"] + each[3]["laplacian"]) / 2)
    assert said[3]["norm"] == pytest.approx((each[4]["norm"] + each[5]["norm"]) / 2)


@pytest.mark.parametrize("steps", [3, pytest.param(1, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
def test_a_guided_run_that_was_stopped_ends_with_the_same_bits(whole: Path, tmp_path: Path, steps: int) -> None:
    out = tmp_path / "run"
    with pytest.raises(Cancelled, match=f"stopped after {4 * steps} samples"):
        run(GUIDED, out, cancelled=after(steps))
    torch.rand(3)  # no other chance than the run's own
    run(None, out)
    assert lines(out) == lines(whole)
    assert same(state(out), state(whole))
    for name in ("weights.safetensors", "best.safetensors"):
        mine, theirs = load_weights(out / name), load_weights(whole / name)
        assert same(dict(mine.state_dict()), dict(theirs.state_dict()))


def test_a_run_of_both_players_with_dropout_too(paper: Config, tmp_path: Path) -> None:
    assert paper.discriminator.dropout == 0.5
    run(paper, tmp_path / "whole")
    with pytest.raises(Cancelled):
        run(paper, tmp_path / "run", cancelled=after(3))
    run(None, tmp_path / "run")
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    assert same(state(tmp_path / "run"), state(tmp_path / "whole"))
    assert {"discriminator", "discriminator_optimiser"} <= state(tmp_path / "run").keys()


def test_a_run_killed_before_its_first_step_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*given: Any) -> None:
        raise Killed

    monkeypatch.setattr(trainer, "network_step", killed)
    with pytest.raises(Killed):
        run(GUIDED, tmp_path / "run")
    monkeypatch.undo()
    run(None, tmp_path / "run")
    assert lines(tmp_path / "run") == lines(whole)
    assert same(state(tmp_path / "run"), state(whole))


def test_minutes_become_samples_once_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "TIMED", (2, 5))
    config = replace(GUIDED, batch=2, depths=(1,), evaluate_every=100, data=replace(GUIDED.data, crop=32, drawn=0.0))
    out = tmp_path / "run"
    with pytest.raises(Cancelled):
        run(config, out, minutes=50, cancelled=after(4))
    assert state(out)["total"] is None
    with pytest.raises(Cancelled):
        run(None, out, cancelled=after(2))
    kept = load_checkpoint(out / "checkpoint.pt")
    first, timed = kept["times"][:5], kept["times"][2:]
    assert (kept["step"], len(timed)) == (6, 3)
    assert kept["total"] == 2 * (5 + math.ceil((3000 - sum(first)) / (sum(timed) / 3)))
    save_checkpoint({**kept, "total": 18}, out / "checkpoint.pt")  # whatever the clock says from now on
    totals: list[int | None] = []
    run(None, out, report=lambda said: totals.append(said.total))
    assert set(totals) == {18}
    assert read_log(out)[-1]["samples"] == 18


def test_a_run_may_be_given_another_end(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(GUIDED, out, samples=8)
    assert json.loads((out / "config.json").read_text())["samples"] == 8
    assert run(None, out) == out / "weights.safetensors"  # nothing left to do
    with pytest.raises(SettingError, match="already seen 8 samples"):
        run(None, out, samples=8)
    run(None, out, samples=12)
    assert state(out)["samples"] == 12
    assert json.loads((out / "config.json").read_text())["samples"] == 12


def test_what_is_reported(tmp_path: Path) -> None:
    said: list[Progress] = []
    run(replace(GUIDED, samples=8), tmp_path / "run", report=said.append)
    assert [(each.step, each.samples, each.total) for each in said] == [(1, 4, 8), (2, 8, 8)]
    assert said[-1].seconds_left == 0
    assert said[0].seconds_left == pytest.approx(4 / said[0].per_second)


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_read(whole: Path) -> None:
    nowhere = replace(GUIDED, data=replace(GUIDED.data, shards=("nowhere",)))
    before = (whole / "log.jsonl").read_bytes()
    with pytest.raises(OutputError, match="holds a run; --resume goes on"):
        train(nowhere, whole)
    assert (whole / "log.jsonl").read_bytes() == before


def test_windows_smaller_than_the_crop_are_told_before_anything_is_written(tmp_path: Path) -> None:
    larger = torch.zeros(5, 3, 120, 120, dtype=torch.uint8)
    data = InMemoryDataset((larger, DATA.windows[0]), torch.tensor([0, 1]), ("a.mp4", "b.mp4"), torch.ones(2))
    with pytest.raises(SettingError, match="crops of 90x90 cannot be cut out of frames of 96x80"):
        train(replace(GUIDED, data=Data(crop=90)), tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()


def test_there_must_be_something_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no checkpoint\.pt to go on from"):
        run(None, tmp_path)
    save_checkpoint({"step": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="another version"):
        run(None, tmp_path)
    with pytest.raises(InputError, match="there is no data set in nowhere"):
        train(replace(GUIDED, data=replace(GUIDED.data, shards=("nowhere",))), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_a_network_that_has_changed_since_is_said(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Cancelled):
        run(GUIDED, out, cancelled=after(1))
    kept = load_checkpoint(out / "checkpoint.pt")
    kept["network"].popitem()
    save_checkpoint(kept, out / "checkpoint.pt")
    before = (out / "log.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"checkpoint\.pt does not fit the network guided as it is now") as caught:
        run(None, out)
    assert "\n" not in str(caught.value)
    assert (out / "log.jsonl").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out, config = trainer.network_step, tmp_path / "run", replace(GUIDED, checkpoint_every=1)
    count, wrong = iter(range(3)), []

    def broken(who: Any, batch: Any, *given: Any) -> Any:
        if next(count, None) is None:
            batch.first[1, 0, 3, 3] = float("nan")
            wrong.append((batch, who.network, {k: v.clone() for k, v in who.network.state_dict().items()}))
        return real(who, batch, *given)

    monkeypatch.setattr(trainer, "network_step", broken)
    with pytest.raises(TrainingError, match=r"not finite.*not-finite-3-0\.pt") as caught:
        run(config, out)
    assert "\n" not in str(caught.value)
    batch, network, before = wrong[0]
    assert same(dict(network.state_dict()), before)
    kept = load_checkpoint(out / "not-finite-3-0.pt")
    assert all(
        torch.equal(torch.nan_to_num(kept["batch"][name]), torch.nan_to_num(vars(batch)[name])) for name in vars(batch)
    )
    assert kept["batch"]["first"].isnan().sum() == 1
    assert state(out)["step"] == 3
    assert same(state(out)["network"], before)
    monkeypatch.undo()
    run(None, out, samples=16)
    assert state(out)["step"] == 4


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_the_average_of_the_weights_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float) -> None:
    real, seen = trainer.move, []

    def watched(optimiser: Any, *given: Any) -> float:
        weights = [weight for group in optimiser.param_groups for weight in group["params"]]
        seen.append([weight.detach().double().clone() for weight in weights])
        norm = real(optimiser, *given)
        seen.append([weight.detach().double().clone() for weight in weights])
        return float(norm)

    monkeypatch.setattr(trainer, "move", watched)
    out = tmp_path / "run"
    run(replace(GUIDED, average=average, samples=20, optimiser=replace(GUIDED.optimiser, warmup=0)), out)
    weights = load_weights(out / "weights.safetensors")
    if average == 0:
        wanted = seen[-1]
    else:
        wanted = seen[0]
        for step, now in enumerate(seen[1::2], start=1):
            kept = min(average, step / (step + 9))
            wanted = [kept * old + (1 - kept) * new for old, new in zip(wanted, now, strict=True)]
    for one, other in zip(weights.parameters(), wanted, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-6, rtol=1e-3)  # stored in half precision
    if average:
        kept = state(out)["average"]
        for one, other in zip(kept, wanted, strict=True):
            torch.testing.assert_close(one.double(), other, atol=1e-7, rtol=1e-5)


def test_the_psnr_on_held_back_films_by_numpy(whole: Path) -> None:
    held = held_batch(HELD)
    assert held is not None
    network = load_weights(whole / "weights.safetensors")
    with torch.no_grad():
        network.load_state_dict(
            dict(zip(dict(network.named_parameters()), state(whole)["average"], strict=True)), strict=False
        )
        network.precision = "float32"
        made = network(held.first / 255, held.second / 255, held.time).numpy()
    rounded = np.clip(np.floor(made.astype(np.float64) * 255 + 0.5), 0, 255)
    true = np.stack(
        [np.pad(window[2].numpy(), ((0, 0), (0, SIDE - 80), (0, SIDE - 96)), mode="edge") for window in HELD.windows]
    )
    psnrs = [
        10 * np.log10(255**2 / ((a - b) ** 2).mean()) for a, b in zip(rounded, true.astype(np.float64), strict=True)
    ]
    assert read_log(whole)[-1]["psnr"] == pytest.approx(np.mean(psnrs), abs=1e-3)
    assert torch.equal(held.first[0, :, :80, :96].byte(), HELD.windows[0][1])  # neighbours, then the widest
    assert torch.equal(held.second[1, :, :80, :96].byte(), HELD.windows[1][4])


def test_the_best_weights_are_those_of_the_best_psnr(whole: Path) -> None:
    held = [line for line in read_log(whole) if line["kind"] == "held"]
    best = max(held, key=lambda line: line["psnr"])
    training = read_info(whole / "best.safetensors").training
    assert (training["steps"], training["held_psnr"]) == (best["step"], best["psnr"])
    assert state(whole)["best"] == best["psnr"]


def test_a_run_without_films_held_back_has_its_last_weights(tmp_path: Path) -> None:
    train(replace(GUIDED, samples=4), tmp_path / "run", data=DATA)
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert "No film was held back" in (tmp_path / "run" / "weights.md").read_text()


def test_reading_the_data_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(folders: Any, split: str, progress: Callable[[int], None]) -> None:
        progress(7)

    monkeypatch.setattr(trainer, "load_dataset", reading)
    with pytest.raises(Cancelled, match="after reading 7 windows"):
        train(GUIDED, tmp_path / "run", cancelled=lambda: True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_loss_falls(tmp_path: Path) -> None:
    config = replace(GUIDED, batch=2, shares=1, depths=(1,), samples=80, log_every=10, evaluate_every=1000)
    config = replace(
        config, data=replace(config.data, drawn=0.0, crop=32), optimiser=replace(config.optimiser, warmup=0, rate=0.003)
    )
    run(config, tmp_path / "run")
    said = [line for line in read_log(tmp_path / "run") if line["kind"] == "train"]
    assert said[-1]["laplacian"] < 0.9 * said[1]["laplacian"]
