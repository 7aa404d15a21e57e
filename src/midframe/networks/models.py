"""Load networks by name: shipped weights, weights files, or untrained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch

from midframe.errors import SettingError
from midframe.networks.base import InterpolationNetwork
from midframe.networks.registry import NETWORKS, network_class
from midframe.networks.weights import SUFFIX, WeightsInfo, load_weights, read_info

SHIPPED = Path(__file__).parent.parent / "weights"
"""The folder of the weights files that come with the package; the name of a file without its suffix can be loaded."""


@dataclass(frozen=True)
class ModelInfo:
    """A name that `load` takes, and what it stands for; a row of `midframe models`."""

    name: str
    """The name that `load` takes."""
    network: str
    """The name of the network in `NETWORKS`."""
    any_time: bool
    """Whether the network predicts any time between two frames, or only the middle."""
    trained: bool
    """Whether weights are loaded; if not, the network is untrained."""
    weights: WeightsInfo | None
    """The description in the weights file; None for an untrained network."""
    description: str
    """One sentence about the network: the first line of its class's docstring."""


def load(name_or_path: str | Path = "default") -> InterpolationNetwork:
    """Load a network, in evaluation mode and on the CPU.

    name_or_path: `default` or the name of other shipped weights; a name in `NETWORKS`, for the untrained network, which
    returns weighted means; or the path of a weights file. Raises `SettingError` for a name that is none of these, and
    `WeightsError` for a file that is not a valid weights file.
    """
    name = str(name_or_path)
    path = _weights_path(name)
    if path is not None:
        return load_weights(path)
    if name in NETWORKS:
        return network_class(name)().eval()
    known = ", ".join(_list_names())
    raise SettingError(f"there is no network or weights file '{name}'; there are the networks {known}")


def load_cached(name_or_path: str | Path, device: torch.device) -> InterpolationNetwork:
    """Load a network onto a device, or return the one that this process loaded before. It must not be modified.

    A weights file is read again if its modification time has changed. Raises like `load`.
    """
    name = str(name_or_path)
    path = _weights_path(name)
    if path is not None and path.is_file():
        key, modified = (str(path.resolve()), str(device)), path.stat().st_mtime_ns
    else:
        key, modified = (name, str(device)), 0
    with _cache_lock:
        if key not in _cache or _cache[key][0] != modified:
            _cache[key] = (modified, load(name).to(device))
        return _cache[key][1]


_cache: dict[tuple[str, str], tuple[int, InterpolationNetwork]] = {}
"""Networks of `load_cached` with the modification time of their weights file, by path or name, and device."""

_cache_lock = Lock()
"""Held while `_cache` is read or changed, so that two threads do not load the same network."""


def list_models() -> list[ModelInfo]:
    """Describe every name that `load` takes, the shipped weights first."""
    return [_describe(name) for name in _list_names()]


def _weights_path(name: str) -> Path | None:
    """Return the weights file that a name or path stands for; None if it names no file, shipped or the user's own."""
    shipped = _shipped_path(name)
    if shipped is not None:
        return shipped
    if name not in NETWORKS and (name.endswith(SUFFIX) or Path(name).exists()):
        return Path(name)
    return None


def _shipped_path(name: str) -> Path | None:
    """Return the shipped weights file of this name, None if there is none."""
    if not name.replace("-", "").isalnum():
        return None
    path = SHIPPED / f"{name}{SUFFIX}"
    return path if path.is_file() else None


def _list_names() -> list[str]:
    """Return every name that `load` takes: `default`, other shipped weights, untrained networks."""
    shipped = sorted((path.stem for path in SHIPPED.glob(f"*{SUFFIX}")), key=lambda name: (name != "default", name))
    return list(dict.fromkeys([*shipped, *NETWORKS]))


def _describe(name: str) -> ModelInfo:
    """Describe one of the names of `_list_names`."""
    path = _shipped_path(name)
    weights = None if path is None else read_info(path)
    network = weights.network if weights else name
    cls = network_class(network)
    description = (cls.__doc__ or "").strip().splitlines()[0]
    return ModelInfo(name, network, cls.any_time, weights is not None, weights, description)
