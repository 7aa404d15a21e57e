"""`midframe models`: what makes frames; `midframe models fetch`: files of others that training uses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from midframe.cli.progress import ProgressDisplay
from midframe.cli.report import print_message, write_json

app = typer.Typer(
    help="List the networks and weights that --network takes, or fetch files that training uses.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_JSON = typer.Option("--json", help="One JSON object on standard output.")
_DEBUG = typer.Option("--debug", help="Print tracebacks.")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    json: Annotated[bool, _JSON] = False,
    debug: Annotated[bool, _DEBUG] = False,
) -> None:
    """List the networks and weights that --network takes."""
    if context.invoked_subcommand is not None:
        return
    from midframe.cli.info import weights_json
    from midframe.networks import models as known

    rows: list[dict[str, Any]] = [
        {
            "name": model.name,
            "network": model.network,
            "trained": model.trained,
            "any_time": model.any_time,
            "description": model.description,
            "weights": None if model.weights is None else weights_json(model.weights),
        }
        for model in known()
    ]
    if json:
        write_json({"schema": "midframe.models/1", "ok": True, "models": rows}, to_stdout=True, path=None)
        return
    for row in rows:
        times = "any time" if row["any_time"] else "the middle only"
        print(f"{row['name']:<10} {row['network']}, {_state(row['weights'])}, {times}. {row['description']}")


def _state(weights: dict[str, Any] | None) -> str:
    """Whether it is trained, and what its weights are, in a few words."""
    if weights is None:
        return "untrained"
    return f"trained ({weights['parameters'] / 1e6:.1f} million parameters, {weights['licence']})"


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="What to fetch: vgg19, for the perceptual and adversarial losses.")],
    url: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="Another place that has the same file.")
    ] = None,
    json: Annotated[bool, _JSON] = False,
    debug: Annotated[bool, _DEBUG] = False,
) -> None:
    """Fetch a file that training uses, hold it against its checksum and keep it in the user's data folder.

    The folder is MIDFRAME_HOME, or midframe in XDG_DATA_HOME (~/.local/share).
    """
    from midframe.networks.fetch import fetch as bring

    with ProgressDisplay() as display:
        path = bring(name, url=url, progress=lambda done, total: _show(display, name, done, total))
    if json:
        told = {"name": name, "path": str(path), "bytes": Path(path).stat().st_size}
        write_json({"schema": "midframe.models/1", "ok": True, "fetched": told}, to_stdout=True, path=None)
    else:
        print_message(f"{name} is at {path}")


def _show(display: ProgressDisplay, name: str, done: int, total: int | None) -> None:
    """Show how many bytes of a file have been fetched."""
    text = f"{done / 1e6:.0f}" + ("" if total is None else f" of {total / 1e6:.0f}") + " MB"
    display.show(name, text, done=done, total=total)
