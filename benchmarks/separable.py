"""Time separable convolution on this machine's CPU, compared with a loop over the taps in torch.

    python benchmarks/separable.py [--threads 2] [--rounds 5] [--out FILE] [--against REV]

Times are for one frame of 1280x720 with three channels, T = 51, float32: the loop over the taps, then forward and
gradients of each backend, then Halide's forward with other types, sizes and composite dilation. In each round, every
job runs twice in succession, because virtual machines reclaim memory that was free for a second or two. The shortest
time of all rounds is kept, as wall time and as processor time. On a machine with other load only the processor time
means something, and only with `--threads 1`, because idle torch threads spin.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import common
import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.ops import TapPattern, separable_convolution
from midframe.ops.separable import halide, pytorch

HEIGHT, WIDTH, CHANNELS, TAPS = 720, 1280, 3, 51

"""Size of the frame, its channels, and the number of taps of the dense kernels."""

Jobs = dict[str, Callable[[], Any]]
"""Functions that are timed, by name."""


def main() -> None:
    """Measure everything and write the result file."""
    parser = common.parser(__doc__, "separable")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch and Halide")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all jobs; the shortest time counts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    measured_on = common.machine()
    compile_seconds = measure_compile_times()
    wall, processor = measure(frame_jobs(), options.rounds)
    about = (
        "separable convolution on the CPU compared with a loop over the taps: milliseconds for one frame of 1280x720"
    )
    common.write_result(options, about, figures(options, compile_seconds, wall, processor), measured_on)


def measure(jobs: Jobs, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the shortest wall time and processor time of each job in milliseconds."""
    wall, processor = (dict.fromkeys(jobs, float("inf")) for _ in range(2))
    for _ in range(rounds):
        for name, job in chain.from_iterable(repeat(item, 2) for item in jobs.items()):
            start, start_processor = time.perf_counter(), time.process_time()
            job()
            processor[name] = min(processor[name], (time.process_time() - start_processor) * 1e3)
            wall[name] = min(wall[name], (time.perf_counter() - start) * 1e3)
    return wall, processor


def figures(
    options: argparse.Namespace,
    compile_seconds: dict[str, float],
    wall: dict[str, float],
    processor: dict[str, float],
) -> dict[str, Any]:
    """Return the figures of the result file."""
    operations = 2 * (TAPS**2 + TAPS) * CHANNELS * HEIGHT * WIDTH
    return {
        "frame": {"height": HEIGHT, "width": WIDTH, "channels": CHANNELS, "taps": TAPS},
        "halide_target": halide_target(),
        "threads": options.threads,
        "rounds": options.rounds,
        "milliseconds": {name: round(value, 2) for name, value in wall.items()},
        "processor_milliseconds": {name: round(value, 2) for name, value in processor.items()},
        "compile_seconds": compile_seconds,
        "ratios": ratios(wall),
        "processor_ratios": ratios(processor),
        "halide_forward_gflops": round(operations / wall["halide, forward"] / 1e6, 1),
    }


def ratios(milliseconds: dict[str, float]) -> dict[str, float]:
    """Return the ratios of the times that docs/operator.md states."""
    loop, forward = milliseconds["per-tap loop, forward"], milliseconds["halide, forward"]
    return {
        "per-tap loop / halide forward": round(loop / forward, 2),
        "halide kernel gradients / halide forward": round(milliseconds["halide, both kernel gradients"] / forward, 2),
        "per-tap loop / torch forward": round(loop / milliseconds["torch, forward"], 2),
    }


def frame_jobs() -> Jobs:
    """Return the calls to time, by name."""
    image, vertical, horizontal = random_inputs(TAPS)
    grad, grad_sum = torch.randn_like(image), torch.zeros(1, 1, HEIGHT, WIDTH)
    dense, composite = TapPattern.dense(TAPS), TapPattern.composite(11, 10)
    bfloat16 = vertical.bfloat16(), horizontal.bfloat16()
    channels_last = [t.contiguous(memory_format=torch.channels_last) for t in (vertical, horizontal)]
    jobs: Jobs = {"per-tap loop, forward": lambda: convolve_tap_by_tap(image, vertical, horizontal)}
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
    single_tap = torch.ones(1, 1, 1, 1).expand(1, 1, HEIGHT, WIDTH)
    jobs["auto, one tap, expanded"] = lambda: separable_convolution(image, single_tap, single_tap)
    return jobs


def random_inputs(taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a random image and kernel maps."""
    maps_shape = (1, taps, HEIGHT, WIDTH)
    return torch.rand(1, CHANNELS, HEIGHT, WIDTH), torch.randn(maps_shape), torch.randn(maps_shape)


def convolve_tap_by_tap(image: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Convolve as the definition does, but in place: for each row of taps the sum over its taps."""
    taps = vertical.shape[1]
    padded = F.pad(image, [taps // 2] * 4)
    out = torch.zeros_like(image)
    for i in range(taps):
        row = torch.zeros_like(image)
        for j in range(taps):
            row += padded[:, :, i : i + HEIGHT, j : j + WIDTH] * horizontal[:, j : j + 1]
        out += row * vertical[:, i : i + 1]
    return out


def halide_target() -> str:
    """Return the processor features for which Halide compiles."""
    import halide as hl

    return str(hl.get_host_target())


def measure_compile_times() -> dict[str, float]:
    """Return the seconds that the first call of each pipeline takes on a tiny image with an empty cache."""
    tensors = [torch.randn(1, n, 8, 20) for n in (3, 5, 5, 3, 1)]
    image, vertical, horizontal, grad, grad_sum = tensors
    dense = TapPattern.dense(5)
    calls: Jobs = {
        "forward": lambda: halide.forward(image, vertical, horizontal, dense, False),
        "kernel gradients": lambda: halide.gradient_kernels(grad, grad_sum, image, vertical, horizontal, dense, False),
        "image gradient": lambda: halide.gradient_image(grad, vertical, horizontal, dense, False),
    }
    seconds = {}
    previous = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = round(time.perf_counter() - start, 2)
    os.environ.pop("XDG_CACHE_HOME")
    if previous is not None:
        os.environ["XDG_CACHE_HOME"] = previous
    return seconds


if __name__ == "__main__":
    main()
