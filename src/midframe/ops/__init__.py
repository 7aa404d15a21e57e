"""The operators: one folder each, with what it means (`reference.py`) and how it is made fast beside it."""

from midframe.ops.separable import separable_convolution

__all__ = ["separable_convolution"]
