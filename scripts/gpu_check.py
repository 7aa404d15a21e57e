"""Check Midframe on a machine with a GPU: Triton kernels against the reference, and what everything costs there.

    python scripts/gpu_check.py [--out gpu-check.json] [--minutes 8]     on a machine with CUDA, torch and triton
    python scripts/gpu_check.py --dry-run                                anywhere: interpreted kernels, tiny pictures

Needs no network and no installation: the package is taken from the `src` beside this folder. Writes one JSON object:
`machine`, `checks` (each with its errors relative to the norm, and whether they are allowed), `operator_ms`,
`network_ms`, `shader_ms`, `failures`. What fails is recorded and the rest goes on; the exit code is 1 if anything did.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
TINY = {"tiny": (16, 20)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"))
    parser.add_argument("--minutes", type=float, default=8.0, help="no new measurement starts after this time")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes, on the CPU if there is no GPU")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    import torch

    gpu = torch.cuda.is_available()
    if not gpu:
        if not arguments.dry_run:
            print("no CUDA device found; --dry-run runs tiny shapes on the CPU", file=sys.stderr)
            return 5
        os.environ["TRITON_INTERPRET"] = "1"  # read by Triton when its kernels are defined
    run = Run("cuda" if gpu else "cpu", arguments.dry_run, time.monotonic() + 60 * arguments.minutes)
    for name, part in (
        ("machine", machine),
        ("checks", checks),
        ("compiled_fullgraph", compiled),
        ("operator_ms", operator_times),
        ("network_ms", network_times),
        ("shader_ms", shader_times),
    ):
        run.result[name] = run.guarded(name, lambda part=part: part(run))
        arguments.out.write_text(json.dumps({**run.result, "failures": run.failures}, indent=1) + "\n")
    print(arguments.out.read_text(), end="")
    return 1 if run.failures else 0


class Run:
    """What all parts share: the device, the time left, the results so far."""

    def __init__(self, device: str, tiny: bool, deadline: float) -> None:
        self.device, self.tiny, self.deadline = device, tiny, deadline
        self.result: dict[str, Any] = {}
        self.failures: list[str] = []

    def guarded(self, name: str, work: Callable[[], Any]) -> Any:
        """Do the work; an error becomes a failure and an answer of one line."""
        if time.monotonic() > self.deadline:
            self.failures.append(f"{name}: not started, the time was over")
            return None
        try:
            return work()
        except Exception as error:  # a failed part must not cost the other parts their turn
            line = f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
            self.failures.append(line)
            return line

    def milliseconds(self, work: Callable[[], Any]) -> dict[str, float]:
        """Median and best of some calls after two that warm up, and the most memory taken in MB (GPU only)."""
        import torch

        spent: list[float] = []
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        for k in range(3 if self.tiny else 12):
            start = time.perf_counter()
            work()
            if self.device == "cuda":
                torch.cuda.synchronize()
            if k >= 2:
                spent.append((time.perf_counter() - start) * 1e3)
        answer = {"median": round(statistics.median(spent), 3), "best": round(min(spent), 3)}
        if self.device == "cuda":
            answer["peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        return answer


def machine(run: Run) -> dict[str, Any]:
    import torch
    import triton

    answer = {"torch": torch.__version__, "triton": triton.__version__, "python": sys.version.split()[0]}
    if run.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        capability = f"{properties.major}.{properties.minor}"
        answer |= {"gpu": properties.name, "capability": capability, "cuda": str(torch.version.cuda)}
    return {**answer, "device": run.device, "dry_run": run.tiny}


def cases(run: Run) -> Iterator[tuple[Any, str, tuple[int, int, int, int], str]]:
    """Tap pattern, border, shape of the picture, type."""
    from midframe.ops.taps import Reading, TapPattern

    if run.tiny:
        yield TapPattern.dense(3), "zero", (1, 2, 3, 9), "float32"
        yield TapPattern.composite(1, 2), "replicate", (1, 1, 2, 7), "bfloat16"
        return
    for border in ("zero", "replicate"):
        for pattern in (TapPattern.dense(size) for size in (1, 3, 5, 9)):
            for shape in ((1, 1, 1, 1), (2, 3, 16, 16), (3, 4, 70, 67), (1, 3, 33, 301)):
                yield pattern, border, shape, "float32"
            yield pattern, border, (2, 3, 61, 130), "bfloat16"
            yield pattern, border, (2, 3, 61, 130), "float16"
        # Fewer of these: a kernel of many taps takes seconds to compile, and anew for each type and number of channels.
        for pattern in (TapPattern.dense(51), *(TapPattern.composite(11, 10, r) for r in get_args(Reading))):
            yield pattern, border, (2, 3, 70, 67), "float32"
        yield TapPattern.dense(51), border, (2, 3, 70, 67), "bfloat16"


def checks(run: Run) -> list[dict[str, Any]]:
    """Output, weight sum and all gradients of the Triton kernels, each against the reference in float64."""
    answers = []
    for taps, border, shape, kind in cases(run):
        name = f"T={taps.size} {'dense' if taps.is_dense else taps.variant} {border} {list(shape)} {kind}"
        errors = run.guarded(name, lambda t=taps, b=border, s=shape, k=kind: errors_of(run, t, b, s, k))
        good = isinstance(errors, dict) and all(error < TOLERANCE[kind] for error in errors.values())
        if isinstance(errors, dict) and not good:
            run.failures.append(f"{name}: {errors}")
        answers.append({"case": name, "errors": errors, "allowed": TOLERANCE[kind], "good": good})
    return answers


def errors_of(run: Run, taps: Any, border: str, shape: tuple[int, ...], kind: str) -> dict[str, float]:
    import torch

    from midframe.ops import separable_convolution

    torch.manual_seed(0)
    kernels = (shape[0], taps.size, *shape[2:])
    dtype = getattr(torch, kind)
    tensors = [torch.randn(size, device=run.device).to(dtype) for size in (shape, kernels, kernels)]
    pull = torch.randn(shape, device=run.device, dtype=torch.float64)
    results = []
    for backend in ("reference", "triton"):
        leaves = [t.to(torch.float64 if backend == "reference" else dtype).requires_grad_() for t in tensors]
        out, weights = separable_convolution(*leaves, taps=taps, border=border, return_weights=True, backend=backend)
        loss = (out.double() * pull).sum() + weights.double().square().sum()
        results.append((out, weights, *torch.autograd.grad(loss, leaves)))
    names = ("output", "weight_sum", "gradient_image", "gradient_vertical", "gradient_horizontal")
    return {
        name: float(((got.double() - expected).norm() / expected.norm().clamp(min=1e-12)).detach())
        for name, expected, got in zip(names, *results, strict=True)
    }


def compiled(run: Run) -> dict[str, Any]:
    """Whether the operator goes through `torch.compile(fullgraph=True)` on the GPU with the same answer."""
    import torch

    from midframe.ops import separable_convolution

    if run.device != "cuda":
        return {"skipped": "the operator's tests do it on the CPU"}
    image, vertical, horizontal = operator_inputs(run, 5, (180, 320), torch.float32)

    def doubled(*tensors: Any) -> Any:
        return 2 * separable_convolution(*tensors, backend="triton")

    expected = doubled(image, vertical, horizontal)
    got = torch.compile(doubled, fullgraph=True)(image, vertical, horizontal)
    return {"error": float((got - expected).norm() / expected.norm())}


def operator_inputs(run: Run, taps: int, size: tuple[int, int], kind: Any) -> list[Any]:
    import torch

    generator = torch.Generator(run.device).manual_seed(1)
    image = torch.rand(1, 3, *size, device=run.device, generator=generator)
    kernels = [torch.randn(1, taps, *size, device=run.device, generator=generator).to(kind) / taps for _ in range(2)]
    return [image, *kernels]


def separable_loop(image: Any, vertical: Any, horizontal: Any) -> Any:
    """What everybody writes first: for each row of taps the sum of shifted pictures, then times the vertical kernel."""
    import torch.nn.functional as F

    taps, (height, width) = vertical.shape[1], image.shape[2:]
    padded = F.pad(image, (taps // 2,) * 4)
    out = image.new_zeros(image.shape)
    for i in range(taps):
        row = image.new_zeros(image.shape)
        for j in range(taps):
            row.addcmul_(padded[:, :, i : i + height, j : j + width], horizontal[:, j : j + 1].to(image.dtype))
        out.addcmul_(row, vertical[:, i : i + 1].to(image.dtype))
    return out


def operator_times(run: Run) -> dict[str, Any]:
    """Forward and both gradients of each backend; the useful GFLOP/s of the forward; the loop for comparison."""
    import torch

    from midframe.ops.separable import pytorch, triton
    from midframe.ops.taps import TapPattern

    answers: dict[str, Any] = {}
    for place, size in ({"tiny": (1, 20)} if run.tiny else SIZES).items():
        for taps in (3,) if run.tiny else (51, 5):
            pattern = TapPattern.dense(taps)
            for kind in (torch.float32,) if run.tiny else (torch.float32, torch.bfloat16):
                image, vertical, horizontal = inputs = operator_inputs(run, taps, size, kind)
                weights = torch.zeros(1, 1, *size, device=run.device)
                jobs: dict[str, Callable[[], Any]] = {}
                for name, backend in (("triton", triton), ("torch", pytorch)):
                    jobs |= {
                        f"{name} forward": lambda b=backend, x=inputs, p=pattern: b.forward(*x, p, False),
                        f"{name} gradient_kernels": lambda b=backend, x=inputs, w=weights, p=pattern: (
                            b.gradient_kernels(x[0], w, *x, p, False)
                        ),
                        f"{name} gradient_image": lambda b=backend, x=inputs, p=pattern: b.gradient_image(*x, p, False),
                    }
                jobs["loop forward"] = lambda x=inputs: separable_loop(*x)
                for job, work in jobs.items():
                    name = f"{place} T={taps} {str(kind).removeprefix('torch.')} kernels, {job}"
                    answer = run.guarded(name, lambda w=work: run.milliseconds(w))
                    if isinstance(answer, dict) and job.endswith("forward"):
                        flops = 2 * size[0] * size[1] * (taps**2 * 3 + taps * 3)
                        answer["gflop_per_s"] = round(flops / answer["best"] / 1e6, 1)
                    answers[name] = answer
                del image, vertical, horizontal, inputs, jobs
    return answers


def network_times(run: Run) -> dict[str, Any]:
    """One frame by each network, on the device, in each precision that it has; untrained it must be the mean."""
    import torch

    from midframe.networks import NETWORKS, class_of

    answers: dict[str, Any] = {}
    time_of = torch.tensor([0.5], device=run.device)
    for name in NETWORKS:
        network = class_of(name)().eval().to(run.device)
        for precision in ("float32", "bfloat16") if hasattr(network, "precision") else ("float32",):
            if hasattr(network, "precision"):
                network.precision = precision
            for place, size in (TINY if run.tiny else SIZES).items():
                first, second = torch.rand(2, 1, 3, *size, device=run.device)

                def make(network: Any = network, pair: Any = (first, second)) -> Any:
                    with torch.no_grad():
                        return network(*pair, time_of)

                case = f"{name} {precision} {place}"
                answers[case] = run.guarded(case, lambda make=make: run.milliseconds(make))
                worst = float((make() - (first + second) / 2).abs().max()) if isinstance(answers[case], dict) else None
                allowed = 1e-5 if precision == "float32" else 2e-2
                if worst is not None:
                    answers[case]["largest_distance_from_mean"] = worst
                    if not worst < allowed:
                        run.failures.append(f"{case}: untrained it is {worst} off the mean, {allowed} allowed")
    return answers


def shader_times(run: Run) -> dict[str, Any]:
    import torch

    from midframe.shader import apply, blend_map

    answers = {}
    for place, size in (TINY if run.tiny else SIZES).items():
        made, first, second = torch.rand(3, 1, 3, *size, device=run.device)
        blend = blend_map(first, second)
        answers[f"{place} blend_map"] = run.milliseconds(lambda a=first, b=second: blend_map(a, b))
        answers[f"{place} apply"] = run.milliseconds(lambda x=(made, first, second, 0.5, blend): apply(*x))
    return answers


if __name__ == "__main__":
    sys.exit(main())
