"""Synthetic training samples: textured layers under smooth motion, whose middle frame and flow are known exactly."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from midframe.errors import SettingError
from midframe.training.synthetic.overlay import random_overlay
from midframe.training.synthetic.rendering import RenderedFrame, ground_truth_flow, render_frame, visibility_in
from midframe.training.synthetic.scene import DEFAULT_SCENE, SceneSettings, compose_scene


@dataclass(frozen=True)
class SyntheticSample:
    """Two frames of S×S pixels, the true frame between them, and its exact flow to both."""

    first: Tensor
    """The first frame, `[3, S, S]`, float32, RGB in 0..255."""
    target: Tensor
    """The frame between, as `first`."""
    second: Tensor
    """The second frame, as `first`."""
    flow: Tensor
    """The flow from the target to the first frame (x, y) and to the second (x, y), in pixels, `[4, S, S]`."""
    visibility: Tensor
    """Whether each pixel of the target is visible in the first and in the second frame, 1 or 0, `[2, S, S]`."""


def render_sample(
    textures: Sequence[Tensor],
    generator: torch.Generator,
    *,
    size: int,
    time: float = 0.5,
    settings: SceneSettings = DEFAULT_SCENE,
) -> SyntheticSample:
    """Render a random sample: a background and foreground layers, each textured by a picture and moving on its own.

    textures: real pictures, uint8 `[3, H, W]`, of any sizes, on one device; the sample is rendered on that device.
    generator: a CPU generator, from which all random numbers come. size: side S of the frames, 16 or more. time: of the
    target, in (0, 1); the two frames do not depend on it.

    Each layer has an affine velocity field, the sum of the camera's motion and its own; some are bent by waves besides.
    A point of a layer moves in a straight line at constant speed, so flow[:2] / time == −flow[2:] / (1 − time).
    Raises `SettingError` for textures, a size or a time out of range.
    Source: the idea of FlyingChairs (Dosovitskiy et al., arXiv 1504.06852) and AutoFlow (arXiv 2104.14544).
    """
    if not textures or size < 16 or not 0 < time < 1:
        found = f"{len(textures)} textures, size {size}, time {time}"
        raise SettingError(f"a drawn sample needs a texture or more, a size from 16 and a time in (0, 1); got {found}")
    rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
    layers = compose_scene(textures, rng, generator, size, settings)
    device = textures[0].device
    overlay = random_overlay(rng, generator, size).to(device) if rng.random() < settings.overlay else None
    shutter = rng.uniform(0.1, 0.45) if rng.random() < settings.motion_blur else 0.0
    first, target, second = (
        render_frame(layers, frame_time, size, overlay=overlay, shutter=shutter) for frame_time in (0.0, time, 1.0)
    )
    pictures = [first.picture, target.picture, second.picture]
    if rng.random() < settings.brightness_drift:
        pictures = _drift_brightness(pictures, (0.0, time, 1.0), rng)
    if rng.random() < settings.noise:
        noise = torch.randn((2, 3, size, size), generator=generator).to(device) * rng.uniform(1.0, 8.0)
        pictures = [pictures[0] + noise[0], pictures[1], pictures[2] + noise[1]]
    flow = ground_truth_flow(layers, target.layer_index, time)
    first_picture, target_picture, second_picture = (picture.clamp_(0, 255) for picture in pictures)
    return SyntheticSample(
        first_picture, target_picture, second_picture, flow, _visibility_in_both(flow, first, target, second)
    )


def _drift_brightness(pictures: Sequence[Tensor], times: Sequence[float], rng: random.Random) -> list[Tensor]:
    """Change contrast and brightness linearly with time; nothing changes at time ½."""
    gain, offset = rng.gauss(0, 0.15), rng.gauss(0, 15.0)
    return [
        picture * (1 + (time - 0.5) * gain) + (time - 0.5) * offset
        for picture, time in zip(pictures, times, strict=True)
    ]


def _visibility_in_both(flow: Tensor, first: RenderedFrame, target: RenderedFrame, second: RenderedFrame) -> Tensor:
    """Return the visibility of the target's pixels in the first and in the second frame, `[2, S, S]`."""
    in_first = visibility_in(flow[:2], target.layer_index, first.layer_index)
    in_second = visibility_in(flow[2:], target.layer_index, second.layer_index)
    return torch.stack([in_first, in_second])
