"""Checkpoints: all of a run's state in one file that is whole or is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from midframe.errors import InputError
from midframe.files import atomic_write, write_error

FORMAT = "midframe-checkpoint/1"


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a run's state: tensors, numbers, strings, lists and dictionaries of them.

    The file replaces the previous one in one step: a process killed at any moment leaves a complete checkpoint.
    Raises `OutputError`.
    """
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, **state}, file)
    except RuntimeError as error:  # torch.save reports a full disk so
        raise write_error(path, error) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a run's state, on the CPU; only tensors and plain values are ever read. Raises `InputError`."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no checkpoint that can be read: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path} is no checkpoint of the format {FORMAT}")
    return state
