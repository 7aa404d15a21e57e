"""Training crops a second of `guided` against those of a prototype's script, in one run, in turn.

    python benchmarks/training.py [--sketch ../shared/lab/guided_sketch.py] [--rounds 12]

A step is forward, losses, backward, clipping, AdamW and the moving average of the weights, on a batch that lies in
memory: 16 crops of 128x128, two Python threads with half of them and one torch thread each, frames at the middle. Both
have Charbonnier and Laplacian losses and the warped frames of every level against the target. A third row is
Midframe's own preset: all of its losses, other times too, and a coarser decoder in every fourth step.

Seconds on the clock are of use on an idle machine only; those of the processor also on a busy one, where caches and
memory are shared all the same. The ratio is the median over the rounds of one step's seconds to those of the other's
right after it. The process starts itself anew with the allocator's settings that the prototype asks for.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

SETTINGS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "HL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
BATCH, CROP, SHARES = 16, 128, 2
RATE = 4e-4

Step = Callable[[int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--sketch", type=Path, default=root.parent / "shared" / "lab" / "guided_sketch.py")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, default=root / "benchmarks" / "results" / "training.json")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in SETTINGS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **SETTINGS})

    import torch

    torch.set_num_threads(1)
    load = os.getloadavg()
    trio = moving_texture()
    with ThreadPoolExecutor(SHARES) as pool:
        steps = {
            "guided": guided_step(trio, pool, ours=False),
            "guided, its preset": guided_step(trio, pool, ours=True),
        }
        why = None if options.sketch.is_file() else f"{options.sketch.name} is not there"
        if why is None:
            steps = {"sketch": sketch_step(options.sketch, trio, pool), **steps}
        else:
            print(f"without the prototype: {why}")
        times = alternately(steps, options.rounds)
    result = {
        "about": "training steps, whole; see benchmarks/training.py",
        "machine": machine(),
        "versions": {"torch": torch.__version__, "halide": version("halide"), "python": platform.python_version()},
        "load": {"before": load, "after": os.getloadavg()},
        "batch": BATCH,
        "crop": CROP,
        "threads": SHARES,
        "rounds": options.rounds,
        "skipped": why,
        "steps": {name: told(samples) for name, samples in times.items()},
    }
    if why is None:
        pairs = list(zip(times["sketch"], times["guided"], strict=True))
        result["times_the_sketch"] = {
            kind: round(statistics.median(theirs[k] / mine[k] for theirs, mine in pairs), 3)
            for k, kind in enumerate(("by_clock", "by_processor"))
        }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"steps": result["steps"], "times_the_sketch": result.get("times_the_sketch")}, indent=1))


def moving_texture() -> Any:
    """Triplets `[3, B, 3, S, S]` uint8 of a texture that moves by a few pixels."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    side = CROP + 32
    small = torch.rand(BATCH, 3, side // 4, side // 4)
    large = F.interpolate(small, size=(side, side), mode="bicubic").clamp(0, 1).mul(255).byte()
    far = torch.randint(-6, 7, (BATCH, 2)).tolist()
    frames = []
    for sign in (-1, 0, 1):
        crops = []
        for sample, (dy, dx) in enumerate(far):
            top, left = 16 + sign * dy, 16 + sign * dx
            crops.append(large[sample, :, top : top + CROP, left : left + CROP])
        frames.append(torch.stack(crops))
    return torch.stack(frames)


def guided_step(trio: Any, pool: ThreadPoolExecutor, ours: bool) -> Step:
    """A step of Midframe's trainer. ours: with the losses, times and depths of the preset, else those of the sketch."""
    from dataclasses import replace

    import torch

    from midframe.training.config import LossConfig
    from midframe.training.data.batch import Batch
    from midframe.training.distributed import World
    from midframe.training.presets import PRESETS
    from midframe.training.train.models import build_models
    from midframe.training.train.steps import generator_step, optimiser_step

    config = replace(PRESETS["guided"], batch_size=BATCH, micro_batches=SHARES)
    if not ours:
        config = replace(
            config, losses=LossConfig(charbonnier=1.0, laplacian=0.3, warped_photometric=0.3), coarse_iterations=(1,)
        )
    models = build_models(config, torch.device("cpu"))
    weights = list(models.generator.parameters())
    average = [weight.detach().clone() for weight in weights]
    time_ = torch.rand(BATCH) * 0.8 + 0.1 if ours else torch.full((BATCH,), 0.5)
    motion, trust = torch.zeros(BATCH, 4, CROP, CROP), torch.ones(BATCH, 1, CROP, CROP)

    def step(number: int) -> None:
        first, target, second = trio.float()
        batch = Batch(first, target, second, time_, motion, trust, torch.ones(BATCH))
        iterations = config.coarse_iterations[number % len(config.coarse_iterations)]
        computed = generator_step(
            models, batch, config, progress=0.0, coarse_iterations=iterations, world=World(), threads=pool
        )
        optimiser_step(models.generator_optimiser, computed.gradients, RATE, config.optimiser)
        torch._foreach_lerp_(average, [weight.detach() for weight in weights], 0.001)

    return step


def sketch_step(path: Path, trio: Any, pool: ThreadPoolExecutor) -> Step:
    """A step of the prototype, as its function `train` makes it."""
    import torch

    spec = importlib.util.spec_from_file_location("sketch", path)
    assert spec is not None
    assert spec.loader is not None
    sketch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sketch)
    network = sketch.load(None).train()
    weights, average = list(network.parameters()), [v.clone() for v in network.state_dict().values()]
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=1e-4, fused=True)

    def share(index: int) -> None:
        frames = trio.chunk(SHARES, 1)[index].float() / 255
        loss, _ = sketch.losses(network, frames, None, 0.3, 0.0)
        (loss / SHARES).backward()

    def step(number: int) -> None:
        optimiser.zero_grad()
        list(pool.map(share, range(SHARES)))
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        torch._foreach_lerp_(average, [weight.detach() for weight in weights], 0.001)

    return step


def alternately(steps: dict[str, Step], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds on the clock and of the processor of each step, in each of so many rounds; four before do not count."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(-4, rounds):
        for name, step in steps.items():
            wall, processor = time.perf_counter(), time.process_time()
            step(number)
            if number >= 0:
                times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def told(samples: list[tuple[float, float]]) -> dict[str, float]:
    walls, processors = zip(*samples, strict=True)
    return {
        "crops_per_second": round(BATCH / statistics.median(walls), 2),
        "crops_per_second_best": round(BATCH / min(walls), 2),
        "processor_seconds": round(statistics.median(processors), 4),
        "processor_seconds_best": round(min(processors), 4),
    }


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = lines[0] if lines else model
    return {"processor": model, "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
