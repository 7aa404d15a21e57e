"""The commands of `midframe`, one module each."""

from __future__ import annotations

from typing import Annotated

import typer

from midframe import __version__
from midframe.cli.convert import convert
from midframe.cli.dataset import app as dataset
from midframe.cli.frame import frame
from midframe.cli.info import info
from midframe.cli.models import app as models
from midframe.cli.train import curves, train

app = typer.Typer(
    name="midframe",
    help="Makes the frames between the frames of a film, and keeps everything else in it.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command()(convert)
app.command()(frame)
app.command()(info)
app.add_typer(models, name="models")
app.add_typer(dataset, name="dataset")
app.command()(train)
app.command()(curves)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"midframe {__version__}")
        raise typer.Exit


@app.callback()
def midframe(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Makes the frames between the frames of a film, and keeps everything else in it."""
