"""The networks by name."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from midframe.errors import SettingError
from midframe.networks.base import InterpolationNetwork

NETWORKS = {
    "average": "midframe.networks.average:Average",
    "paper": "midframe.networks.paper:Paper",
}
"""Each network by name: its module and class. A new network is one file and one line here."""

DEFAULT = "average"


def load(name: str = "default") -> InterpolationNetwork:
    """Give a network, ready to make frames.

    name: `default`, or one of `NETWORKS`. Raises `SettingError` for any other name.
    """
    name = DEFAULT if name == "default" else name
    if name not in NETWORKS:
        raise SettingError(f"there is no network '{name}'; there are: default, {', '.join(NETWORKS)}")
    module, _, attribute = NETWORKS[name].partition(":")
    network = cast(InterpolationNetwork, getattr(import_module(module), attribute)())
    return network.eval()
