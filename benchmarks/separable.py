"""Time separable convolution on this machine's CPU against the per-tap torch loop, in one run, and store the figures.

    python benchmarks/separable.py [--threads 2] [--rounds 5] [--out benchmarks/results/separable.json]

One frame of 1280x720, three channels, T = 51, float32: the loop (for each i the sum over j of the shifted picture times
the horizontal kernel, then times the vertical one), forward and gradients of each backend; then other types, sizes and
composite dilation. Everything is timed twice in a row in each round (virtual machines take back memory that lies free
for a second or two), and the best of all is kept: ratios are of one run. Time on the wall means something on an idle
machine only; processor time still does on a busy one, with `--threads 1`, as idle torch threads spin.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops import TapPattern, separable_convolution
from midframe.ops.separable import halide, pytorch

HEIGHT, WIDTH, CHANNELS, TAPS = 720, 1280, 3, 51


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "separable.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    compile_seconds = compile_times()
    jobs = jobs_of_one_frame()
    wall, processor = (dict.fromkeys(jobs, float("inf")) for _ in range(2))
    for _ in range(options.rounds):
        for name, job in chain.from_iterable(repeat(item, 2) for item in jobs.items()):
            start, start_processor = time.perf_counter(), time.process_time()
            job()
            processor[name] = min(processor[name], (time.process_time() - start_processor) * 1e3)
            wall[name] = min(wall[name], (time.perf_counter() - start) * 1e3)

    arithmetic = 2 * (TAPS**2 + TAPS) * CHANNELS * HEIGHT * WIDTH
    result = {
        "schema": "midframe.benchmark.separable/1",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine() | {"threads": options.threads},
        "versions": {"torch": torch.__version__, "halide": version("halide"), "python": platform.python_version()},
        "frame": {"height": HEIGHT, "width": WIDTH, "channels": CHANNELS, "taps": TAPS, "rounds": options.rounds},
        "load_average_at_end": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "milliseconds": {name: round(value, 2) for name, value in wall.items()},
        "processor_milliseconds": {name: round(value, 2) for name, value in processor.items()},
        "compile_seconds": compile_seconds,
        "ratios": ratios(wall),
        "processor_ratios": ratios(processor),
        "halide_forward_gflops": round(arithmetic / wall["halide, forward"] / 1e6, 1),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def ratios(milliseconds: dict[str, float]) -> dict[str, float]:
    loop, forward = milliseconds["per-tap loop, forward"], milliseconds["halide, forward"]
    return {
        "per-tap loop / halide forward": round(loop / forward, 2),
        "halide kernel gradients / halide forward": round(milliseconds["halide, both kernel gradients"] / forward, 2),
        "per-tap loop / torch forward": round(loop / milliseconds["torch, forward"], 2),
    }


def jobs_of_one_frame() -> dict[str, Callable[[], Any]]:
    image, vertical, horizontal = inputs(TAPS)
    grad, grad_sum = torch.randn_like(image), torch.zeros(1, 1, HEIGHT, WIDTH)
    dense, composite = TapPattern.dense(TAPS), TapPattern.composite(11, 10)
    bfloat16 = vertical.bfloat16(), horizontal.bfloat16()
    channels_last = [t.contiguous(memory_format=torch.channels_last) for t in (vertical, horizontal)]
    jobs: dict[str, Callable[[], Any]] = {"per-tap loop, forward": lambda: per_tap_loop(image, vertical, horizontal)}
    for name, backend in (("halide", halide), ("torch", pytorch)):
        jobs |= {
            f"{name}, forward": lambda b=backend: b.forward(image, vertical, horizontal, dense, False),
            f"{name}, both kernel gradients": lambda b=backend: b.gradient_kernels(
                grad, grad_sum, image, vertical, horizontal, dense, False
            ),
            f"{name}, image gradient": lambda b=backend: b.gradient_image(grad, vertical, horizontal, dense, False),
        }
    jobs["halide, forward, bfloat16 kernels"] = lambda: halide.forward(image, *bfloat16, dense, False)
    jobs["halide, forward, channels-last kernels"] = lambda: halide.forward(image, *channels_last, dense, False)
    for taps in (TapPattern.dense(5), TapPattern.dense(9), TapPattern.dense(21), composite):
        maps = vertical[:, : taps.size], horizontal[:, : taps.size]
        which = f"T = {taps.size}" if taps.is_dense else f"composite {taps.inner}/{taps.outer} (T = {taps.size})"
        jobs[f"halide, forward, {which}"] = lambda m=maps, t=taps: halide.forward(image, *m, t, False)
    delta = torch.ones(1, 1, 1, 1).expand(1, 1, HEIGHT, WIDTH)
    jobs["auto, one tap, expanded"] = lambda: separable_convolution(image, delta, delta)
    return jobs


def inputs(taps: int) -> tuple[Tensor, Tensor, Tensor]:
    maps = (1, taps, HEIGHT, WIDTH)
    return torch.rand(1, CHANNELS, HEIGHT, WIDTH), torch.randn(maps), torch.randn(maps)


def per_tap_loop(image: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    taps = vertical.shape[1]
    padded = F.pad(image, [taps // 2] * 4)
    out = torch.zeros_like(image)
    for i in range(taps):
        row = torch.zeros_like(image)
        for j in range(taps):
            row += padded[:, :, i : i + HEIGHT, j : j + WIDTH] * horizontal[:, j : j + 1]
        out += row * vertical[:, i : i + 1]
    return out


def compile_times() -> dict[str, float]:
    """Seconds that the first call of each pipeline takes with nothing kept, on a tiny picture."""
    tensors = [torch.randn(1, n, 8, 20) for n in (3, 5, 5, 3, 1)]
    image, vertical, horizontal, grad, grad_sum = tensors
    dense = TapPattern.dense(5)
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: halide.forward(image, vertical, horizontal, dense, False),
        "kernel gradients": lambda: halide.gradient_kernels(grad, grad_sum, image, vertical, horizontal, dense, False),
        "image gradient": lambda: halide.gradient_image(grad, vertical, horizontal, dense, False),
    }
    seconds = {}
    kept = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = round(time.perf_counter() - start, 2)
    os.environ.pop("XDG_CACHE_HOME")
    if kept is not None:
        os.environ["XDG_CACHE_HOME"] = kept
    return seconds


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = lines[0] if lines else model
    import halide as hl

    return {"processor": model, "cores": os.cpu_count(), "halide_target": str(hl.get_host_target())}


if __name__ == "__main__":
    main()
