"""`midframe train` and `midframe curves` as people meet them: settings, signals, going on, errors in one line."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from midframe.training.config import Config, tables
from midframe.training.train.run_folder import read_log
from process import Command, one_line, one_object, start, wait_for_place
from runs import GUIDED, lines, same, shards, state, toml

SLOW = """
import time
import midframe.training.train.loop as trainer
step = trainer.network_step
def slowly(*given):
    here()
    time.sleep({seconds})
    return step(*given)
trainer.network_step = slowly
"""
"""Says when a step begins, and takes its time."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and `run.toml` that trains on it."""
    made = tmp_path_factory.mktemp("train")
    config = replace(GUIDED, samples=40, log_every=1, evaluate_every=5, checkpoint_every=2, depths=(1,))
    data = replace(config.data, shards=(str(shards(made)),), crop=48)
    (made / "run.toml").write_text(toml(replace(config, data=data)))
    return made


@pytest.fixture(autouse=True)
def threads_and_signals() -> Iterator[None]:
    """One thread, and what a training in this process changes is put back."""
    threads, before = torch.get_num_threads(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(number, handler)


def wait_for_steps(process: subprocess.Popen[Any], count: int) -> None:
    for _ in range(count):
        wait_for_place(process)


def test_killed_and_interrupted_and_resumed_it_ends_with_the_same_bits(
    folder: Path, tmp_path: Path, here: Command
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    done = here("train", folder / "run.toml", "--out", whole, "--json")
    assert done.returncode == 0, done.stderr
    said = one_object(done.stdout)
    assert (said["schema"], said["ok"], said["network"]) == ("midframe.train/1", True, "guided")
    assert "step 10, 40 samples" in done.stderr
    assert f"use it with --network {whole / 'weights.safetensors'}" in done.stderr

    steps = random.randint(1, 6)
    process = start("train", folder / "run.toml", "--out", out, patch=SLOW.format(seconds=0.01))
    wait_for_steps(process, steps)
    time.sleep(random.uniform(0, 0.2))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    process = start("train", "--resume", "--out", out, "--quiet", patch=SLOW.format(seconds=0.2))
    wait_for_steps(process, 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "--resume goes on from there" in one_line("\n".join(e for e in error.splitlines() if e != "HERE"))

    assert here("train", "--resume", "--out", out, "--quiet").returncode == 0
    assert lines(out) == lines(whole), f"killed after {steps} steps"
    assert same(state(out), state(whole)), f"killed after {steps} steps"


def test_a_second_signal_ends_it_at_once(folder: Path, tmp_path: Path) -> None:
    process = start("train", folder / "run.toml", "--out", tmp_path / "run", patch=SLOW.format(seconds=1000))
    wait_for_steps(process, 1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "ended at once" in one_line(error)


def test_options_go_over_the_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Command) -> None:
    seen: list[tuple[Config, dict[str, Any]]] = []

    def noted(config: Config, out: Path, **named: Any) -> Path:
        seen.append((config, named))
        raise SystemExit

    monkeypatch.setattr("midframe.training.train.loop.train", noted)
    options = ("--set", "losses.census=0.5", "--set", "depths=[2]", "--set", "settings.taps=7", "--set", "licence=CC0")
    with pytest.raises(SystemExit):
        here(
            "train",
            "guided",
            "--out",
            tmp_path,
            "--data",
            "a",
            "--data",
            "b",
            "--vgg",
            "v.pth",
            *options,
            "--minutes",
            3,
        )
    config, named = seen[0]
    assert config.data.shards == ("a", "b")
    assert (config.losses.vgg, config.losses.census, config.depths) == ("v.pth", 0.5, (2,))
    assert (config.settings, config.licence) == ({"taps": 7}, "CC0")
    assert (named["minutes"], named["samples"]) == (3.0, None)
    with pytest.raises(SystemExit):
        here("train", folder / "run.toml", "--out", tmp_path)
    assert tables(seen[1][0])["settings"] == GUIDED.settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "a run needs CONFIG"),
        (("guided", "--minutes", 1, "--samples", 5), "give one"),
        (("guided", "--resume"), "only --minutes or --samples may be new"),
        (("guided", "--set", "batches=3"), "--set takes NAME=VALUE"),
        (("guided", "--set", "losses.nothing=3"), "--set takes NAME=VALUE"),
        (("guided", "--set", "batch"), "--set takes NAME=VALUE"),
        (("guided", "--set", "batch=many"), "batch: Input should be a valid integer"),
        (("guided", "--set", "data=3", "--data", "x"), "data: "),
        (("giuded",), "'giuded' is no preset"),
        (("guided",), "no data set was named"),
        (("paper", "--set", "batch=0"), "a batch and shares of 1 or more"),
    ],
)
def test_usage_errors_are_one_line(tmp_path: Path, here: Command, arguments: tuple[object, ...], said: str) -> None:
    result = here("train", *arguments, "--out", tmp_path / "run")
    assert result.returncode == 2
    assert said in one_line(result.stderr)
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_said_with_its_code(folder: Path, tmp_path: Path, here: Command) -> None:
    for arguments, code, said in (
        (("--resume",), 3, "holds no checkpoint.pt"),
        (("guided", "--data", tmp_path / "nothing"), 3, "there is no data set"),
        (("paper", "--data", folder, "--set", "data.crop=48", "--vgg", tmp_path / "v"), 3, "there is no VGG-19 file"),
        (("guided", "--data", folder, "--device", "cuda:9"), 5, "cannot be used"),
    ):
        result = here("train", *arguments, "--out", tmp_path / "run")
        assert result.returncode == code, result.stderr
        assert said in one_line(result.stderr)


def test_a_loss_that_is_not_finite_ends_it_with_one_line(folder: Path, tmp_path: Path, here: Command) -> None:
    settings = ("--set", "optimiser.rate=1e30", "--set", "optimiser.warmup=0")
    result = here("train", folder / "run.toml", *settings, "--out", tmp_path / "run", "--quiet")
    assert result.returncode == 3
    line = one_line(result.stderr)
    assert "not finite" in line
    kept = next((tmp_path / "run").glob("not-finite-*.pt"))
    assert str(kept) in line
    assert torch.load(kept, weights_only=True)["batch"]["first"].shape == (4, 3, 48, 48)


def test_a_folder_that_holds_a_run_is_refused(folder: Path, tmp_path: Path, here: Command) -> None:
    one = ("train", folder / "run.toml", "--out", tmp_path / "run", "--samples", 4, "--quiet")
    assert here(*one).returncode == 0
    again = here(*one)
    assert again.returncode == 4
    assert "holds a run; --resume goes on with it" in one_line(again.stderr)
    assert here("train", "--resume", "--out", tmp_path / "run", "--samples", 8).returncode == 0
    assert read_log(tmp_path / "run")[-1]["samples"] == 8

    drawn = here("curves", tmp_path / "run", tmp_path / "run", "--out", tmp_path / "curves.png")
    assert drawn.returncode == 0
    assert "the curves of 2 runs" in drawn.stderr
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_help_names_what_people_need(here: Command) -> None:
    said = here("train", "--help").stdout
    for word in ("--resume", "--minutes", "--set", "paper, repository, guided", "midframe train guided --data DATA"):
        assert word in said
    assert max(map(len, said.splitlines())) <= 120
