"""Measure the speed of training steps of `guided`, and compare it with a prototype's training script in the same run.

    python benchmarks/training.py [--prototype ../shared/lab/guided_sketch.py] [--rounds 12] [--against REV]

A step is forward pass, losses, backward pass, clipping, AdamW and the moving average of the weights, on a batch of 16
crops of 128x128 that is already in memory. Two Python threads process half of the batch each, with one torch thread
each. Three kinds of steps are measured in turn:

- `prototype`: the prototype's, with Charbonnier and Laplacian losses and the photometric loss of the warped frames;
- `same losses`: Midframe's with these losses, targets in the middle and one coarse iteration;
- `preset`: Midframe's with the losses, target times and coarse iterations of its preset `guided`.

Wall time is meaningful on an idle machine only. CPU time is useful on a busy one too, although caches and memory are
shared. The speed-up over the prototype is the median over the rounds of the ratio of two consecutive steps. The process
restarts itself with the allocator settings that the prototype asks for.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common

ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "HL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
"""Environment variables of the measuring process: the prototype's allocator settings, and one thread per library."""
PROTOTYPE = common.ROOT.parent / "shared" / "lab" / "guided_sketch.py"
BATCH_SIZE, CROP_SIZE, MICRO_BATCHES = 16, 128, 2
LEARNING_RATE = 4e-4
EMA_DECAY = 0.999
WARM_UP_ROUNDS = 4
"""Rounds before those that are measured; the first ones compile."""

Step = Callable[[int], None]
"""A training step; takes its number."""


@dataclass(frozen=True)
class Timing:
    """Duration of one step in seconds."""

    wall: float
    cpu: float


def main() -> None:
    """Time all kinds of steps and write the result file."""
    parser = common.parser(__doc__, "training")
    parser.add_argument("--prototype", type=Path, default=PROTOTYPE)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})

    import torch

    torch.set_num_threads(1)
    measured_on = common.machine()
    triplets = moving_texture()
    with ThreadPoolExecutor(MICRO_BATCHES) as threads:
        steps = {
            "same losses": guided_step(triplets, threads, use_preset=False),
            "preset": guided_step(triplets, threads, use_preset=True),
        }
        has_prototype = options.prototype.is_file()
        if has_prototype:
            steps = {"prototype": prototype_step(options.prototype, triplets, threads), **steps}
        else:
            print(f"without the prototype: {options.prototype.name} is not there")
        timings = measure_in_turn(steps, options.rounds)
    figures: dict[str, Any] = {
        "batch_size": BATCH_SIZE,
        "crop_size": CROP_SIZE,
        "threads": MICRO_BATCHES,
        "rounds": options.rounds,
        "steps": {name: summarise(each) for name, each in timings.items()},
    }
    if has_prototype:
        pairs = list(zip(timings["prototype"], timings["same losses"], strict=True))
        figures["speed_up_over_prototype"] = {
            "wall": round(statistics.median(theirs.wall / ours.wall for theirs, ours in pairs), 3),
            "cpu": round(statistics.median(theirs.cpu / ours.cpu for theirs, ours in pairs), 3),
        }
    about = "training steps of `guided` on the CPU: crops per second, CPU seconds per step"
    common.write_result(options, about, figures, measured_on)
    print(json.dumps(figures, indent=1))


