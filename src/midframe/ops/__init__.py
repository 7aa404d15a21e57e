"""The operators: one folder each, with what it means (`reference.py`) and how it is made fast beside it."""

from midframe.ops.separable import separable_convolution
from midframe.ops.taps import TapPattern

__all__ = ["TapPattern", "separable_convolution"]
