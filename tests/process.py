"""Run the `midframe` command as a process of its own, if need be with one of its functions patched."""

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

InProcessCommand = Callable[..., SimpleNamespace]
"""Runs `midframe ARGUMENTS` in the tests' own process; the result has `returncode`, `stdout` and `stderr`."""

MARKER = "REACHED"
"""The line that a patch prints on standard error by calling `reached()`."""

DRIVER = """
import sys, time
def reached():
    print("{marker}", file=sys.stderr, flush=True)
{patch}
from midframe.cli import main
main()
"""
"""The program that runs instead of the installed command."""


def command_line(*arguments: object, patch: str = "") -> list[str]:
    """Return the command line of `midframe ARGUMENTS`. patch: Python code that runs first; it may call `reached()`."""
    program = DRIVER.format(marker=MARKER, patch=patch)
    return [sys.executable, "-c", program, *map(str, arguments)]


def run_midframe(*arguments: object, patch: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `midframe ARGUMENTS` to its end. options: of `subprocess.run`."""
    options = {"capture_output": True, "text": True, "timeout": 60, "env": environment(), **options}
    return subprocess.run(command_line(*arguments, patch=patch), check=False, **options)


def start_midframe(*arguments: object, patch: str = "", **options: Any) -> subprocess.Popen[Any]:
    """Start `midframe ARGUMENTS` and return its process. options: of `subprocess.Popen`."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), "text": True, **options}
    return subprocess.Popen(command_line(*arguments, patch=patch), **options)


def environment() -> dict[str, str]:
    """Return the environment of the tests, with a single OpenMP thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def wait_for_marker(process: subprocess.Popen[Any], limit: float = 60.0) -> None:
    """Wait until the patch of a process calls `reached()`. limit: seconds, after which the test fails."""
    deadline = time.monotonic() + limit
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip() == MARKER:
            return
        assert time.monotonic() < deadline
    raise AssertionError(f"the process ended with {process.wait()} before it called `reached()`")


def wait_for_file(folder: Path, pattern: str, process: subprocess.Popen[Any], limit: float = 60.0) -> None:
    """Wait until a folder holds a non-empty file that matches a pattern. limit: seconds, after which the test fails."""
    deadline = time.monotonic() + limit
    while not any(file.stat().st_size for file in folder.glob(pattern)):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)


def expect_one_line(error: str) -> str:
    """Return the only line that a failed command has printed on standard error; fail if there are more."""
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1, error
    assert lines[0].startswith("midframe: ")
    assert "Traceback" not in error
    return lines[0]


def parse_json_object(output: str) -> dict[str, Any]:
    """Return the JSON object that is all of a command's standard output."""
    return dict(json.loads(output))
