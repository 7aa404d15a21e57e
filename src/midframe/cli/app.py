"""The `midframe` command: its subcommands, and what happens if one of them fails."""

from __future__ import annotations

import traceback
from typing import Annotated

import typer

from midframe import __version__
from midframe.cli.convert import convert
from midframe.cli.dataset import app as dataset
from midframe.cli.failures import Failure, describe_fault, parse_request, report_failure
from midframe.cli.frame import frame
from midframe.cli.info import info
from midframe.cli.interrupts import Interrupted
from midframe.cli.models import app as models
from midframe.cli.train import curves, train
from midframe.errors import MidframeError

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

_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""The base class of all usage errors: click's `UsageError`, or in newer versions of Typer its own copy of it."""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    A failure is printed as one line on standard error and, if the arguments ask for JSON, as one JSON object.
    """
    try:
        app(arguments or ["--help"], standalone_mode=False)
        return 0
    except typer.Exit as end:
        return end.exit_code
    except (Interrupted, Exception) as error:
        failure = _to_failure(error, arguments)
    return report_failure(failure, parse_request(typer.main.get_command(app), arguments))


def _to_failure(error: BaseException, arguments: list[str]) -> Failure:
    """Return the failure to report for an exception. With `--debug` its traceback is printed first."""
    if isinstance(error, Interrupted):
        return Failure("interrupted", error.message, 128 + error.number)
    if isinstance(error, typer.Abort):
        return Failure("interrupted", "interrupted", 130)
    if isinstance(error, _USAGE_ERROR):
        text = str(getattr(error, "format_message", error.__str__)())
        return Failure("setting", f"{text.rstrip('.')} (see {_help_command(arguments)})", 2)
    debug = "--debug" in arguments
    if debug:
        traceback.print_exception(error)
    if isinstance(error, MidframeError):
        return Failure(error.code, " ".join(str(error).split()) or type(error).__name__, error.exit_code)
    return describe_fault(error, traceback_printed=debug)


def _help_command(arguments: list[str]) -> str:
    """Return the command line that prints the help for these arguments."""
    command = parse_request(typer.main.get_command(app), arguments).command
    return f"midframe {command} --help" if command else "midframe --help"


def _print_version(wanted: bool) -> None:
    """Print the version and exit, if `--version` is given."""
    if wanted:
        print(f"midframe {__version__}")
        raise typer.Exit


@app.callback()
def midframe(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Makes the frames between the frames of a film, and keeps everything else in it."""
