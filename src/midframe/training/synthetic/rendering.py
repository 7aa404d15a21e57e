"""Rendering of a synthetic scene: frames, ground-truth flow and visibility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from midframe.training.synthetic.geometry import pixel_grid
from midframe.training.synthetic.layer import Layer

OPAQUE = 0.5
"""Coverage above which a pixel counts as showing a layer."""

BLUR_STEP = 4
"""Approximate motion in pixels between two of the renderings that are averaged for motion blur."""

MAX_BLUR_STEPS = 4
"""Most renderings on either side of the frame's time that are averaged for motion blur."""


@dataclass(frozen=True)
class RenderedFrame:
    """A frame of a scene of S×S pixels."""

    picture: Tensor
    """RGB in 0..255, `[3, S, S]`."""
    layer_index: Tensor
    """The index of the layer that each pixel shows, uint8 `[S, S]`; the overlay's is the number of layers."""


def render_frame(
    layers: Sequence[Layer], time: float, size: int, *, overlay: Tensor | None = None, shutter: float = 0.0
) -> RenderedFrame:
    """Render a scene at a time.

    layers: from the background up. size: side S of the frame. overlay: still picture in front of all layers,
    `[4, S, S]`: RGB times coverage, and coverage. shutter: exposure as a fraction of the frame interval, centred at the
    time; renderings within it are averaged.
    """
    frame = _render_layers(layers, time, size)
    picture, layer_index = frame.picture, frame.layer_index
    if shutter:
        middle = (size - 1) / 2
        fastest = max(math.hypot(*layer.velocity.map_point(middle, middle)) for layer in layers)
        steps = min(MAX_BLUR_STEPS, max(1, math.ceil(shutter * fastest / BLUR_STEP)))
        count = 2 * steps + 1
        offsets = [shutter * k / count for k in range(-steps, steps + 1) if k]
        picture = sum((_render_layers(layers, time + offset, size).picture for offset in offsets), picture) / count
    if overlay is not None:
        picture.mul_(1 - overlay[3]).add_(overlay[:3])
        layer_index.masked_fill_(overlay[3] > OPAQUE, len(layers))
    return RenderedFrame(picture, layer_index)


def _render_layers(layers: Sequence[Layer], time: float, size: int) -> RenderedFrame:
    """Render a scene at one instant, without overlay."""
    x, y = pixel_grid(size, layers[0].texture.device)
    picture = layers[0].sample(time, x, y)
    layer_index = torch.zeros((size, size), dtype=torch.uint8, device=picture.device)
    for index, layer in enumerate(layers[1:], start=1):
        left, top, right, bottom = layer.bounding_box(time, size)
        if left >= right or top >= bottom:
            continue
        sampled = layer.sample(time, x[:, left:right], y[top:bottom])
        picture[:, top:bottom, left:right].lerp_(sampled[:3], sampled[3:])
        if layer.has_flow:
            layer_index[top:bottom, left:right].masked_fill_(sampled[3] > OPAQUE, index)
    return RenderedFrame(picture, layer_index)


def ground_truth_flow(layers: Sequence[Layer], layer_index: Tensor, time: float) -> Tensor:
    """Return the exact flow from each pixel of the frame at `time` to the first and to the second frame.

    layer_index: of the frame at `time`, `[S, S]` (see `RenderedFrame`). Returns `[4, S, S]`: the flow to time 0 (x, y)
    and to time 1 (x, y), in pixels; 0 under the overlay.
    """
    size = layer_index.shape[-1]
    x, y = pixel_grid(size, layer_index.device)
    velocity = torch.stack(layers[0].velocity_at(time, x, y))
    for index, layer in enumerate(layers[1:], start=1):
        left, top, right, bottom = layer.bounding_box(time, size)
        if layer.has_flow and left < right and top < bottom:
            layer_velocity = torch.stack(layer.velocity_at(time, x[:, left:right], y[top:bottom]))
            region = velocity[:, top:bottom, left:right]
            shows_layer = layer_index[top:bottom, left:right] == index
            region.copy_(torch.where(shows_layer, layer_velocity, region))
    velocity.masked_fill_(layer_index == len(layers), 0.0)
    return torch.cat((-time * velocity, (1 - time) * velocity))


def visibility_in(flow: Tensor, layer_index: Tensor, other_layer_index: Tensor) -> Tensor:
    """Return the visibility mask of a frame's pixels in another frame, `[S, S]`.

    flow: to the other frame, `[2, S, S]`. layer_index, other_layer_index: of the frame and of the other one. A pixel is
    visible (1) if its flow leads inside the picture to a pixel that shows the same layer; else it is occluded (0).
    """
    size = layer_index.shape[-1]
    x, y = pixel_grid(size, layer_index.device)
    u, v = flow[0] + x, flow[1] + y
    is_inside = (u >= 0) & (u <= size - 1) & (v >= 0) & (v <= size - 1)
    nearest = (v.round().clamp_(0, size - 1) * size + u.round().clamp_(0, size - 1)).long()
    return (is_inside & (other_layer_index.view(-1)[nearest] == layer_index)).float()
