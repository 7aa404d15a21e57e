"""`midframe train`: train a network on data sets; `midframe curves`: draw the losses of training runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midframe.cli.interrupts import Interrupted
from midframe.cli.progress import ProgressDisplay
from midframe.cli.report import check_json_file, format_duration, print_message, write_json
from midframe.errors import Cancelled, SettingError

if TYPE_CHECKING:
    from midframe.training.config import TrainingConfig
    from midframe.training.train.state import Progress


def train(
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="paper, repository, guided, or a TOML file.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="A folder of `midframe dataset build`; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out with its own settings.")] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Length of the run in minutes; the learning rate falls until then.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Length of the run in samples.")] = None,
    init_from: Annotated[
        str | None, typer.Option("--start", help="Initial weights (init_from): a file, or default.")
    ] = None,
    vgg_file: Annotated[
        str | None, typer.Option("--vgg", help="VGG-19's file, for the perceptual and adversarial losses.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting: losses.census=1, batch_size=8; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output at the end.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="The same object to a file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Train a network on the data sets of `midframe dataset build`.

    midframe train guided --data DATA --out RUN --minutes 120

    Started by torchrun, it runs on several devices. Interrupted, it writes a checkpoint first; --resume continues.
    """
    check_json_file(json_file)
    if minutes is not None and samples is not None:
        raise SettingError("--minutes and --samples both say when the run ends; give one")
    if resume and (config or data or settings or init_from or vgg_file):
        raise SettingError("--resume goes on by the run's own settings; only --minutes or --samples may be new")
    if not resume and config is None:
        raise SettingError("a run needs CONFIG: paper, repository, guided, or a TOML file; or --resume")
    overrides: dict[str, Any] = {"losses.vgg_file": vgg_file, "init_from": init_from}
    if data:
        overrides["data.folders"] = [str(folder) for folder in data]
    chosen = None if config is None else _read_settings(config, overrides, settings or [])
    weights = _run(chosen, out, samples, minutes, device, quiet)
    if weights is None:
        return
    from midframe.cli.info import weights_json
    from midframe.networks import read_info

    if not quiet:
        print_message(f"{weights}: trained; use it with --network {weights}")
    write_json({"schema": "midframe.train/1", "ok": True, **weights_json(read_info(weights))}, json, json_file)


def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of midframe train.")],
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("curves.png"),
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Draw the losses of training runs, laid over each other."""
    from midframe.training.train.curves import draw_curves

    draw_curves(runs, out)
    print_message(f"{out}: the curves of {len(runs)} run{'s' if len(runs) > 1 else ''}")


def _run(
    config: TrainingConfig | None, out: Path, samples: int | None, minutes: float | None, device: str, quiet: bool
) -> Path | None:
    """Train, and return the path of the weights; None in other processes than the main one.

    Raises `Interrupted` after a signal, once the checkpoint is written.
    """
    from midframe.conversion.render import choose_device
    from midframe.training.distributed import is_main_process
    from midframe.training.train.loop import train
    from midframe.training.train.setup import Budget

    stop = _StopSignal()
    display = ProgressDisplay(quiet=quiet, bar=False, line_interval=0)  # one line for each logged step
    try:
        weights = train(
            config,
            out,
            budget=Budget(samples, minutes),
            device=choose_device(device),
            report=lambda progress: _show_progress(display, progress),
            cancelled=stop.is_requested,
        )
    except Cancelled as stopped:
        raise Interrupted(stop.number, str(stopped)) from None
    return weights if is_main_process() else None


def _read_settings(config: str, overrides: dict[str, Any], assignments: list[str]) -> TrainingConfig:
    """Read the settings of a run.

    config: a preset or TOML file. overrides: values of settings by their full names; None leaves a setting as it is.
    assignments: the values of `--set`, NAME=VALUE.
    """
    from midframe.training.config import config_to_dict
    from midframe.training.config_file import read_config

    tables = config_to_dict(read_config(config))
    for name, value in overrides.items():
        if value is not None:
            _assign(tables, name, value)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not _assign(tables, name.strip(), _parse_value(text.strip())):
            raise SettingError(f"--set takes NAME=VALUE of a setting, such as losses.census=1; got '{assignment}'")
    return read_config(tables)


def _assign(tables: dict[str, Any], name: str, value: Any) -> bool:
    """Set a value by its full name, such as `losses.census`; return whether there is a setting of that name."""
    *path, last = name.split(".")
    table: Any = tables
    for part in path:
        table = table.get(part) if isinstance(table, dict) else None
    if not isinstance(table, dict) or (last not in table and path != ["network_settings"]):
        return False
    table[last] = value
    return True


def _parse_value(text: str) -> Any:
    """Parse a TOML value; anything that is not TOML, such as a bare word, is a string."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


class _StopSignal:
    """Handles SIGINT and SIGTERM: the first asks the run to stop after its step, the second ends the process."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def is_requested(self) -> bool:
        """Return whether a signal has arrived."""
        return self.number != 0

    def _handle(self, number: int, _frame: object) -> None:
        if self.number:
            print_message("ended at once; --resume goes on from the last checkpoint")
            os._exit(128 + number)
        self.number = number


def _show_progress(display: ProgressDisplay, progress: Progress) -> None:
    """Show the progress of a run."""
    time_left = "" if progress.seconds_left is None else f", {format_duration(progress.seconds_left)} left"
    losses = " ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
    text = (
        f"step {progress.step}, {progress.samples} samples, {progress.samples_per_second:.1f} a second, "
        f"waited {progress.data_wait:.1%}{time_left}: {losses}"
    )
    display.show("train", text)
