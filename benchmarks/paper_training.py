"""A short run of the network `paper` by the report's recipe: what both players' losses do, and what a step costs.

    python benchmarks/paper_training.py --data DATA --vgg ../shared/data/vgg19/vgg19-relu3_4.safetensors

Preset `paper`: perceptual (1), reconstruction (0.4) and adversarial loss (0.8), one step of each optimiser on the same
batch of 6 crops of 160x160, Adam with 0.0006 and 0.0001; only the layers of VGG-19 are the deepest that the file holds.
DATA is a data set of `midframe dataset build`; of each window the three frames in the middle are used, and of the
windows some hundred, evenly spread.

A run of some hundred steps sees what others see in the first minute of ten days. The network starts as the average of
both frames (its initialisation), so each step's losses are told beside those that the average has on the same batch.
What should be seen, and is checked: the network's perceptual and reconstruction losses fall below those of the average;
the discriminator's falls below 2 ln 2, where it starts, and it tells true from made frames more often than not; the
adversarial loss, -log sigmoid D(made), starts at ln 2 and rises as the discriminator learns.

Writes benchmarks/results/paper_training.json and docs/images/paper-training.png; stopped by Ctrl-C it does so with the
steps until then. Memory is measured for both precisions, two steps each in a process of its own. Seconds are of use on
an idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
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

if TYPE_CHECKING:
    from midframe.networks.vgg import Vgg19
    from midframe.training.config import LossConfig

ROOT = Path(__file__).resolve().parent.parent
LOGGED = (
    "perceptual",
    "reconstruction",
    "adversarial",
    "discriminator",
    "target_accuracy",
    "predicted_accuracy",
    "total",
    "gradient_norm",
)


def main() -> None:  # noqa: PLR0915 - the steps of one session in order
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of `midframe dataset build`")
    parser.add_argument("--vgg", type=Path, required=True, help="VGG-19's file")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--windows", type=int, default=240, help="how many windows are held in memory")
    parser.add_argument("--rate", type=float, help="of the network's optimiser; the preset's if not given")
    parser.add_argument("--warmup", type=int, default=0, help="steps over which that rate rises")
    parser.add_argument("--initialisation", default="convolution-aware", choices=("convolution-aware", "glorot"))
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/paper_training.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs/images/paper-training.png")
    options = parser.parse_args()

    import torch

    from midframe.errors import Cancelled
    from midframe.training.presets import PRESETS
    from midframe.training.train.loop import train
    from midframe.training.train.run_folder import environment, read_log
    from midframe.training.train.setup import Datasets
    from midframe.training.train.state import Progress
    from midframe.training.train.validation import TRIPLETS

    torch.set_num_threads(options.threads)
    preset = PRESETS["paper"]
    config = replace(
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
    if options.memory_only:
        print(memory(config, triplets(options.data, "train", 8)))
        return
    child = [sys.executable, *sys.argv, "--memory-only", "--precision"]
    memories = {
        precision: int(subprocess.run([*child, precision], check=True, capture_output=True, text=True).stdout)
        for precision in ("float32", "bfloat16")
    }
    data = triplets(options.data, "train", options.windows)
    held = triplets(options.data, "validation", TRIPLETS)
    load = os.getloadavg()
    clocks = [time.process_time()]
    stopped: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))

    def say(progress: Progress) -> None:
        clocks.append(time.process_time())
        told = " ".join(f"{name} {progress.losses[name]:.4g}" for name in LOGGED)
        seconds = (
            f"{config.batch_size / progress.samples_per_second:.1f} s, {clocks[-1] - clocks[-2]:.1f} of the processor"
        )
        print(f"{progress.step} {seconds}: {told}", flush=True)

    with tempfile.TemporaryDirectory(prefix="midframe-paper-") as folder:
        out = Path(folder) / "run"
        with suppress(Cancelled):
            train(config, out, datasets=Datasets(data, held), report=say, cancelled=lambda: bool(stopped))
        lines = read_log(out)
    steps = [line for line in lines if line["kind"] == "train"]
    psnr = next((round(line["psnr"], 3) for line in reversed(lines) if line["kind"] == "validation"), None)
    average = [of_average(batch, config) for batch in samples(data, config, len(steps))]
    names = ("perceptual", "reconstruction")
    curves = {name: [round(line[name], 5) for line in steps] for name in LOGGED}
    curves |= {f"{name}_of_average": [round(each[name], 5) for each in average] for name in names}
    result = {
        "about": "a short run of preset `paper` with all its losses and both optimisers; see the script",
        "machine": {name: environment()[name] for name in ("processor", "cores", "threads", "torch", "python")},
        "system": platform.platform(terse=True),
        "load": {"before": load, "after": os.getloadavg()},
        "run": {
            "steps": len(steps),
            "batch": config.batch_size,
            "crop": options.crop,
            "windows": len(data.windows),
            "films": len(data.film_names),
            "rate": config.optimiser.learning_rate,
            "warmup": options.warmup,
            "initialisation": options.initialisation,
            "discriminator_rate": config.discriminator.learning_rate,
            "precision": config.precision,
            "layer": eyes(config.losses)[1],
        },
        "seconds_a_step": {
            "median": round(statistics.median(taken(steps)), 2),
            "best": round(min(taken(steps)), 2),
            "of_the_processor": round(statistics.median(b - a for a, b in pairwise(clocks[1:])), 2),
        },
        "memory_mb": {
            **{f"step, {precision}": round(bytes_ / 2**20) for precision, bytes_ in memories.items()},
            "weights": round(weights_of(config) / 2**20),
        },
        "held": {"psnr": psnr, **held_of_average(held), "windows": len(held.windows)},
        "found": found(curves),
        "curves": curves,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    draw(curves, options.figure)
    print(json.dumps({name: value for name, value in result.items() if name != "curves"}, indent=1))


def memory(config: Any, data: Any) -> int:
    """What two steps take beyond the weights, in bytes."""
    from midframe.training.train.loop import train
    from midframe.training.train.run_folder import read_log
    from midframe.training.train.setup import Datasets

    with tempfile.TemporaryDirectory(prefix="midframe-paper-") as folder:
        train(replace(config, samples=2 * config.batch_size), Path(folder) / "run", datasets=Datasets(data))
        return int(read_log(Path(folder) / "run")[-1]["memory_bytes"] or 0)


def triplets(folder: Path, split: Any, most: int) -> Any:
    """The middle three frames of windows evenly spread over a split, in memory."""
    import numpy as np
    import torch

    from midframe.training.data.dataset import InMemoryDataset
    from midframe.training.data.shards import decode, read_shards

    count = sum(1 for _ in read_shards(folder, split))
    chosen = {round(k * (count - 1) / max(1, most - 1)) for k in range(most)} if count > most else set(range(count))
    windows, films, motions = [], [], []
    for number, sample in enumerate(read_shards(folder, split)):
        if number in chosen:
            middle = len(sample.frames) // 2
            frames = np.stack([decode(frame) for frame in sample.frames[middle - 1 : middle + 2]])
            windows.append(torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))))
            films.append(str(sample.info["name"]))
            motions.append(float(sample.info["motion"]) / (len(sample.frames) - 1))
    names = tuple(sorted(set(films)))
    numbers = torch.tensor([names.index(name) for name in films])
    return InMemoryDataset(tuple(windows), numbers, names, torch.tensor(motions))


def samples(data: Any, config: Any, steps: int) -> Iterator[Any]:
    """The batches that the run saw: each follows from the data, the settings and its number."""
    from midframe.training.data.samples import make_batch

    firsts = range(0, steps * config.batch_size, config.batch_size)
    return (make_batch(data, config, range(first, first + config.batch_size)) for first in firsts)


def of_average(batch: Any, config: Any) -> dict[str, float]:
    """The perceptual and the reconstruction loss of the average of both frames."""
    import torch

    from midframe.training.train.losses import perceptual_loss, reconstruction_loss

    vgg, layer = eyes(config.losses)
    average = (batch.first + batch.second) / 2
    with torch.no_grad():
        made, true = (vgg(pictures, {layer})[layer] for pictures in (average, batch.target))
    return {
        "perceptual": float(perceptual_loss(made, true, layer)),
        "reconstruction": float(reconstruction_loss(average, batch.target)),
    }


def held_of_average(held: Any) -> dict[str, float]:
    """The PSNR of the average on the held-back triplets, as the trainer reckons it."""
    import torch

    from midframe.training.train.validation import validation_batch

    batch = validation_batch(held)
    assert batch is not None
    errors = (((batch.first + batch.second) / 2).round() - batch.target).square().mean((1, 2, 3))
    return {"psnr_of_average": round(float((10 * torch.log10(255**2 / errors)).mean()), 3)}


@cache
def eyes(config: LossConfig) -> tuple[Vgg19, str]:
    """VGG-19 and the layer of the perceptual loss."""
    from midframe.networks.vgg import choose_layer, load_vgg19

    assert config.vgg_file is not None
    vgg = load_vgg19(config.vgg_file)
    return vgg, choose_layer(vgg, config.vgg_layer)


def weights_of(config: Any) -> int:
    """Bytes of the weights of both players and of VGG-19."""
    import torch

    from midframe.training.train.models import build_models

    models = build_models(config, torch.device("cpu"))
    networks = (models.generator, models.discriminator, models.vgg)
    return sum(w.nbytes for network in networks if network is not None for w in network.parameters())


def taken(steps: list[dict[str, Any]]) -> list[float]:
    """Seconds of each step but the first, which compiles."""
    return [after["seconds"] - before["seconds"] for before, after in pairwise(steps)]


def found(curves: dict[str, list[float]]) -> dict[str, Any]:
    """What should be seen: the first and the last tenth of the steps, and whether it is so."""
    tenth = max(1, len(curves["total"]) // 10)

    def ends(values: list[float]) -> list[float]:
        return [round(statistics.mean(part), 4) for part in (values[:tenth], values[-tenth:])]

    told: dict[str, Any] = {name: {"first_and_last_tenth": ends(curves[name])} for name in LOGGED[:6]}
    for name in ("perceptual", "reconstruction"):
        ratio = [
            sum(curves[name][part]) / sum(curves[f"{name}_of_average"][part])
            for part in (slice(0, tenth), slice(-tenth, None))
        ]
        told[name] |= {"to_average": [round(each, 4) for each in ratio], "as_it_should": ratio[1] < 1}
    right = told["target_accuracy"]["first_and_last_tenth"][1] + told["predicted_accuracy"]["first_and_last_tenth"][1]
    told["discriminator"] |= {
        "start": round(2 * math.log(2), 4),
        "as_it_should": told["discriminator"]["first_and_last_tenth"][1] < 2 * math.log(2) and right > 1,
    }
    highest = max(curves["adversarial"])
    told["adversarial"] |= {
        "start": round(math.log(2), 4),
        "highest": highest,
        "at_step": curves["adversarial"].index(highest) + 1,
        "as_it_should": told["adversarial"]["first_and_last_tenth"][1] > math.log(2),
    }
    return told


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """The curves of both players; single steps thin, their running mean thick."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), layout="constrained")
    steps = range(1, len(curves["total"]) + 1)

    def line(axes: Any, values: list[float], colour: str, label: str) -> None:
        width = max(1, len(values) // 12)
        means = [statistics.mean(values[max(0, k - width + 1) : k + 1]) for k in range(len(values))]
        axes.plot(steps, values, color=colour, lw=0.6, alpha=0.4)
        axes.plot(steps, means, color=colour, lw=1.8, label=label)

    for place, name in enumerate(("perceptual", "reconstruction")):
        axes = figure.add_subplot(2, 3, place + 1)
        line(axes, curves[name], "C0", "network")
        line(axes, curves[f"{name}_of_average"], "C1", "average of both frames")
        axes.set_title(f"{name} loss")
        axes = figure.add_subplot(2, 3, place + 4)
        pairs = zip(curves[name], curves[f"{name}_of_average"], strict=True)
        line(axes, [mine / other for mine, other in pairs], "C2", f"{name}: network / average")
        axes.axhline(1, color="black", lw=0.8)
        axes.set_title("against the average's on the same batch")
    axes = figure.add_subplot(2, 3, 3)
    line(axes, curves["discriminator"], "C3", "discriminator")
    line(axes, curves["adversarial"], "C0", "adversarial (network)")
    for value, label in ((2 * math.log(2), "2 ln 2"), (math.log(2), "ln 2")):
        axes.axhline(value, color="black", lw=0.8)
        axes.annotate(label, (1, value), fontsize=8, va="bottom")
    axes.set_title("the two players")
    axes = figure.add_subplot(2, 3, 6)
    line(axes, curves["target_accuracy"], "C4", "true frames known as true")
    line(axes, curves["predicted_accuracy"], "C5", "made frames known as made")
    axes.set_title("how often the discriminator is right")
    for axes in figure.axes:
        axes.set_xlabel("steps")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
