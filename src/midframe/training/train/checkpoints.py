"""Checkpoints: the whole state of a training run in one file, which is always complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from midframe.errors import InputError
from midframe.files import atomic_write, write_error
from midframe.training.config import TrainingConfig, config_to_dict
from midframe.training.train.models import Models
from midframe.training.train.state import TrainingState

FORMAT = "midframe-checkpoint/1"
"""Identifies a checkpoint file, under its key `format`."""


def write_run_checkpoint(path: Path, config: TrainingConfig, state: TrainingState, models: Models) -> None:
    """Write everything that a run needs to continue as if it had not stopped. Raises `OutputError`.

    The keys are `config`, `network_settings`, `state`, `generator` and `generator_optimiser`; with a discriminator also
    `discriminator` and `discriminator_optimiser`.
    """
    contents = {
        "config": config_to_dict(config),
        "network_settings": models.generator.settings,
        "state": vars(state),
        "generator": models.generator.state_dict(),
        "generator_optimiser": models.generator_optimiser.state_dict(),
    }
    if models.discriminator is not None and models.discriminator_optimiser is not None:
        contents["discriminator"] = models.discriminator.state_dict()
        contents["discriminator_optimiser"] = models.discriminator_optimiser.state_dict()
    save_checkpoint(contents, path)


def restore_models(models: Models, checkpoint: dict[str, Any]) -> None:
    """Load weights and optimiser states from a checkpoint.

    Raises `KeyError`, `RuntimeError` or `ValueError` if the checkpoint is of other models.
    """
    models.generator.load_state_dict(checkpoint["generator"])
    models.generator_optimiser.load_state_dict(checkpoint["generator_optimiser"])
    if models.discriminator is not None and models.discriminator_optimiser is not None:
        models.discriminator.load_state_dict(checkpoint["discriminator"])
        models.discriminator_optimiser.load_state_dict(checkpoint["discriminator_optimiser"])


def save_checkpoint(contents: dict[str, Any], path: Path) -> None:
    """Write nested dictionaries and lists of tensors, numbers and strings to a file.

    The file replaces the previous one in one step: a process killed at any moment leaves a complete checkpoint.
    Raises `OutputError` if it cannot be written.
    """
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, **contents}, file)
    except RuntimeError as error:  # torch's error for a full disk
        raise write_error(path, error) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU. No code in the file is executed.

    Raises `InputError` if the file cannot be read or is no checkpoint of this format.
    """
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no checkpoint that can be read: {reason}") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise InputError(f"{path} is no checkpoint of the format {FORMAT}")
    return contents
