"""`midframe train` and `midframe curves` as their users meet them: settings, signals, resuming, one-line errors."""

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

from midframe.training.config import TrainingConfig, config_to_dict
from midframe.training.train.run_folder import read_log
from midframe.training.train.setup import Budget
from process import (
    MARKER,
    InProcessCommand,
    expect_one_line,
    parse_json_object,
    start_midframe,
    wait_for_marker,
)
from runs import GUIDED, config_to_toml, equal_values, read_checkpoint, timeless_log, write_shards

SLOW_STEPS = """
import time
import midframe.training.train.loop as loop
step = loop.generator_step
def slow_step(*arguments, **keywords):
    reached()
    time.sleep({seconds})
    return step(*arguments, **keywords)
loop.generator_step = slow_step
"""
"""A patch for `start_midframe`: each step first prints that it begins, then waits."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and `run.toml` with settings that train on it."""
    folder = tmp_path_factory.mktemp("train")
    config = replace(
        GUIDED,
        samples=40,
        log_every=1,
        validate_every=5,
        checkpoint_every=2,
        coarse_iterations=(1,),
        data=replace(GUIDED.data, folders=(str(write_shards(folder)),), crop_size=48),
    )
    (folder / "run.toml").write_text(config_to_toml(config))
    return folder


@pytest.fixture(autouse=True)
def _one_thread_and_restored_signals() -> Iterator[None]:
    """Use one thread, and restore the signal handlers that training in this process replaces."""
    threads, before = torch.get_num_threads(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(number, handler)


def wait_for_steps(process: subprocess.Popen[Any], count: int) -> None:
    for _ in range(count):
        wait_for_marker(process)


def test_a_run_that_is_killed_interrupted_and_resumed_ends_with_the_same_bits(
    folder: Path, tmp_path: Path, run_in_process: InProcessCommand
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    done = run_in_process("train", folder / "run.toml", "--out", whole, "--json")
    assert done.returncode == 0, done.stderr
    summary = parse_json_object(done.stdout)
    assert (summary["schema"], summary["ok"], summary["network"]) == ("midframe.train/1", True, "guided")
    assert "step 10, 40 samples" in done.stderr
    assert f"use it with --network {whole / 'weights.safetensors'}" in done.stderr

    steps = random.randint(1, 6)
    process = start_midframe("train", folder / "run.toml", "--out", out, patch=SLOW_STEPS.format(seconds=0.01))
    wait_for_steps(process, steps)
    time.sleep(random.uniform(0, 0.2))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    process = start_midframe("train", "--resume", "--out", out, "--quiet", patch=SLOW_STEPS.format(seconds=0.2))
    wait_for_steps(process, 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "--resume goes on from there" in expect_one_line("\n".join(e for e in error.splitlines() if e != MARKER))

    assert run_in_process("train", "--resume", "--out", out, "--quiet").returncode == 0
    assert timeless_log(out) == timeless_log(whole), f"killed after {steps} steps"
    assert equal_values(read_checkpoint(out), read_checkpoint(whole)), f"killed after {steps} steps"


def test_a_second_signal_ends_the_process_at_once(folder: Path, tmp_path: Path) -> None:
    process = start_midframe(
        "train", folder / "run.toml", "--out", tmp_path / "run", patch=SLOW_STEPS.format(seconds=1000)
    )
    wait_for_steps(process, 1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "ended at once" in expect_one_line(error)


def test_options_override_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_in_process: InProcessCommand
) -> None:
    calls: list[tuple[TrainingConfig, dict[str, Any]]] = []

    def record(config: TrainingConfig, out: Path, **keywords: Any) -> Path:
        calls.append((config, keywords))
        raise SystemExit

    monkeypatch.setattr("midframe.training.train.loop.train", record)
    options: list[object] = ["--data", "a", "--data", "b", "--vgg", "v.pth", "--minutes", 3]
    for setting in ("losses.census=0.5", "coarse_iterations=[2]", "network_settings.taps=7", "licence=CC0"):
        options += ["--set", setting]
    with pytest.raises(SystemExit):
        run_in_process("train", "guided", "--out", tmp_path, *options)
    config, keywords = calls[0]
    assert config.data.folders == ("a", "b")
    assert (config.losses.vgg_file, config.losses.census, config.coarse_iterations) == ("v.pth", 0.5, (2,))
    assert (config.network_settings, config.licence) == ({"taps": 7}, "CC0")
    assert keywords["budget"] == Budget(samples=None, minutes=3.0)
    with pytest.raises(SystemExit):
        run_in_process("train", folder / "run.toml", "--out", tmp_path)
    assert config_to_dict(calls[1][0])["network_settings"] == GUIDED.network_settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "a run needs CONFIG"),
        (("guided", "--minutes", 1, "--samples", 5), "give one"),
        (("guided", "--resume"), "only --minutes or --samples may be new"),
        (("guided", "--set", "batches=3"), "--set takes NAME=VALUE"),
        (("guided", "--set", "losses.nothing=3"), "--set takes NAME=VALUE"),
        (("guided", "--set", "batch_size"), "--set takes NAME=VALUE"),
        (("guided", "--set", "batch_size=many"), "batch_size: Input should be a valid integer"),
        (("guided", "--set", "data=3", "--data", "x"), "data: "),
        (("giuded",), "'giuded' is no preset"),
        (("guided",), "no data set was named"),
        (("paper", "--set", "batch_size=0"), "batch_size of 1 or more"),
    ],
    ids=lambda value: " ".join(map(str, value)) or "no arguments" if isinstance(value, tuple) else "",
)
def test_usage_errors_are_one_line(
    tmp_path: Path, run_in_process: InProcessCommand, arguments: tuple[object, ...], message: str
) -> None:
    result = run_in_process("train", *arguments, "--out", tmp_path / "run")
    assert result.returncode == 2
    assert message in expect_one_line(result.stderr)
    assert not (tmp_path / "run").exists()


