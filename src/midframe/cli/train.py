"""`midframe train`: a data set in, weights out; `midframe curves`: what runs did, laid over each other."""

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
    from midframe.training.config import Config
    from midframe.training.train.loop import Progress


def train(
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="paper, repository, guided, or a TOML file.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="A folder of `midframe dataset build`; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, by its own settings.")] = False,
    minutes: Annotated[float | None, typer.Option(help="When the run ends; its rate falls until then.")] = None,
    samples: Annotated[int | None, typer.Option(help="The same by samples seen.")] = None,
    start: Annotated[str | None, typer.Option(help="Weights to go on from: a file, or default.")] = None,
    vgg: Annotated[str | None, typer.Option(help="VGG-19's file, for the perceptual and adversarial losses.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting: losses.census=1, batch=8; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output at the end.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="The same object to a file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Train a network on the data sets of `midframe dataset build`.

    midframe train guided --data DATA --out RUN --minutes 120

    Started by torchrun, it runs on several devices. Interrupted, it writes a checkpoint first; --resume goes on.
    """
    check_json_file(json_file)
    if minutes is not None and samples is not None:
        raise SettingError("--minutes and --samples both say when the run ends; give one")
    if resume and (config or data or settings or start or vgg):
        raise SettingError("--resume goes on by the run's own settings; only --minutes or --samples may be new")
    if not resume and config is None:
        raise SettingError("a run needs CONFIG: paper, repository, guided, or a TOML file; or --resume")
    chosen = None if config is None else _chosen(config, data, start, vgg, settings)
    from midframe.conversion.render import choose_device
    from midframe.training.distributed import leads
    from midframe.training.train.loop import train as run

    stop = _Stop()
    display = ProgressDisplay(quiet=quiet, bar=False, line_interval=0)
    try:
        weights = run(
            chosen,
            out,
            samples=samples,
            minutes=minutes,
            device=choose_device(device),
            report=lambda progress: _show(display, progress),
            cancelled=stop.asked,
        )
    except Cancelled as stopped:
        raise Interrupted(stop.number, str(stopped)) from None
    if not leads():
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
    from midframe.training.train.run_folder import draw_curves

    draw_curves(runs, out)
    print_message(f"{out}: the curves of {len(runs)} run{'s' if len(runs) > 1 else ''}")


def _chosen(
    config: str, data: list[Path] | None, start: str | None, vgg: str | None, settings: list[str] | None
) -> Config:
    """The run's settings: the file or preset, with what the options say."""
    from midframe.training.config import read_config, tables

    given = tables(read_config(config))
    if data:
        given["data"]["shards"] = [str(folder) for folder in data]
    if vgg is not None:
        given["losses"]["vgg"] = vgg
    if start is not None:
        given["start"] = start
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        *place, last = name.strip().split(".")
        table: Any = given
        for part in place:
            table = table.get(part) if isinstance(table, dict) else None
        if not equals or not isinstance(table, dict) or (last not in table and place != ["settings"]):
            raise SettingError(f"--set takes NAME=VALUE of a setting, such as losses.census=1; got '{setting}'")
        table[last] = _value(value.strip())
    return read_config(given)


def _value(text: str) -> Any:
    """A value as TOML has it; a bare word is a string."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


class _Stop:
    """SIGINT and SIGTERM ask the run to stop after its step; the second one ends it at once."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def asked(self) -> bool:
        return self.number != 0

    def _note(self, number: int, _frame: object) -> None:
        if self.number:
            print_message("ended at once; --resume goes on from the last checkpoint")
            os._exit(128 + number)
        self.number = number


def _show(display: ProgressDisplay, progress: Progress) -> None:
    """Show the progress of a run: one line for each logged step."""
    left = "" if progress.seconds_left is None else f", {format_duration(progress.seconds_left)} left"
    losses = " ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
    text = (
        f"step {progress.step}, {progress.samples} samples, {progress.per_second:.1f} a second, "
        f"waited {progress.waited:.1%}{left}: {losses}"
    )
    display.show("train", text, done=progress.samples)
