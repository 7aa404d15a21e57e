"""Check Midframe on a machine with a GPU: Triton kernels against the reference; times of operator, networks, shader.

    python scripts/gpu_check.py [--out gpu-check.json] [--minutes 8]     on a machine with CUDA, torch and triton
    python scripts/gpu_check.py --dry-run                                anywhere: interpreted kernels, tiny frames

Needs no network and no installation: the package is imported from `src` beside this folder. Writes one JSON object with
`machine`, `checks` (each with its errors relative to the norm and the tolerance), `compiled_fullgraph`, `operator_ms`,
`network_ms`, `shader_ms` and `failures`. A failure is recorded and the remaining parts run; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
"""Largest error relative to the norm, by the type of the inputs."""
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
"""Height and width of the frames."""
TINY_SIZES = {"tiny": (16, 20)}
"""Height and width of the frames of a dry run."""
WARM_UP_CALLS = 2
"""Calls before those that are timed."""


def main() -> int:
    """Run all parts, write the results after each one, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"))
    parser.add_argument("--minutes", type=float, default=8.0, help="no new measurement starts after this time")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes, on the CPU if there is no GPU")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    import torch

    has_gpu = torch.cuda.is_available()
    if not has_gpu:
        if not options.dry_run:
            print("no CUDA device found; --dry-run runs tiny shapes on the CPU", file=sys.stderr)
            return 5
        os.environ["TRITON_INTERPRET"] = "1"  # read by Triton when its kernels are defined
    session = Session("cuda" if has_gpu else "cpu", options.dry_run, time.monotonic() + 60 * options.minutes)
    for name, part in (
        ("machine", describe_machine),
        ("checks", check_kernels),
        ("compiled_fullgraph", check_compiled),
        ("operator_ms", time_operator),
        ("network_ms", time_networks),
        ("shader_ms", time_shader),
    ):
        session.result[name] = session.attempt(name, lambda part=part: part(session))
        options.out.write_text(json.dumps({**session.result, "failures": session.failures}, indent=1) + "\n")
    print(options.out.read_text(), end="")
    return 1 if session.failures else 0


