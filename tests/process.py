"""Running the real command, as a process of its own, with a stage of it patched where a test needs that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Command = Callable[..., SimpleNamespace]
"""`midframe ARGUMENTS` in the tests' own process: returncode, stdout, stderr."""

HERE = "HERE"
"""What a patch prints on standard error when its stage has been reached."""

DRIVER = """
import sys, time
def here():
    print("HERE", file=sys.stderr, flush=True)
{patch}
from midframe.cli import main
main()
"""


def command(*arguments: object, patch: str = "") -> list[str]:
    """The command line of `midframe ARGUMENTS`; `patch` is Python that runs before it (`here()` marks the place)."""
    program = DRIVER.format(patch=patch)
    return [sys.executable, "-c", program, *map(str, arguments)]


def run(*arguments: object, patch: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `midframe ARGUMENTS` to its end."""
    options = {"capture_output": True, "text": True, "timeout": 60, "env": environment(), **options}
    return subprocess.run(command(*arguments, patch=patch), check=False, **options)


def start(*arguments: object, patch: str = "", **options: Any) -> subprocess.Popen[Any]:
    """Start `midframe ARGUMENTS` in the background."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), "text": True, **options}
    return subprocess.Popen(command(*arguments, patch=patch), **options)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def wait_for_place(process: subprocess.Popen[Any], limit: float = 60.0) -> None:
    """Wait until the patched stage is reached."""
    until = time.monotonic() + limit
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip() == HERE:
            return
        assert time.monotonic() < until
    raise AssertionError(f"the process ended with {process.wait()} before it came there")


def wait_for_file(folder: Path, pattern: str, process: subprocess.Popen[Any], limit: float = 60.0) -> None:
    """Wait until a file of that pattern is in a folder."""
    until = time.monotonic() + limit
    while not any(file.stat().st_size for file in folder.glob(pattern)):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < until
        time.sleep(0.02)


def one_line(error: str) -> str:
    """Standard error of a command that failed: exactly one line of ours, no traceback."""
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1, error
    assert lines[0].startswith("midframe: ")
    assert "Traceback" not in error
    return lines[0]


def one_object(output: str) -> dict[str, Any]:
    """Standard output of a command with --json: one JSON object and nothing else."""
    return dict(json.loads(output))
