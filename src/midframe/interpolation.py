"""One frame from two, as arrays or tensors."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from midframe import networks
from midframe import shader as pixel_shader
from midframe.errors import SettingError
from midframe.networks.base import InterpolationNetwork
from midframe.networks.times import frames_at
from midframe.shader import ShaderPreset

Picture = TypeVar("Picture", Tensor, np.ndarray[Any, Any])

SMALLEST = 16
"""The least width and height of a frame."""


@torch.no_grad()
def interpolate(
    first: Picture,
    second: Picture,
    time: float = 0.5,
    *,
    network: str | InterpolationNetwork = "default",
    shader: str = "default",
) -> Picture:
    """Make the frame at `time` in (0, 1) between two frames.

    first, second: torch `[3, H, W]` or `[B, 3, H, W]`, floating point in 0..1, or numpy `[H, W, 3]`, uint8, uint16 or
    floating point in 0..1; RGB, gamma-encoded, both alike, from 16x16. Returns the same kind, shape and type, on the
    same device: integers rounded half up and clipped, floats clipped to 0..1; computed in float32. network: a name, a
    weights file, or a network (whose device is used); of one that makes only the middle the nearest eighth is taken.
    shader: `default`, a preset's name, or `off`. Frames that are equal (each pair of a batch) come back as they are.

    Raises `SettingError` where the frames or the time are not as above.
    """
    when = _check(first, second, time)
    made = network if isinstance(network, InterpolationNetwork) else networks.load(network)
    preset = None if shader == "off" else pixel_shader.preset_named(shader)
    a, peak = _as_tensor(first)
    b, _ = _as_tensor(second)
    moving = _differ(first, second)
    parameter = next(made.parameters(), None)
    if parameter is not None:
        a, b = a.to(parameter.device), b.to(parameter.device)
    answer = a.clone()
    if any(moving):
        where = torch.tensor(moving, device=a.device)
        answer[where] = _between(made, a[where], b[where], when, preset)
    return _as_given(answer, first, peak, moving)


def _between(
    network: InterpolationNetwork, first: Tensor, second: Tensor, time: Fraction, preset: ShaderPreset | None
) -> Tensor:
    """The frames of a batch that really differ, made and shaded."""
    _, answer = next(frames_at(network, first, second, [time]))
    if preset is None or network.averages:
        return answer
    blend = pixel_shader.blend_map(first, second, preset)
    return pixel_shader.apply(answer, first, second, float(time), blend, preset)


def _check(first: object, second: object, time: float) -> Fraction:
    """The time as a fraction, if all is as it must be."""
    if not isinstance(time, (int, float, Fraction, np.floating)) or not 0 < time < 1:
        raise SettingError(f"the time is {time}; it must be a number between the frames, above 0 and below 1")
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        good = first.ndim in (3, 4) and first.shape[-3] == 3 and first.is_floating_point() and first.numel() > 0
        size = tuple(first.shape[-2:])
        wanted = "[3, H, W] or [B, 3, H, W], floating point in 0..1"
        if first.device != second.device:
            raise SettingError(f"the frames are on different devices: {first.device} and {second.device}")
    elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        good = first.ndim == 3 and first.shape[-1] == 3 and (first.dtype.kind == "f" or first.dtype.name in _PEAKS)
        size = tuple(first.shape[:2])
        wanted = "[H, W, 3], uint8, uint16 or floating point in 0..1"
    else:
        kinds = f"{type(first).__name__} and {type(second).__name__}"
        raise SettingError(f"two frames of one kind are needed, torch tensors or numpy arrays, not {kinds}")
    if first.shape != second.shape or first.dtype != second.dtype:
        raise SettingError(
            f"the frames differ: {tuple(first.shape)} {first.dtype} and {tuple(second.shape)} {second.dtype}"
        )
    if not good:
        raise SettingError(f"a frame is {wanted}, RGB; found {tuple(first.shape)} {first.dtype}")
    if min(size) < SMALLEST:
        raise SettingError(f"a frame is at least {SMALLEST}x{SMALLEST}; found {size[1]}x{size[0]}")
    return time if isinstance(time, Fraction) else Fraction(float(time))


def _differ(first: Tensor | np.ndarray[Any, Any], second: Tensor | np.ndarray[Any, Any]) -> list[bool]:
    """For each pair of a batch, whether its frames differ."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        batch = first.shape[0] if first.ndim == 4 else 1
        differs: list[bool] = (first != second).reshape(batch, -1).any(1).tolist()
        return differs
    return [not np.array_equal(first, second)]


_PEAKS = {"uint8": 255.0, "uint16": 65535.0}


def _as_tensor(picture: Tensor | np.ndarray[Any, Any]) -> tuple[Tensor, float]:
    """The picture as `[B, 3, H, W]` float32 in 0..1, and the code of white (0 for floats)."""
    if isinstance(picture, Tensor):
        return picture.float().reshape(-1, *picture.shape[-3:]), 0.0
    peak = _PEAKS.get(picture.dtype.name, 0.0)
    values = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32))[None]
    return values / peak if peak else values, peak


def _as_given(answer: Tensor, like: Picture, peak: float, moving: list[bool]) -> Picture:
    """What was made, as the given frames are; where nothing moves, the given frame itself."""
    answer = answer.clamp(0, 1)
    if isinstance(like, Tensor):
        given = answer.to(like.device, like.dtype).reshape(like.shape)
        still = torch.tensor([not moves for moves in moving], device=like.device)
        given.view(-1, *like.shape[-3:])[still] = like.reshape(-1, *like.shape[-3:])[still]
        return given
    if not any(moving):
        return like.copy()
    values = answer[0].permute(1, 2, 0).cpu().numpy()
    return np.floor(values * peak + 0.5).astype(like.dtype) if peak else values.astype(like.dtype)