class Session:
    """The device, the time limit, and the results and failures so far."""

    def __init__(self, device: str, tiny: bool, deadline: float) -> None:
        self.device, self.tiny, self.deadline = device, tiny, deadline
        self.result: dict[str, Any] = {}
        self.failures: list[str] = []

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of the frames, by name."""
        return TINY_SIZES if self.tiny else SIZES

    def attempt(self, name: str, function: Callable[[], Any]) -> Any:
        """Call a function unless the time is over. Record an error as a failure and return it as one line."""
        if time.monotonic() > self.deadline:
            self.failures.append(f"{name}: not started, the time was over")
            return None
        try:
            return function()
        except Exception as error:  # the remaining parts must run all the same
            line = f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
            self.failures.append(line)
            return line

    def milliseconds(self, function: Callable[[], Any]) -> dict[str, float]:
        """Return the median and the best time of several calls, and their peak memory in MB on a GPU."""
        import torch

        times: list[float] = []
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        for call in range(WARM_UP_CALLS + (1 if self.tiny else 10)):
            start = time.perf_counter()
            function()
            if self.device == "cuda":
                torch.cuda.synchronize()
            if call >= WARM_UP_CALLS:
                times.append((time.perf_counter() - start) * 1e3)
        result = {"median": round(statistics.median(times), 3), "best": round(min(times), 3)}
        if self.device == "cuda":
            result["peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        return result


def describe_machine(session: Session) -> dict[str, Any]:
    """Return versions and the GPU."""
    import torch
    import triton

    machine = {"torch": torch.__version__, "triton": triton.__version__, "python": sys.version.split()[0]}
    if session.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        capability = f"{properties.major}.{properties.minor}"
        machine |= {"gpu": properties.name, "capability": capability, "cuda": str(torch.version.cuda)}
    return {**machine, "device": session.device, "dry_run": session.tiny}


@dataclass(frozen=True)
class Case:
    """Arguments of the operator in one check."""

    taps: Any
    """Tap pattern."""
    border: str
    """Border rule: `zero` or `replicate`."""
    shape: tuple[int, int, int, int]
    """Shape of the image, `[B, C, H, W]`."""
    dtype: str
    """Type of image and kernels."""

    @property
    def name(self) -> str:
        """A description for the report."""
        pattern = "dense" if self.taps.is_dense else self.taps.variant
        return f"T={self.taps.size} {pattern} {self.border} {list(self.shape)} {self.dtype}"


def kernel_cases(session: Session) -> Iterator[Case]:
    """Yield the arguments with which the Triton kernels are checked."""
    from midframe.ops.taps import TapPattern, Variant

    if session.tiny:
        yield Case(TapPattern.dense(3), "zero", (1, 2, 3, 9), "float32")
        yield Case(TapPattern.composite(1, 2), "replicate", (1, 1, 2, 7), "bfloat16")
        return
    for border in ("zero", "replicate"):
        for taps in (TapPattern.dense(size) for size in (1, 3, 5, 9)):
            for shape in ((1, 1, 1, 1), (2, 3, 16, 16), (3, 4, 70, 67), (1, 3, 33, 301)):
                yield Case(taps, border, shape, "float32")
            yield Case(taps, border, (2, 3, 61, 130), "bfloat16")
            yield Case(taps, border, (2, 3, 61, 130), "float16")
        # Fewer cases with many taps: each type and number of channels takes seconds to compile.
        composite = (TapPattern.composite(11, 10, variant) for variant in get_args(Variant))
        for taps in (TapPattern.dense(51), *composite):
            yield Case(taps, border, (2, 3, 70, 67), "float32")
        yield Case(TapPattern.dense(51), border, (2, 3, 70, 67), "bfloat16")


def check_kernels(session: Session) -> list[dict[str, Any]]:
    """Compare output, weight sum and all gradients of the Triton kernels with the reference in float64."""
    results = []
    for case in kernel_cases(session):
        tolerance = TOLERANCE[case.dtype]
        errors = session.attempt(case.name, lambda case=case: relative_errors(session, case))
        passed = isinstance(errors, dict) and all(error < tolerance for error in errors.values())
        if isinstance(errors, dict) and not passed:
            session.failures.append(f"{case.name}: {errors}")
        results.append({"case": case.name, "errors": errors, "tolerance": tolerance, "passed": passed})
    return results


def relative_errors(session: Session, case: Case) -> dict[str, float]:
    """Return the error of each result of the Triton kernels relative to the norm of the reference's."""
    import torch

    from midframe.ops import separable_convolution

    torch.manual_seed(0)
    kernel_shape = (case.shape[0], case.taps.size, *case.shape[2:])
    dtype = getattr(torch, case.dtype)
    tensors = [
        torch.randn(shape, device=session.device).to(dtype) for shape in (case.shape, kernel_shape, kernel_shape)
    ]
    output_gradient = torch.randn(case.shape, device=session.device, dtype=torch.float64)
    results = []
    for backend in ("reference", "triton"):
        used_dtype = torch.float64 if backend == "reference" else dtype
        inputs = [tensor.to(used_dtype).requires_grad_() for tensor in tensors]
        output, weight_sum = separable_convolution(
            *inputs, taps=case.taps, border=case.border, return_weights=True, backend=backend
        )
        loss = (output.double() * output_gradient).sum() + weight_sum.double().square().sum()
        results.append((output, weight_sum, *torch.autograd.grad(loss, inputs)))
    names = ("output", "weight_sum", "gradient_image", "gradient_vertical", "gradient_horizontal")
    return {
        name: float(((found.double() - expected).norm() / expected.norm().clamp(min=1e-12)).detach())
        for name, expected, found in zip(names, *results, strict=True)
    }


def check_compiled(session: Session) -> dict[str, Any]:
    """Return the relative error of the operator under `torch.compile(fullgraph=True)` on the GPU."""
    import torch

    from midframe.ops import separable_convolution

    if session.device != "cuda":
        return {"skipped": "the operator's tests do it on the CPU"}
    inputs = operator_inputs(session, 5, (180, 320), torch.float32)

    def doubled(*tensors: Any) -> Any:
        return 2 * separable_convolution(*tensors, backend="triton")

    expected = doubled(*inputs)
    found = torch.compile(doubled, fullgraph=True)(*inputs)
    return {"error": float((found - expected).norm() / expected.norm())}


def operator_inputs(session: Session, taps: int, size: tuple[int, int], dtype: Any) -> list[Any]:
    """Return a random image and vertical and horizontal kernels of this type."""
    import torch

    generator = torch.Generator(session.device).manual_seed(1)
    image = torch.rand(1, 3, *size, device=session.device, generator=generator)
    kernels = [
        torch.randn(1, taps, *size, device=session.device, generator=generator).to(dtype) / taps for _ in range(2)
    ]
    return [image, *kernels]


