"""The folder of a training run: what is written into it, and the curves drawn from it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from midframe.errors import DeviceError, InputError, OutputError
from midframe.files import atomic_write
from midframe.training.config import Config, tables

CONFIG, ENVIRONMENT, LOG = "config.json", "environment.json", "log.jsonl"
CHECKPOINT, BEST, LAST = "checkpoint.pt", "best.safetensors", "weights.safetensors"
CURVES, PICTURES = "curves.png", "pictures"


def begin(out: Path, config: Config) -> None:
    """Make the folder and write what the run is told and where it runs. Raises `OutputError`."""
    with _written(out):
        (out / PICTURES).mkdir(parents=True, exist_ok=True)
        (out / CONFIG).write_text(json.dumps(tables(config), indent=2) + "\n", "utf-8")
        (out / ENVIRONMENT).write_text(json.dumps(environment(), indent=2) + "\n", "utf-8")


def environment() -> dict[str, Any]:
    """Versions, machine and threads."""
    from midframe import __version__

    devices = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return {
        "midframe": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": devices,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


class Log:
    """One JSON line a logged step, and the same for TensorBoard where it is installed.

    Lines of steps that a resumed run makes again are dropped first, so a log is that of one run.
    """

    def __init__(self, out: Path, step: int) -> None:
        self.out = out
        path = out / LOG
        kept = [line for line in read_log(out) if line["step"] <= step] if path.exists() else []
        try:
            with atomic_write(path) as file:
                file.writelines(f"{json.dumps(line)}\n".encode() for line in kept)
            self.file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        try:
            from torch.utils.tensorboard import SummaryWriter

            with _written(out):
                self.board: Any = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)
        except ImportError:
            self.board = None

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):  # each line was flushed when it was written
            self.file.close()
        if self.board is not None:
            with suppress(OSError):
                self.board.close()

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Note values of a step. kind: `train` or `held`. Raises `OutputError`."""
        with _written(self.out):
            self.file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
            self.file.flush()
            if self.board is not None:
                for name, value in values.items():
                    if isinstance(value, (int, float)):
                        self.board.add_scalar(f"{kind}/{name}", value, step)

    def show(self, step: int, picture: Tensor) -> None:
        """Note a picture `[3, H, W]`, uint8: in pictures/, where Pillow is installed, and for TensorBoard.

        Raises `OutputError`.
        """
        with _written(self.out):
            with suppress(ImportError):
                from PIL import Image

                Image.fromarray(picture.permute(1, 2, 0).numpy()).save(self.out / PICTURES / f"step-{step:07}.png")
            if self.board is not None:
                self.board.add_image("held/pictures", picture, step)


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last line that was cut off is passed over. Raises `InputError`."""
    try:
        lines = (out / LOG).read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{out} is no folder of a training run: {LOG} cannot be read ({error.strerror})") from error
    found = []
    for number, line in enumerate(lines):
        try:
            read = json.loads(line)
            if not isinstance(read, dict) or "step" not in read:
                raise ValueError("no line of a run's log")
            found.append(read)
        except ValueError as error:
            if number < len(lines) - 1:
                raise InputError(f"{out / LOG} is damaged in line {number + 1}") from error
    return found


def sheet(rows: Tensor) -> Tensor:
    """Rows `[K, M, 3, S, S]` of pictures in 0..255 as one picture, uint8."""
    count, across, _, height, width = rows.shape
    whole = rows.permute(2, 0, 3, 1, 4).reshape(3, count * height, across * width)
    return whole.clamp(0, 255).round().byte()


def draw_curves(runs: Sequence[Path], target: Path) -> None:
    """Draw the losses and the held-back PSNR of runs over the samples they saw, laid over each other (Fig. 8).

    Raises `InputError` for a folder that is no run, `DeviceError` where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DeviceError("curves need matplotlib: pip install 'midframe[train]'") from error
    logs = {run: read_log(run) for run in runs}
    hidden = {"step", "kind", "samples", "seconds", "left", "waited", "rate", "memory", "per_second"}
    found = {name for lines in logs.values() for line in lines for name in line if name not in hidden}
    names = sorted(found, key=lambda name: (name != "psnr", name != "total", name))
    columns = 3
    rows = -(-max(1, len(names)) // columns)
    figure = Figure(figsize=(5 * columns, 3 * rows), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, place + 1)
        for number, (run, lines) in enumerate(logs.items()):
            for kind, style in (("train", "-"), ("held", "o--")):
                points = [(line["samples"], line[name]) for line in lines if line["kind"] == kind and name in line]
                if points:
                    label = f"{run.name}, {'held back' if kind == 'held' else 'training'}"
                    axes.plot(*zip(*points, strict=True), style, color=f"C{number}", ms=3, lw=1, label=label)
        axes.set_title("PSNR, dB" if name == "psnr" else name.replace("_", " "), fontsize=10)
        axes.set_xlabel("samples", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if place == 0:
            axes.legend(fontsize=7)
    try:
        figure.savefig(target, dpi=90)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error


@contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"the run folder {out} cannot be written: {error.strerror or error}") from error


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
