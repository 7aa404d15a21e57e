"""The registry of network classes by name.

A new network is one file in this package and one line in `NETWORKS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from midframe.errors import SettingError, WeightsError
from midframe.networks.base import InterpolationNetwork

NETWORKS = {
    "average": "midframe.networks.average:Average",
    "paper": "midframe.networks.paper:Paper",
    "guided": "midframe.networks.guided:Guided",
}
"""The module and class of each network, by name."""


def network_class(name: str) -> type[InterpolationNetwork]:
    """Return the class of a network by its name in `NETWORKS`; `WeightsError` if there is no such network.

    The error names weights, because only a weights file can ask for a network that does not exist.
    """
    if name not in NETWORKS:
        raise WeightsError(f"weights of a network '{name}', which is not here; there are: {', '.join(NETWORKS)}")
    module, _, attribute = NETWORKS[name].partition(":")
    return cast(type[InterpolationNetwork], getattr(import_module(module), attribute))


def network_name(network: InterpolationNetwork) -> str:
    """Return the name of a network's class in `NETWORKS`; raises `SettingError` if the class is not in it."""
    for name in NETWORKS:
        if type(network) is network_class(name):
            return name
    cls = f"{type(network).__module__}:{type(network).__qualname__}"
    raise SettingError(f"{cls} is not in NETWORKS; there are: {', '.join(NETWORKS)}")
