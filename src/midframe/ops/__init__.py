"""The operators that networks and training are built from, each with its backends in a folder of its own.

A folder holds the public function (`__init__.py`), the definition in plain torch (`reference.py`), the registration
with torch and the table of backends (`op.py`), and one module or package per backend (`halide`, `triton`, `pytorch`).
"""

from midframe.ops.cost_volume import cost_volume
from midframe.ops.separable import separable_convolution
from midframe.ops.taps import TapPattern
from midframe.ops.warp import warp

__all__ = ["TapPattern", "cost_volume", "separable_convolution", "warp"]
