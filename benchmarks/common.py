"""Shared parts of the benchmarks: facts about the machine, timing, the result file, and comparison with a revision.

Every result file is one JSON object of schema `midframe.result/1`:

    {"schema": "midframe.result/1", "benchmark": NAME, "about": TEXT, "command": TEXT, "date": TEXT, "revision": TEXT,
     "machine": {"processor", "instructions", "cores", "memory_gb", "system", "load_before"},
     "versions": {"python", "torch", ...}, "figures": {...}, "against": {"revision", "figures"} (with --against)}
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
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Instruction sets that decide how fast the operators can be."""


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return an argument parser with the options that all benchmarks have: `--out` and `--against`.

    name: of the result file, `benchmarks/results/NAME.json` by default.
    """
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="result file (JSON)")
    options.add_argument("--against", metavar="REV", help="measure this git revision too, in the same run")
    return options


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, instruction sets, cores, memory, system and the current load."""
    info = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").is_file() else ""
    lines = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    values = {key.strip(): value.strip() for key, value in lines.items()}
    flags = values.get("flags", values.get("Features", "")).split()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "processor": values.get("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": cores(),
        "memory_gb": round(pages / 2**30, 1),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that do the work, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def best_of(run: Callable[[], object], rounds: int = 5, warm_up: int = 1) -> float:
    """Return the shortest wall time of `run` in seconds over several rounds, after calls that are not timed.

    Other work on the machine can only lengthen a run, so the shortest one is the most repeatable figure.
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

    about: what the figures are, with units. measured_on: `machine()` as it was before measuring (default: now).
    """
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "benchmark": Path(sys.argv[0]).stem,
        "about": about,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_public(sys.argv[1:])]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "machine": dict(measured_on or machine()),
        "versions": versions(),
        "figures": figures,
    }
    if options.against:
        result["against"] = {"revision": revision(options.against), "figures": _figures_of(options.against)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"written: {options.out}")


def read_figures(name: str) -> dict[str, Any]:
    """Return the figures of a stored result by its name, for plots and tables."""
    stored: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    figures: dict[str, Any] = stored["figures"]
    return figures


def revision(name: str = "HEAD") -> str:
    """Return the short hash of a git revision, with `+` if it is HEAD and tracked files were changed since."""
    short = _git("rev-parse", "--short", name)
    changed = name == "HEAD" and _git("status", "--porcelain", "--untracked-files=no")
    return f"{short}+" if changed else short


@contextmanager
def sources_of(name: str) -> Iterator[Path]:
    """Check out a git revision into a temporary folder and yield its `src`, for use as PYTHONPATH."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "revision"
        _git("worktree", "add", "--detach", str(place), name)
        try:
            yield place / "src"
        finally:
            _git("worktree", "remove", "--force", str(place))


def _figures_of(name: str) -> Any:
    """Run the calling benchmark, as it is now, with the package of another revision; return its figures."""
    arguments = [part for part in sys.argv[1:] if not part.startswith("--against=")]
    if "--against" in arguments:
        place = arguments.index("--against")
        del arguments[place : place + 2]
    with sources_of(name) as sources, tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, sys.argv[0], *arguments, "--out", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(sources)})
        return json.loads(out.read_text("utf-8"))["figures"]


def _public(arguments: list[str]) -> list[str]:
    """Shorten paths outside of the repository to their last part, so that no result names folders of one machine."""
    shown = []
    for part in arguments:
        path = Path(part)
        inside = path.is_absolute() and path.is_relative_to(ROOT)
        shown.append(str(path.relative_to(ROOT)) if inside else path.name if path.is_absolute() else part)
    return shown


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