def test_missing_files_and_devices_have_exit_codes_of_their_own(
    folder: Path, tmp_path: Path, run_in_process: InProcessCommand
) -> None:
    without_vgg = ("paper", "--data", folder, "--set", "data.crop_size=48", "--vgg", tmp_path / "v")
    for arguments, code, message in (
        (("--resume",), 3, "holds no checkpoint.pt"),
        (("guided", "--data", tmp_path / "nothing"), 3, "there is no data set"),
        (without_vgg, 3, "there is no VGG-19 file"),
        (("guided", "--data", folder, "--device", "cuda:9"), 5, "cannot be used"),
    ):
        result = run_in_process("train", *arguments, "--out", tmp_path / "run")
        assert result.returncode == code, result.stderr
        assert message in expect_one_line(result.stderr)


def test_a_loss_that_is_not_finite_is_a_one_line_error(
    folder: Path, tmp_path: Path, run_in_process: InProcessCommand
) -> None:
    settings = ("--set", "optimiser.learning_rate=1e30", "--set", "optimiser.warmup_steps=0")
    result = run_in_process("train", folder / "run.toml", *settings, "--out", tmp_path / "run", "--quiet")
    assert result.returncode == 3
    line = expect_one_line(result.stderr)
    assert "not finite" in line
    batch_file = next((tmp_path / "run").glob("not-finite-*.pt"))
    assert str(batch_file) in line
    assert torch.load(batch_file, weights_only=True)["batch"]["first"].shape == (4, 3, 48, 48)


def test_a_folder_with_a_run_is_refused_unless_it_is_resumed(
    folder: Path, tmp_path: Path, run_in_process: InProcessCommand
) -> None:
    command = ("train", folder / "run.toml", "--out", tmp_path / "run", "--samples", 4, "--quiet")
    assert run_in_process(*command).returncode == 0
    again = run_in_process(*command)
    assert again.returncode == 4
    assert "holds a run; --resume goes on with it" in expect_one_line(again.stderr)
    assert run_in_process("train", "--resume", "--out", tmp_path / "run", "--samples", 8).returncode == 0
    assert read_log(tmp_path / "run")[-1]["samples"] == 8

    curves = run_in_process("curves", tmp_path / "run", tmp_path / "run", "--out", tmp_path / "curves.png")
    assert curves.returncode == 0
    assert "the curves of 2 runs" in curves.stderr
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_help_names_options_and_presets(run_in_process: InProcessCommand) -> None:
    text = run_in_process("train", "--help").stdout
    for word in ("--resume", "--minutes", "--set", "paper, repository, guided", "midframe train guided --data DATA"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120
