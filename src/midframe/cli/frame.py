"""`midframe frame`: interpolate one picture between two picture files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midframe.cli.options import parse_fraction
from midframe.cli.report import check_json_file, print_message, write_json


def frame(  # one parameter for each option of the command
    first: Annotated[str, typer.Argument(metavar="FIRST", help="The earlier picture.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The later picture, of the same size and type.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The picture to write: png, jpg, tiff, bmp or webp.")],
    time: Annotated[str, typer.Option("--time", "-t", help="When, between 0 and 1: a number or a fraction.")] = "1/2",
    network: Annotated[str, typer.Option(help="The network that interpolates the picture.")] = "default",
    shader: Annotated[str, typer.Option(help="Pixel shader: default, paper, amplified or off.")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    drop_alpha: Annotated[bool, typer.Option("--drop-alpha", help="Leave transparency out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-y", help="Replace OUT.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output at the end.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="The same object to a file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Make the picture between two pictures.

    midframe frame a.png b.png between.png
    """
    from midframe.conversion.output import delete_part
    from midframe.conversion.pipeline import run_in_thread
    from midframe.conversion.settings import Settings
    from midframe.conversion.single_frame import interpolate_files

    check_json_file(json_file)
    position = parse_fraction("--time", time)
    settings = Settings(network=network, shader=shader, device=device, drop_alpha=drop_alpha, overwrite=overwrite)
    try:
        # In a thread of its own, so that this one can react to signals.
        names = run_in_thread(
            lambda _: interpolate_files(first, second, target, position, settings), lambda: None, lambda: False
        )
    except BaseException:
        delete_part(target)
        raise
    if not quiet:
        print_message(
            f"{target}: the picture at {float(position):g} between {first} and {second}, by {names['network']}"
        )
    data = {
        "schema": "midframe.frame/1",
        "ok": True,
        "input": {"path": first, "second": second},
        "output": {"path": target},
        "time": str(position),
        **names,
    }
    write_json(data, json, json_file)
