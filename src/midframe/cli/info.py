"""The command `midframe info`: describes this machine, a weights file, or a film."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midframe.cli.report import write_json

if TYPE_CHECKING:
    from midframe.networks import WeightsInfo

_JSON = typer.Option("--json", help="One JSON object on standard output.")


def info(
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help="A weights file, the name of shipped ones, or a film.")
    ] = None,
    device: Annotated[str, typer.Option(help="The device that is asked about: auto, cpu, cuda, mps.")] = "auto",
    json: Annotated[bool, _JSON] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Say what this machine can do, or what weights or a film are.

    Without WHAT: versions, devices, and for each backend of the operators whether it runs here, and why not.
    """
    data = _describe_machine(device) if what is None else _describe_argument(what)
    if json:
        write_json({"schema": "midframe.info/1", "ok": True, **data}, to_stdout=True, path=None)
    else:
        _print(data)


def weights_json(info: WeightsInfo) -> dict[str, Any]:
    """Return the description of a weights file as data for JSON."""
    return {
        "weights": str(info.path),
        "format": info.format,
        "network": info.network,
        "settings": dict(info.settings),
        "parameters": info.parameters,
        "bytes": info.bytes,
        "card": None if info.card is None else str(info.card),
        "training": dict(info.training),
        "licence": info.licence,
        "data": info.data,
    }


def _shipped_weights(name: str) -> WeightsInfo | None:
    """Return the description of the shipped weights of this name, None if there are none."""
    from midframe.networks import list_models

    return next((model.weights for model in list_models() if model.name == name), None)


def _describe_argument(name_or_path: str) -> dict[str, Any]:
    """Describe shipped weights, a weights file or a film; a file is tried before a name of shipped weights."""
    shipped = None if Path(name_or_path).exists() else _shipped_weights(name_or_path)
    if shipped is not None:
        return weights_json(shipped)
    if name_or_path.endswith(".safetensors"):
        from midframe.networks.weights import read_info

        return weights_json(read_info(name_or_path))
    return _describe_film(name_or_path)


def _describe_machine(device: str) -> dict[str, Any]:
    """Describe versions, the chosen device, and which backend of each operator runs on it."""
    import platform
    from importlib.metadata import version

    import torch

    import midframe.networks.guided  # noqa: F401 - it imports all operators, and only imported ones are reported
    from midframe.device import choose_device
    from midframe.ops.dispatch import backend_availability, operator_availability
    from midframe.version import __version__

    chosen = choose_device(device)
    return {
        "midframe": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "av": version("av"),
        "device": str(chosen),
        "threads": torch.get_num_threads(),
        "backends": {name: asdict(found) for name, found in backend_availability(chosen.type).items()},
        "operators": {
            operator: {name: asdict(found) for name, found in backends.items()}
            for operator, backends in operator_availability(chosen.type).items()
        },
    }


def _describe_film(path: str) -> dict[str, Any]:
    """Describe a film: container, picture, colour and streams."""
    from midframe.conversion.settings import Settings
    from midframe.conversion.source import open_source
    from midframe.conversion.summary import film_json

    film = open_source(path, Settings(), lambda: False).film
    streams = [{"index": s.index, "kind": s.kind, "codec": s.codec, "packets": s.packets} for s in film.streams]
    return {"film": path, **film_json(film), "streams": streams, "problems": list(film.problems)}


def _print(data: dict[str, Any], indent: str = "") -> None:
    """Print data for JSON as lines of text, nested data indented."""
    for key, value in data.items():
        if key == "operators":
            print(f"{indent}operators and the backends that run them, the one that auto takes first")
            for operator, backends in value.items():
                print(
                    f"{indent}  {operator:<24} {', '.join(name for name, found in backends.items() if found['runs'])}"
                )
        elif isinstance(value, dict) and set(value) == {"runs", "why"}:
            print(f"{indent}{key:<18} {'yes' if value['runs'] else 'no'}: {value['why']}")
        elif isinstance(value, dict):
            print(f"{indent}{key}")
            _print(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{indent}{key}")
            for item in value:
                print(f"{indent}  " + ", ".join(f"{k} {v}" for k, v in item.items()))
        else:
            words = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            print(f"{indent}{key.replace('_', ' '):<18} {'' if words is None else words}")