def convolve_with_loops(image: Any, vertical: Any, horizontal: Any) -> Any:
    """Compute the operator by a loop over all taps with PyTorch, the simplest implementation, for comparison."""
    import torch.nn.functional as F

    taps, (height, width) = vertical.shape[1], image.shape[2:]
    padded = F.pad(image, (taps // 2,) * 4)
    output = image.new_zeros(image.shape)
    for i in range(taps):
        row_sum = image.new_zeros(image.shape)
        for j in range(taps):
            row_sum.addcmul_(padded[:, :, i : i + height, j : j + width], horizontal[:, j : j + 1].to(image.dtype))
        output.addcmul_(row_sum, vertical[:, i : i + 1].to(image.dtype))
    return output


def time_operator(session: Session) -> dict[str, Any]:
    """Return the times of forward and gradients of each backend, and of the loop, by size, taps and kernel type."""
    import torch

    results: dict[str, Any] = {}
    for size_name, size in ({"tiny": (1, 20)} if session.tiny else SIZES).items():
        for taps in (3,) if session.tiny else (51, 5):
            for dtype in (torch.float32,) if session.tiny else (torch.float32, torch.bfloat16):
                functions = operator_functions(session, taps, size, dtype)
                for function_name, function in functions.items():
                    name = f"{size_name} T={taps} {str(dtype).removeprefix('torch.')} kernels, {function_name}"
                    result = session.attempt(name, lambda function=function: session.milliseconds(function))
                    if isinstance(result, dict) and function_name.endswith("forward"):
                        operations = 2 * size[0] * size[1] * (taps**2 * 3 + taps * 3)
                        result["gflop_per_s"] = round(operations / result["best"] / 1e6, 1)
                    results[name] = result
    return results


def operator_functions(session: Session, taps: int, size: tuple[int, int], dtype: Any) -> dict[str, Callable[[], Any]]:
    """Return functions of the operator, by name, for one size of image and kernels."""
    import torch

    from midframe.ops.separable import pytorch, triton
    from midframe.ops.taps import TapPattern

    pattern = TapPattern.dense(taps)
    inputs = operator_inputs(session, taps, size, dtype)
    image = inputs[0]
    weight_gradient = torch.zeros(1, 1, *size, device=session.device)
    functions: dict[str, Callable[[], Any]] = {"loop forward": lambda: convolve_with_loops(*inputs)}
    for name, backend in (("triton", triton), ("torch", pytorch)):
        functions |= {
            f"{name} forward": lambda backend=backend: backend.forward(*inputs, pattern, False),
            f"{name} gradient_kernels": lambda backend=backend: backend.gradient_kernels(
                image, weight_gradient, *inputs, pattern, False
            ),
            f"{name} gradient_image": lambda backend=backend: backend.gradient_image(*inputs, pattern, False),
        }
    return functions


def time_networks(session: Session) -> dict[str, Any]:
    """Return the times of one frame by each network in each of its precisions.

    An untrained network must return the mean of both frames; another result is a failure.
    """
    import torch

    from midframe.networks import NETWORKS, network_class

    results: dict[str, Any] = {}
    middle = torch.tensor([0.5], device=session.device)
    for name in NETWORKS:
        network = network_class(name)().eval().to(session.device)
        for precision in ("float32", "bfloat16") if hasattr(network, "precision") else ("float32",):
            if hasattr(network, "precision"):
                network.precision = precision
            for size_name, size in session.sizes.items():
                first, second = torch.rand(2, 1, 3, *size, device=session.device)

                @torch.no_grad()
                def predict(network: Any = network, first: Any = first, second: Any = second) -> Any:
                    return network(first, second, middle)

                case = f"{name} {precision} {size_name}"
                result = session.attempt(case, lambda predict=predict: session.milliseconds(predict))
                if isinstance(result, dict):
                    error = float((predict() - (first + second) / 2).abs().max())
                    tolerance = 1e-5 if precision == "float32" else 2e-2
                    result["largest_distance_from_mean"] = error
                    if not error < tolerance:
                        session.failures.append(f"{case}: untrained it is {error} off the mean, {tolerance} allowed")
                results[case] = result
    return results


def time_shader(session: Session) -> dict[str, Any]:
    """Return the times of both parts of the pixel shader."""
    import torch

    from midframe.shader import apply_shader, blend_map

    results = {}
    for size_name, size in session.sizes.items():
        predicted, first, second = torch.rand(3, 1, 3, *size, device=session.device)
        blend = blend_map(first, second)
        results[f"{size_name} blend_map"] = session.milliseconds(lambda a=first, b=second: blend_map(a, b))
        arguments = (predicted, first, second, 0.5, blend)
        results[f"{size_name} apply"] = session.milliseconds(lambda arguments=arguments: apply_shader(*arguments))
    return results


if __name__ == "__main__":
    sys.exit(main())
