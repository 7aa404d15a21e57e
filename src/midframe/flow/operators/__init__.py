"""The operators that `estimate_flow` consists of; private to this package.

All of them share these conventions:

- frames `[2B, 1, H, W]`: one channel, the B first frames before the B second frames.
- flow `[B, 2, H, W]`: u = (horizontal, vertical) in pixels, half of the displacement between the two frames.
- time `[B]`: t in (0, 1), one per sample.
- The warped frames are I1(p) = first(p − 2t u(p)) and I2(p) = second(p + 2(1−t) u(p)), sampled bilinearly; outside of
  the frame the nearest pixel is read. If u is correct, I1 = I2. The residual is It = I2 − I1.
- backend: `auto`, `reference`, `halide` (CPU) or `torch`.

Computation and results are float32 (float64 if the first tensor is float64), without gradients. Near NaN and infinite
inputs the results are undefined and differ between backends. Every operator raises `SettingError` for shapes and types
that do not fit, and `DeviceError` if a named backend cannot run.
"""

from midframe.flow.operators.downsampled_luma import downsampled_luma
from midframe.flow.operators.lucas_kanade_update import lucas_kanade_update
from midframe.flow.operators.median_filter import median_filter
from midframe.flow.operators.normalise_local_contrast import normalise_local_contrast
from midframe.flow.operators.photometric_cost import photometric_cost
from midframe.flow.operators.propagate_flow import propagate_flow

__all__ = [
    "downsampled_luma",
    "lucas_kanade_update",
    "median_filter",
    "normalise_local_contrast",
    "photometric_cost",
    "propagate_flow",
]
