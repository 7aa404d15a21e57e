"""The networks by name, and from weights files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from midframe.errors import SettingError, WeightsError
from midframe.networks.base import InterpolationNetwork
from midframe.networks.weights import SUFFIX, WeightsInfo, load_weights, read_info

NETWORKS = {
    "average": "midframe.networks.average:Average",
    "paper": "midframe.networks.paper:Paper",
    "guided": "midframe.networks.guided:Guided",
}
"""Each network by name: its module and class. A new network is one file and one line here."""

SHIPPED = Path(__file__).parent.parent / "weights"
"""The folder of trained weights in the package: each file is a name, `default` the one taken where none is given."""


@dataclass(frozen=True)
class Model:
    """A name that `load` takes: `midframe models`."""

    name: str
    network: str
    any_time: bool
    """Whether it makes any time between the frames, or only the middle."""
    trained: bool
    weights: WeightsInfo | None
    """What its weights file says, where it has one."""
    description: str


def load(name_or_path: str | Path = "default") -> InterpolationNetwork:
    """Give a network, ready to make frames.

    name_or_path: `default` or the name of other shipped weights, one of `NETWORKS` (untrained: its frames are weighted
    means), or the path of a weights file. Raises `SettingError` for a name that is none of these, and `WeightsError`
    for a file that is not what it should be.
    """
    name = str(name_or_path)
    if _shipped(name).is_file():
        return load_weights(_shipped(name))
    if name in NETWORKS:
        return class_of(name)().eval()
    if name.endswith(SUFFIX) or Path(name).exists():
        return load_weights(name)
    raise SettingError(f"there is no network or weights file '{name}'; there are the networks {', '.join(_names())}")


def models() -> list[Model]:
    """All names that `load` takes, the shipped weights first."""
    return [_model(name) for name in _names()]


def class_of(name: str) -> type[InterpolationNetwork]:
    """The class of a network by name. Raises `WeightsError`: only a weights file can ask for one that is not there."""
    if name not in NETWORKS:
        raise WeightsError(f"weights of a network '{name}', which is not here; there are: {', '.join(NETWORKS)}")
    module, _, attribute = NETWORKS[name].partition(":")
    return cast(type[InterpolationNetwork], getattr(import_module(module), attribute))


def name_of(network: InterpolationNetwork) -> str:
    """The name of a network's class in `NETWORKS`. Raises `SettingError` for a class that is not in it."""
    kind = f"{type(network).__module__}:{type(network).__qualname__}"
    for name, where in NETWORKS.items():
        if where == kind:
            return name
    raise SettingError(f"{kind} is not in NETWORKS; there are: {', '.join(NETWORKS)}")


def _shipped(name: str) -> Path:
    return SHIPPED / f"{name}{SUFFIX}" if name.replace("-", "").isalnum() else SHIPPED / ".none"


def _names() -> list[str]:
    shipped = sorted((path.stem for path in SHIPPED.glob(f"*{SUFFIX}")), key=lambda name: (name != "default", name))
    return list(dict.fromkeys([*shipped, *NETWORKS]))


def _model(name: str) -> Model:
    weights = read_info(_shipped(name)) if _shipped(name).is_file() else None
    network = weights.network if weights else name
    kind = class_of(network)
    said = (kind.__doc__ or "").strip().splitlines()[0]
    return Model(name, network, kind.any_time, weights is not None, weights, said)


__all__ = [
    "NETWORKS",
    "InterpolationNetwork",
    "Model",
    "WeightsInfo",
    "class_of",
    "load",
    "load_weights",
    "models",
    "name_of",
    "read_info",
]
