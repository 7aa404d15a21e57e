"""The operators: one folder each, with what it means (`reference.py`) and how it is made fast beside it."""

from midframe.ops.cost_volume import cost_volume
from midframe.ops.feature_normalisation import comparable
from midframe.ops.separable import separable_convolution
from midframe.ops.taps import TapPattern
from midframe.ops.warp import warp

__all__ = [
    "TapPattern",
    "comparable",
    "cost_volume",
    "separable_convolution",
    "warp",
]
