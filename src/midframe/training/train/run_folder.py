"""The folder of a training run: names of its files, settings, environment and log."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from midframe.errors import InputError, OutputError
from midframe.files import atomic_write
from midframe.training.config import TrainingConfig, config_to_dict
from midframe.training.train.state import Progress

CONFIG = "config.json"
"""The settings."""
ENVIRONMENT = "environment.json"
"""Versions, machine and command (`environment`)."""
LOG = "log.jsonl"
"""The log (`RunLog`)."""
CHECKPOINT = "checkpoint.pt"
"""Settings, state, weights and optimiser states of the run (`checkpoints.write_run_checkpoint`)."""
WEIGHTS = "weights.safetensors"
"""The weights at the latest validation."""
BEST_WEIGHTS = "best.safetensors"
"""The weights with the best validation PSNR."""
CURVES = "curves.png"
"""Losses and PSNR over the run (`curves.draw_curves`)."""
PICTURES = "pictures"
"""Folder of predicted validation frames."""


def create(folder: Path, config: TrainingConfig) -> None:
    """Create the folder, if it does not exist, and write the settings and the environment. Raises `OutputError`."""
    with _output_errors(folder):
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(config_to_dict(config), indent=2) + "\n", "utf-8")
        (folder / ENVIRONMENT).write_text(json.dumps(environment(), indent=2) + "\n", "utf-8")


def environment() -> dict[str, Any]:
    """Return versions, machine, threads and command of this process."""
    from midframe.version import __version__

    return {
        "midframe": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(terse=True),
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


class RunLog:
    """The log of a run: JSON lines in `log.jsonl`, and TensorBoard events if TensorBoard is installed.

    Each line has `step` and `kind` (`train` or `validation`). A continued run first drops the lines after its step, so
    that the log looks as if the run had not been interrupted. All methods raise `OutputError` if writing fails.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        path = folder / LOG
        lines = [line for line in read_log(folder) if line["step"] <= step] if path.exists() else []
        try:
            with atomic_write(path) as file:
                file.writelines(f"{json.dumps(line)}\n".encode() for line in lines)
            self.file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        try:
            from torch.utils.tensorboard import SummaryWriter

            with _output_errors(folder):
                self.tensorboard: Any = SummaryWriter(
                    str(folder / "tensorboard"), purge_step=step + 1 if step else None
                )
        except ImportError:
            self.tensorboard = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # nothing is lost: each line was flushed when it was written
            self.file.close()
        if self.tensorboard is not None:
            with suppress(OSError):
                self.tensorboard.close()

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Write a line. kind: `train` or `validation`. values: numbers by name."""
        with _output_errors(self.folder):
            self.file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
            self.file.flush()
            if self.tensorboard is not None:
                for name, value in values.items():
                    if isinstance(value, (int, float)):
                        self.tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def write_progress(
        self, progress: Progress, seconds: float, learning_rate: float, memory_bytes: int | None
    ) -> None:
        """Write the line of a training step. seconds: the duration of all steps so far."""
        values = {
            "samples": progress.samples,
            "seconds": round(seconds, 3),
            "seconds_left": progress.seconds_left,
            "samples_per_second": progress.samples_per_second,
            "data_wait": progress.data_wait,
            **progress.losses,
            "learning_rate": learning_rate,
            "memory_bytes": memory_bytes,
        }
        self.write(progress.step, "train", values)

    def write_picture(self, step: int, picture: Tensor) -> None:
        """Write a picture `[3, H, W]`, uint8, to TensorBoard, and as PNG to pictures/ if Pillow is installed."""
        with _output_errors(self.folder):
            with suppress(ImportError):
                from PIL import Image

                path = self.folder / PICTURES / f"step-{step:07}.png"
                Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
            if self.tensorboard is not None:
                self.tensorboard.add_image("validation/pictures", picture, step)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log. An incomplete last line is left out, because the run may have been killed.

    Raises `InputError` if the folder has no log or another line is damaged.
    """
    try:
        lines = (folder / LOG).read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{folder} is no folder of a training run: {LOG} cannot be read ({error.strerror})") from error
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or "step" not in entry:
                raise ValueError("not a line of a training log")
            entries.append(entry)
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"{folder / LOG} is damaged in line {number}") from error
    return entries


@contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    """Raise `OutputError` for every `OSError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"the run folder {folder} cannot be written: {error.strerror or error}") from error


def _processor_name() -> str:
    """Return the model name of the processor; on Linux from /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
