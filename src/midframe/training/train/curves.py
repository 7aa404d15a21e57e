"""Draw the losses of training runs over the samples seen, several runs in one figure (figure 8 of the report)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midframe.errors import DeviceError, OutputError
from midframe.training.train.run_folder import read_log

COLUMNS = 3
"""Panels in a row of the figure."""

HIDDEN = {
    "step",
    "kind",
    "samples",
    "seconds",
    "seconds_left",
    "samples_per_second",
    "data_wait",
    "learning_rate",
    "memory_bytes",
}
"""Values of the log that get no panel."""

STYLES = (("train", "-", "training"), ("validation", "o--", "validation"))
"""The kinds of lines in the log, each with matplotlib's line style and its name in the legend."""


def draw_curves(folders: Sequence[Path], target: Path) -> None:
    """Draw losses and validation PSNR of runs, one panel per value, one colour per run, and write the figure.

    Raises `InputError` if a folder is not that of a run, `DeviceError` if matplotlib is not installed, `OutputError` if
    the figure cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DeviceError("curves need matplotlib: pip install 'midframe[train]'") from error
    logs = [(folder.name, read_log(folder)) for folder in dict.fromkeys(folders)]
    found = {name for _, lines in logs for line in lines for name in line} - HIDDEN
    names = sorted(found, key=lambda name: (name != "psnr", name != "total", name))
    rows = -(-max(1, len(names)) // COLUMNS)
    figure = Figure(figsize=(5 * COLUMNS, 3 * rows), layout="constrained")
    for index, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, COLUMNS, index)
        _draw_panel(axes, name, logs)
        if index == 1:
            axes.legend(fontsize=7)
    try:
        figure.savefig(target, dpi=90)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error


def _draw_panel(axes: Any, name: str, logs: Sequence[tuple[str, list[dict[str, Any]]]]) -> None:
    """Draw one value of the logs of several runs. logs: the name and the lines of each run."""
    for number, (run_name, lines) in enumerate(logs):
        for kind, style, label in STYLES:
            points = [(line["samples"], line[name]) for line in lines if line["kind"] == kind and name in line]
            if points:
                axes.plot(
                    *zip(*points, strict=True), style, color=f"C{number}", ms=3, lw=1, label=f"{run_name}, {label}"
                )
    axes.set_title("PSNR, dB" if name == "psnr" else name.replace("_", " "), fontsize=10)
    axes.set_xlabel("samples", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
