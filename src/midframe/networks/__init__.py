"""Interpolation networks: their interface, their registry, and their weights."""

from midframe.networks.base import InterpolationNetwork
from midframe.networks.models import ModelInfo, list_models, load, load_cached
from midframe.networks.registry import NETWORKS, network_class, network_name
from midframe.networks.weights import WeightsInfo, load_weights, read_info

__all__ = [
    "NETWORKS",
    "InterpolationNetwork",
    "ModelInfo",
    "WeightsInfo",
    "list_models",
    "load",
    "load_cached",
    "load_weights",
    "network_class",
    "network_name",
    "read_info",
]
