"""Run the report's training recipe for a few hundred steps, and record losses, speed and memory.

    python benchmarks/paper_training.py --data DATA --vgg ../shared/data/vgg19/vgg19-relu3_4.safetensors

This is preset `paper`: perceptual (1), reconstruction (0.4) and adversarial loss (0.8), and one step of each optimiser
per batch of 6 crops of 160x160, Adam with learning rates 0.0006 and 0.0001. Only the layers of VGG-19 are the deepest
in the file. DATA is a data set of `midframe dataset build`; the middle three frames of some hundred evenly spaced
windows are used.

A run of some hundred steps corresponds to the first minute of the report's training. The network starts as the average
of both frames (its initialisation), so the losses of each step are recorded beside those of the average on the same
batch. The result states whether the following holds, comparing the first and the last tenth of the steps:

- the network's perceptual and reconstruction losses fall below those of the average;
- the discriminator's loss falls below 2 ln 2, where it starts, and it classifies most frames correctly;
- the adversarial loss, -log sigmoid D(predicted), starts at ln 2 and rises as the discriminator learns.

Writes benchmarks/results/paper_training.json and docs/images/paper-training.png. Ctrl-C ends the run, and the steps so
far are recorded. Memory is measured with both precisions, in two steps each in a process of its own. Durations are
meaningful on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common

if TYPE_CHECKING:
    from midframe.networks.vgg import Vgg19
    from midframe.training.config import LossConfig, TrainingConfig
    from midframe.training.data.batch import Batch
    from midframe.training.data.dataset import InMemoryDataset

RECORDED = (
    "perceptual",
    "reconstruction",
    "adversarial",
    "discriminator",
    "target_accuracy",
    "predicted_accuracy",
    "total",
    "gradient_norm",
)
"""Values of the training log that are recorded for each step."""

COMPARED = ("perceptual", "reconstruction")
"""Losses that are also computed for the average of both frames."""


def main() -> None:
    """Train, or measure the memory of one precision, and write the result file and the figure."""
    options = parse_options()
    import torch

    torch.set_num_threads(options.threads)
    config = choose_config(options)
    if options.memory_only:
        print(measure_memory(config, load_triplets(options.data, "train", 8)))
        return
    measured_on = common.machine()
    memory = measure_memory_of_precisions(config)
    from midframe.training.train.validation import TRIPLETS

    training = load_triplets(options.data, "train", options.windows)
    validation = load_triplets(options.data, "validation", TRIPLETS)
    lines, cpu_seconds = run_training(config, training, validation)
    steps = [line for line in lines if line["kind"] == "train"]
    curves = {name: [round(line[name], 5) for line in steps] for name in RECORDED}
    average = [losses_of_average(batch, config.losses) for batch in batches_of_run(training, config, len(steps))]
    curves |= {f"{name}_of_average": [round(each[name], 5) for each in average] for name in COMPARED}
    durations = step_durations(steps)
    figures = {
        "run": describe_run(options, config, training, len(steps)),
        "seconds_per_step": {
            "median": round(statistics.median(durations), 2),
            "best": round(min(durations), 2),
            "cpu": round(statistics.median(cpu_seconds[1:]), 2),
        },
        "memory_mb": memory,
        "validation": {
            "psnr": next((round(line["psnr"], 3) for line in reversed(lines) if line["kind"] == "validation"), None),
            "psnr_of_average": psnr_of_average(validation),
            "windows": len(validation.windows),
        },
        "findings": summarise(curves),
        "curves": curves,
    }
    about = "a short run of preset `paper` with all of its losses and both optimisers"
    common.write_result(options, about, figures, measured_on)
    draw(curves, options.figure)
    print(json.dumps({name: value for name, value in figures.items() if name != "curves"}, indent=1))


def describe_run(
    options: argparse.Namespace, config: TrainingConfig, training: InMemoryDataset, steps: int
) -> dict[str, Any]:
    """Return the settings and the size of the run."""
    return {
        "steps": steps,
        "batch_size": config.batch_size,
        "crop_size": options.crop,
        "windows": len(training.windows),
        "films": len(training.film_names),
        "learning_rate": config.optimiser.learning_rate,
        "warmup_steps": options.warmup,
        "initialisation": options.initialisation,
        "discriminator_learning_rate": config.discriminator.learning_rate,
        "precision": config.precision,
        "vgg_layer": perceptual_vgg(config.losses)[1],
        "threads": options.threads,
    }


def measure_memory_of_precisions(config: TrainingConfig) -> dict[str, int]:
    """Return the peak memory of a step in each precision, each in a process of its own, and the size of the weights."""
    child = [sys.executable, *sys.argv, "--memory-only", "--precision"]
    memory = {}
    for precision in ("float32", "bfloat16"):
        output = subprocess.run([*child, precision], check=True, capture_output=True, text=True).stdout
        memory[f"step, {precision}"] = round(int(output) / 2**20)
    return {**memory, "weights": round(weights_size(config) / 2**20)}


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = common.parser(__doc__, "paper_training")
    parser.add_argument("--data", type=Path, required=True, help="folder of `midframe dataset build`")
    parser.add_argument("--vgg", type=Path, required=True, help="VGG-19's file")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--windows", type=int, default=240, help="number of windows held in memory")
    parser.add_argument("--rate", type=float, help="learning rate of the generator, instead of the preset's")
    parser.add_argument("--warmup", type=int, default=0, help="steps over which that learning rate rises")
    parser.add_argument("--initialisation", default="convolution-aware", choices=("convolution-aware", "glorot"))
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--figure", type=Path, default=common.ROOT / "docs" / "images" / "paper-training.png")
    return parser.parse_args()


def choose_config(options: argparse.Namespace) -> TrainingConfig:
    """Return the settings of the run: preset `paper` with the changes of the options."""
    from midframe.training.presets import PRESETS

    preset = PRESETS["paper"]
    return replace(
        preset,
        network_settings={"initialisation": options.initialisation},
        losses=replace(preset.losses, vgg_file=str(options.vgg)),
        optimiser=replace(
            preset.optimiser,
            learning_rate=options.rate or preset.optimiser.learning_rate,
            warmup_steps=options.warmup,
        ),
        data=replace(preset.data, crop_size=options.crop),
        precision=options.precision,
        samples=options.steps * preset.batch_size,
        log_every=1,
        validate_every=options.steps,
        checkpoint_every=options.steps,
    )


def run_training(
    config: TrainingConfig, training: InMemoryDataset, validation: InMemoryDataset
) -> tuple[list[dict[str, Any]], list[float]]:
    """Train until the end or until Ctrl-C; return the lines of the log and the CPU seconds of each step."""
    from midframe.errors import Cancelled
    from midframe.training.train.loop import train
    from midframe.training.train.run_folder import read_log
    from midframe.training.train.setup import Datasets
    from midframe.training.train.state import Progress

    clocks = [time.process_time()]
    signals: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: signals.append(number))

    def print_progress(progress: Progress) -> None:
        clocks.append(time.process_time())
        losses = " ".join(f"{name} {progress.losses[name]:.4g}" for name in RECORDED)
        seconds = config.batch_size / progress.samples_per_second
        print(f"{progress.step} {seconds:.1f} s, {clocks[-1] - clocks[-2]:.1f} s CPU: {losses}", flush=True)

    with tempfile.TemporaryDirectory(prefix="midframe-paper-") as folder:
        run = Path(folder) / "run"
        datasets = Datasets(training, validation)
        with suppress(Cancelled):
            train(config, run, datasets=datasets, report=print_progress, cancelled=lambda: bool(signals))
        return read_log(run), [after - before for before, after in pairwise(clocks)]


def measure_memory(config: TrainingConfig, data: InMemoryDataset) -> int:
    """Return the peak memory of two steps in bytes, without the weights."""
    from midframe.training.train.loop import train
    from midframe.training.train.run_folder import read_log
    from midframe.training.train.setup import Datasets

    with tempfile.TemporaryDirectory(prefix="midframe-paper-") as folder:
        run = Path(folder) / "run"
        train(replace(config, samples=2 * config.batch_size), run, datasets=Datasets(data))
        return int(read_log(run)[-1]["memory_bytes"] or 0)


def load_triplets(folder: Path, split: Any, limit: int) -> InMemoryDataset:
    """Load the middle three frames of at most `limit` evenly spaced windows of a split."""
    import numpy as np
    import torch

    from midframe.training.data.dataset import InMemoryDataset
    from midframe.training.data.shards import decode, read_shards

    count = sum(1 for _ in read_shards(folder, split))
    chosen = {round(k * (count - 1) / max(1, limit - 1)) for k in range(limit)} if count > limit else set(range(count))
    windows, films, motions = [], [], []
    for number, sample in enumerate(read_shards(folder, split)):
        if number in chosen:
            middle = len(sample.frames) // 2
            frames = np.stack([decode(frame) for frame in sample.frames[middle - 1 : middle + 2]])
            windows.append(torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))))
            films.append(str(sample.info["name"]))
            motions.append(float(sample.info["motion"]) / (len(sample.frames) - 1))
    names = tuple(sorted(set(films)))
    indices = torch.tensor([names.index(name) for name in films])
    return InMemoryDataset(tuple(windows), indices, names, torch.tensor(motions))


def batches_of_run(data: InMemoryDataset, config: TrainingConfig, steps: int) -> Iterator[Batch]:
    """Yield the batches of the run again; they depend only on the data, the settings and their numbers."""
    from midframe.training.data.samples import make_batch

    for first in range(0, steps * config.batch_size, config.batch_size):
        yield make_batch(data, config, range(first, first + config.batch_size))


def losses_of_average(batch: Batch, config: LossConfig) -> dict[str, float]:
    """Return the perceptual and the reconstruction loss of the average of both frames."""
    import torch

    from midframe.training.train.losses import perceptual_loss, reconstruction_loss

    vgg, layer = perceptual_vgg(config)
    average = (batch.first + batch.second) / 2
    with torch.no_grad():
        features, target_features = (vgg(frames, {layer})[layer] for frames in (average, batch.target))
    return {
        "perceptual": float(perceptual_loss(features, target_features, layer)),
        "reconstruction": float(reconstruction_loss(average, batch.target)),
    }


def psnr_of_average(dataset: InMemoryDataset) -> float:
    """Return the PSNR of the average of both frames on the validation set, computed as the trainer does."""
    import torch

    from midframe.training.train.validation import validation_batch

    batch = validation_batch(dataset)
    assert batch is not None
    mse = (((batch.first + batch.second) / 2).round() - batch.target).square().mean((1, 2, 3))
    return round(float((10 * torch.log10(255**2 / mse)).mean()), 3)


@cache
def perceptual_vgg(config: LossConfig) -> tuple[Vgg19, str]:
    """Return VGG-19 and the layer of the perceptual loss."""
    from midframe.networks.vgg import choose_layer, load_vgg19

    assert config.vgg_file is not None
    vgg = load_vgg19(config.vgg_file)
    return vgg, choose_layer(vgg, config.vgg_layer)


def weights_size(config: TrainingConfig) -> int:
    """Return the size of the weights of generator, discriminator and VGG-19 in bytes."""
    import torch

    from midframe.training.train.models import build_models

    models = build_models(config, torch.device("cpu"))
    networks = (models.generator, models.discriminator, models.vgg)
    return sum(w.nbytes for network in networks if network is not None for w in network.parameters())


def step_durations(steps: list[dict[str, Any]]) -> list[float]:
    """Return the seconds of each step but the first, which compiles."""
    return [after["seconds"] - before["seconds"] for before, after in pairwise(steps)]


def summarise(curves: dict[str, list[float]]) -> dict[str, Any]:
    """Return the means of the first and last tenth of the steps, and whether each loss behaves as expected."""
    tenth = max(1, len(curves["total"]) // 10)
    first, last = slice(0, tenth), slice(-tenth, None)
    findings: dict[str, Any] = {
        name: {"first_and_last_tenth": [round(statistics.mean(curves[name][part]), 4) for part in (first, last)]}
        for name in RECORDED[:6]
    }
    for name in COMPARED:
        ratios = [sum(curves[name][part]) / sum(curves[f"{name}_of_average"][part]) for part in (first, last)]
        findings[name] |= {
            "relative_to_average": [round(ratio, 4) for ratio in ratios],
            "as_expected": ratios[1] < 1,
        }
    at_end = {name: finding["first_and_last_tenth"][1] for name, finding in findings.items()}
    findings["discriminator"] |= {
        "start": round(2 * math.log(2), 4),
        "as_expected": at_end["discriminator"] < 2 * math.log(2)
        and at_end["target_accuracy"] + at_end["predicted_accuracy"] > 1,
    }
    highest = max(curves["adversarial"])
    findings["adversarial"] |= {
        "start": round(math.log(2), 4),
        "highest": highest,
        "highest_at_step": curves["adversarial"].index(highest) + 1,
        "as_expected": at_end["adversarial"] > math.log(2),
    }
    return findings


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Draw the curves: single steps as thin lines, their running means as thick ones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), layout="constrained")
    for column, name in enumerate(COMPARED, 1):
        average = curves[f"{name}_of_average"]
        axes = figure.add_subplot(2, 3, column)
        draw_curve(axes, curves[name], "C0", "network")
        draw_curve(axes, average, "C1", "average of both frames")
        axes.set_title(f"{name} loss")
        axes = figure.add_subplot(2, 3, column + 3)
        ratios = [loss / reference for loss, reference in zip(curves[name], average, strict=True)]
        draw_curve(axes, ratios, "C2", f"{name}: network / average")
        axes.axhline(1, color="black", lw=0.8)
        axes.set_title("relative to the average on the same batch")
    axes = figure.add_subplot(2, 3, 3)
    draw_curve(axes, curves["discriminator"], "C3", "discriminator")
    draw_curve(axes, curves["adversarial"], "C0", "adversarial (generator)")
    for value, label in ((2 * math.log(2), "2 ln 2"), (math.log(2), "ln 2")):
        axes.axhline(value, color="black", lw=0.8)
        axes.annotate(label, (1, value), fontsize=8, va="bottom")
    axes.set_title("generator and discriminator")
    axes = figure.add_subplot(2, 3, 6)
    draw_curve(axes, curves["target_accuracy"], "C4", "target frames")
    draw_curve(axes, curves["predicted_accuracy"], "C5", "predicted frames")
    axes.set_title("accuracy of the discriminator")
    for axes in figure.axes:
        axes.set_xlabel("steps")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=90)


def draw_curve(axes: Any, values: list[float], colour: str, label: str) -> None:
    """Draw a curve and its running mean."""
    steps, width = range(1, len(values) + 1), max(1, len(values) // 12)
    means = [statistics.mean(values[max(0, k - width + 1) : k + 1]) for k in range(len(values))]
    axes.plot(steps, values, color=colour, lw=0.6, alpha=0.4)
    axes.plot(steps, means, color=colour, lw=1.8, label=label)


if __name__ == "__main__":
    main()
