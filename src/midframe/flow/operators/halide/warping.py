"""Inputs and bilinear warping for the Halide pipelines of the flow operators."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from midframe.ops.halide.layouts import variables


def separate_frames(frames: Tensor) -> Tensor:
    """Return frames `[2B, 1, H, W]` as `[2, B, H, W]`: the first frames and the second frames."""
    return frames.contiguous().view(2, -1, *frames.shape[2:])


def frame_flow_time_inputs() -> tuple[Any, Any, Any]:
    """Return the pipeline inputs frames (x, y, n, s), flow (x, y, c, n) and time (n)."""
    import halide as hl

    return (
        hl.ImageParam(hl.Float(32), 4, "frames"),
        hl.ImageParam(hl.Float(32), 4, "flow"),
        hl.ImageParam(hl.Float(32), 1, "time"),
    )


def warped_pixel(frames: Any, flow: list[Any], time: Any, size: tuple[Any, Any], s: Any) -> Any:
    """Return the pixel (x, y, n) of the warped frame s, sampled as `midframe.ops.warp` does.

    s: 0 for the first, 1 for the second frame. flow: the expressions of u (horizontal, vertical) at this pixel. size:
    the expressions of width and height.
    """
    import halide as hl

    x, y, _, n = variables()
    scale = hl.select(s == 0, -2 * time[n], 2 * (1 - time[n]))
    corners = []
    for pixel, displacement, extent in zip((x, y), flow, size, strict=True):
        position = pixel + displacement * scale
        clamped = hl.select(position > 0, hl.min(position, hl.cast(hl.Float(32), extent - 1)), 0.0)
        corner = hl.clamp(hl.cast(hl.Int(32), clamped), 0, extent - 1)
        corners.append((corner, hl.min(corner + 1, extent - 1), clamped - corner))
    (left, right, a), (top, bottom, b) = corners
    upper, lower = ((1 - a) * frames[left, row, n, s] + a * frames[right, row, n, s] for row in (top, bottom))
    return (1 - b) * upper + b * lower