def moving_texture() -> Any:
    """Return triplets `[3, B, 3, S, S]`, uint8, of a random texture that moves by a few pixels."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    side = CROP_SIZE + 32
    noise = torch.rand(BATCH_SIZE, 3, side // 4, side // 4)
    textures = F.interpolate(noise, size=(side, side), mode="bicubic").clamp(0, 1).mul(255).byte()
    displacements = torch.randint(-6, 7, (BATCH_SIZE, 2)).tolist()
    frames = []
    for sign in (-1, 0, 1):
        crops = []
        for sample, (dy, dx) in enumerate(displacements):
            top, left = 16 + sign * dy, 16 + sign * dx
            crops.append(textures[sample, :, top : top + CROP_SIZE, left : left + CROP_SIZE])
        frames.append(torch.stack(crops))
    return torch.stack(frames)


def guided_step(triplets: Any, threads: ThreadPoolExecutor, *, use_preset: bool) -> Step:
    """Return a step of Midframe's training, with the losses of its preset or with those of the prototype."""
    from dataclasses import replace

    import torch

    from midframe.training.config import LossConfig
    from midframe.training.data.batch import Batch
    from midframe.training.distributed import World
    from midframe.training.presets import PRESETS
    from midframe.training.train.models import build_models
    from midframe.training.train.steps import generator_step, optimiser_step

    config = replace(PRESETS["guided"], batch_size=BATCH_SIZE, micro_batches=MICRO_BATCHES)
    time_ = torch.rand(BATCH_SIZE) * 0.8 + 0.1
    if not use_preset:
        losses = LossConfig(charbonnier=1.0, laplacian=0.3, warped_photometric=0.3)
        config = replace(config, losses=losses, coarse_iterations=(1,))
        time_ = torch.full((BATCH_SIZE,), 0.5)
    models = build_models(config, torch.device("cpu"))
    weights = list(models.generator.parameters())
    ema_weights = [weight.detach().clone() for weight in weights]

    def step(number: int) -> None:
        first, target, second = triplets.float()
        batch = Batch(
            first=first,
            target=target,
            second=second,
            time=time_,
            flow=torch.zeros(BATCH_SIZE, 4, CROP_SIZE, CROP_SIZE),
            flow_confidence=torch.ones(BATCH_SIZE, 1, CROP_SIZE, CROP_SIZE),
            flow_is_exact=torch.ones(BATCH_SIZE),
        )
        iterations = config.coarse_iterations[number % len(config.coarse_iterations)]
        computed = generator_step(
            models, batch, config, progress=0.0, coarse_iterations=iterations, world=World(), threads=threads
        )
        optimiser_step(models.generator_optimiser, computed.gradients, LEARNING_RATE, config.optimiser)
        torch._foreach_lerp_(ema_weights, [weight.detach() for weight in weights], 1 - EMA_DECAY)

    return step


def prototype_step(path: Path, triplets: Any, threads: ThreadPoolExecutor) -> Step:
    """Return a step of the prototype, as its function `train` makes it."""
    import torch

    spec = importlib.util.spec_from_file_location("prototype", path)
    assert spec is not None
    assert spec.loader is not None
    prototype = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prototype)
    network = prototype.load(None).train()
    weights, ema_weights = list(network.parameters()), [value.clone() for value in network.state_dict().values()]
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=1e-4, fused=True)

    def process(index: int) -> None:
        frames = triplets.chunk(MICRO_BATCHES, 1)[index].float() / 255
        loss, _ = prototype.losses(network, frames, None, 0.3, 0.0)
        (loss / MICRO_BATCHES).backward()

    def step(number: int) -> None:
        optimiser.zero_grad()
        list(threads.map(process, range(MICRO_BATCHES)))
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        torch._foreach_lerp_(ema_weights, [weight.detach() for weight in weights], 1 - EMA_DECAY)

    return step


def measure_in_turn(steps: dict[str, Step], rounds: int) -> dict[str, list[Timing]]:
    """Return the duration of each kind of step in each round; a round makes one step of each kind."""
    timings: dict[str, list[Timing]] = {name: [] for name in steps}
    for number in range(-WARM_UP_ROUNDS, rounds):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step(number)
            if number >= 0:
                timings[name].append(Timing(time.perf_counter() - wall, time.process_time() - cpu))
    return timings


def summarise(timings: list[Timing]) -> dict[str, float]:
    """Return the median and the best speed of a kind of step."""
    walls, cpus = [timing.wall for timing in timings], [timing.cpu for timing in timings]
    return {
        "crops_per_second": round(BATCH_SIZE / statistics.median(walls), 2),
        "crops_per_second_best": round(BATCH_SIZE / min(walls), 2),
        "cpu_seconds": round(statistics.median(cpus), 4),
        "cpu_seconds_best": round(min(cpus), 4),
    }


if __name__ == "__main__":
    main()
