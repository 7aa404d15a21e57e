"""The operators: one folder each, with what it means (`reference.py`) and how it is made fast beside it."""

from midframe.ops.alignment import (
    correct_motion,
    half_luma,
    median_motion,
    motion_difference,
    normalise_contrast,
    propagate_motion,
)
from midframe.ops.comparable import comparable
from midframe.ops.cost_volume import cost_volume
from midframe.ops.separable import separable_convolution
from midframe.ops.taps import TapPattern
from midframe.ops.warp import warp

__all__ = [
    "TapPattern",
    "comparable",
    "correct_motion",
    "cost_volume",
    "half_luma",
    "median_motion",
    "motion_difference",
    "normalise_contrast",
    "propagate_motion",
    "separable_convolution",
    "warp",
]
