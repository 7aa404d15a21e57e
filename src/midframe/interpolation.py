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

Picture = TypeVar("Picture", Tensor, np.ndarray[Any, Any])

SMALLEST = 16
"""The least width and height of a frame."""


@torch.inference_mode()
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
    floating point in 0..1; RGB, gamma-encoded, both alike, from 16x16. Returns the same kind, shape and type: integers
    rounded half up and clipped, floats clipped to 0..1. network: a name, a weights file, or a network (whose device is
    used); of one that makes only the middle the nearest eighth is taken. shader: `default`, a preset's name, or `off`.
    Equal frames come back as they are.

    Raises `SettingError` where the frames or the time are not as above.
    """
    _check(first, second, time)
    made = network if isinstance(network, InterpolationNetwork) else networks.load(network)
    preset = None if shader == "off" or made.averages else pixel_shader.preset_named(shader)
    a, peak = _as_tensor(first)
    b, _ = _as_tensor(second)
    if torch.equal(a, b):
        return first.clone() if isinstance(first, Tensor) else first.copy()
    parameter = next(made.parameters(), None)
    home = a.device
    if parameter is not None:
        a, b = a.to(parameter.device), b.to(parameter.device)
    when = Fraction(time)
    answer = frames_at(made, a, b, [when])[when]
    if preset is not None:
        answer = pixel_shader.apply(answer, a, b, time, pixel_shader.blend_map(a, b, preset), preset)
    return _as_given(answer.to(home), first, peak)


def _check(first: object, second: object, time: float) -> None:
    if not 0 < time < 1:
        raise SettingError(f"the time is {time}; it lies between the frames, above 0 and below 1")
    if type(first) is not type(second) or not isinstance(first, (Tensor, np.ndarray)):
        raise SettingError(
            f"two frames of one kind are needed, tensors or arrays, not {type(first)} and {type(second)}"
        )
    assert isinstance(second, (Tensor, np.ndarray))
    if first.shape != second.shape or first.dtype != second.dtype:
        raise SettingError(
            f"the frames differ: {tuple(first.shape)} {first.dtype} and {tuple(second.shape)} {second.dtype}"
        )
    if isinstance(first, Tensor):
        good = first.ndim in (3, 4) and first.shape[-3] == 3 and first.is_floating_point()
        height, width = first.shape[-2:]
        wanted = "[3, H, W] or [B, 3, H, W], floating point in 0..1"
    else:
        good = first.ndim == 3 and first.shape[-1] == 3 and (first.dtype.kind == "f" or first.dtype.name in _PEAKS)
        height, width = first.shape[:2]
        wanted = "[H, W, 3], uint8, uint16 or floating point in 0..1"
    if not good:
        raise SettingError(f"a frame is {wanted}, RGB; found {tuple(first.shape)} {first.dtype}")
    if min(height, width) < SMALLEST:
        raise SettingError(f"a frame is at least {SMALLEST}x{SMALLEST}; found {width}x{height}")


_PEAKS = {"uint8": 255.0, "uint16": 65535.0}


def _as_tensor(picture: Tensor | np.ndarray[Any, Any]) -> tuple[Tensor, float]:
    """The picture as `[B, 3, H, W]` float32 in 0..1, and the code of white (0 for floats)."""
    if isinstance(picture, Tensor):
        return picture.float().reshape(-1, *picture.shape[-3:]), 0.0
    peak = _PEAKS.get(picture.dtype.name, 0.0)
    values = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32))[None]
    return values / peak if peak else values, peak


def _as_given(answer: Tensor, like: Picture, peak: float) -> Picture:
    answer = answer.clamp(0, 1)
    if isinstance(like, Tensor):
        return answer.reshape(like.shape).to(like.dtype)
    values = answer[0].permute(1, 2, 0).cpu().numpy()
    return np.floor(values * peak + 0.5).astype(like.dtype) if peak else values.astype(like.dtype)
