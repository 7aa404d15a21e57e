"""Write the result files of benchmarks and measuring scripts, all in one schema, and compare with a git revision.

Every file `benchmarks/results/*.json` is one JSON object with these keys (schema `midframe.result/1`):

- `schema`, `benchmark`: the schema's name and the name of the benchmark, which is also the name of the file.
- `about`: what the figures are, with units.
- `command`, `date`, `revision`: the command line, the time in UTC and the git revision, with `+` for changed files.
- `machine`: processor, instruction sets, cores, memory in GiB, system, and the load average before measuring.
- `versions`: of Python and of the packages that do the work; null for a package that is not installed.
- `figures`: the measurements, different for each benchmark.
- `against`: with `--against REV` only, the revision and its figures.

A value that an older result did not record is null.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
SCHEMA = "midframe.result/1"
PACKAGES = ("torch", "halide", "av", "numpy", "opencv-python-headless")
"""Packages whose versions are recorded."""
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Instruction sets on which the speed of the operators depends, as Linux names them."""


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return an argument parser with the options that all benchmarks have: `--out` and `--against`.

    name: the benchmark's name. `--out` is `benchmarks/results/NAME.json` by default.
    """
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="result file (JSON)")
    options.add_argument("--against", metavar="REV", help="measure this git revision too, in the same run")
    options.set_defaults(benchmark=name)
    return options


def machine() -> dict[str, Any]:
    """Return the processor, its instruction sets, cores, memory, the operating system and the load average.

    Call it before measuring: `load_before` is the load average of the last minute.
    """
    info = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").is_file() else ""
    lines = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    values = {key.strip(): value.strip() for key, value in lines.items()}
    flags = values.get("flags", values.get("Features", "")).split()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "processor": values.get("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": cores(),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of `PACKAGES`, None for a package that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def best_of(run: Callable[[], object], rounds: int = 5, warm_up: int = 1) -> float:
    """Return the shortest wall time of `run` in seconds over several rounds.

    warm_up: number of calls before the rounds, which are not timed. Other work on the machine can only lengthen a call,
    so the shortest time is the most repeatable figure.
    """
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def write_result(
    options: argparse.Namespace, about: str, figures: Mapping[str, Any], measured_on: Mapping[str, Any] | None = None
) -> None:
    """Write the result file that `options.out` names, and measure `options.against` too if it is given.

    options: parsed by `parser`. about: what the figures are, with units. measured_on: `machine()` as it was before
    measuring (default: now).
    """
    script = Path(sys.argv[0]).resolve().relative_to(ROOT).as_posix()
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "benchmark": options.benchmark,
        "about": about,
        "command": shlex.join(["python", script, *_shorten_paths(sys.argv[1:])]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "machine": measured_on or machine(),
        "versions": versions(),
        "figures": figures,
    }
    if options.against:
        result["against"] = {"revision": revision(options.against), "figures": _figures_of(options.against)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"written: {options.out}")


def revision(name: str = "HEAD") -> str:
    """Return the short hash of a git revision, with `+` if it is HEAD and tracked files were changed since."""
    short_hash = _git("rev-parse", "--short", name)
    is_changed = name == "HEAD" and _git("status", "--porcelain", "--untracked-files=no")
    return f"{short_hash}+" if is_changed else short_hash


@contextmanager
def sources_of(name: str) -> Iterator[Path]:
    """Check out a git revision into a temporary folder and yield its `src`, for use as PYTHONPATH."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "revision"
        _git("worktree", "add", "--detach", str(checkout), name)
        try:
            yield checkout / "src"
        finally:
            _git("worktree", "remove", "--force", str(checkout))


def _figures_of(name: str) -> Any:
    """Run the calling benchmark, as it is now, with the package of another revision, and return its figures."""
    arguments = [part for part in sys.argv[1:] if not part.startswith("--against=")]
    if "--against" in arguments:
        index = arguments.index("--against")
        del arguments[index : index + 2]
    with sources_of(name) as sources, tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, sys.argv[0], *arguments, "--out", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(sources)})
        return json.loads(out.read_text("utf-8"))["figures"]


def _shorten_paths(arguments: list[str]) -> list[str]:
    """Make absolute paths relative to the repository; outside of it, shorten them to their last part."""
    shortened = []
    for argument in arguments:
        path = Path(argument)
        if path.is_absolute():
            shortened.append(path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name)
        else:
            shortened.append(argument)
    return shortened


def _git(*arguments: str) -> str:
    """Run git in the repository and return its output without surrounding white space."""
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
