"""Interpolate one frame between two frames that are given as arrays or tensors."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from midframe import networks
from midframe.errors import SettingError
from midframe.networks.base import FrameWindow, InterpolationNetwork
from midframe.synthesis import Synthesiser

Picture = TypeVar("Picture", Tensor, np.ndarray[Any, Any])

MIN_SIZE = 16
"""The smallest width and height of a frame in pixels."""

PEAKS = {"uint8": 255.0, "uint16": 65535.0}
"""The integer types that an array may have, and the code value of white."""


@torch.no_grad()
def interpolate(
    first: Picture,
    second: Picture,
    time: float = 0.5,
    *,
    network: str | InterpolationNetwork = "default",
    shader: str = "default",
) -> Picture:
    """Interpolate the frame at `time` in (0, 1) between two frames.

    first, second: torch `[3, H, W]` or `[B, 3, H, W]`, floating point in 0..1, or numpy `[H, W, 3]`, uint8, uint16 or
    floating point in 0..1. Both are RGB, gamma-encoded, of the same shape and type, at least 16x16.
    network: a name or the path of a weights file, loaded once per process onto the device of the frames; or a network,
    whose device is used. A network that predicts only the middle frame is applied recursively, which gives the frame at
    the nearest multiple of 1/8.
    shader: the name of a preset, `default` or `off`.

    Returns the same kind, shape and type as the frames, on the same device. Integers are rounded half up and clipped,
    floats are clipped to 0..1; the computation is in float32. If both frames are equal (for each pair of a batch), a
    copy of the frame is returned.

    Raises `SettingError` if the frames, the time or a name are not as above, and `WeightsError` if the network's
    prediction is not finite.
    """
    exact_time = _check_arguments(first, second, time)
    if isinstance(network, InterpolationNetwork):
        model = network
    else:
        model = networks.load_cached(network, first.device if isinstance(first, Tensor) else torch.device("cpu"))
    synthesiser = Synthesiser(model, shader)
    parameter = next(model.parameters(), None)
    inputs = _to_tensor(first), _to_tensor(second)
    if parameter is not None:
        inputs = inputs[0].to(parameter.device), inputs[1].to(parameter.device)
    differs = _pairs_that_differ(first, second)
    result = inputs[0].clone()
    if any(differs):
        index = torch.tensor(differs, device=result.device)
        pair = synthesiser.prepare(FrameWindow(inputs[0][index], inputs[1][index]))
        result[index] = pair.at(exact_time).frame
    return _restore_type(result, first, differs)


def _check_arguments(first: object, second: object, time: float) -> Fraction:
    """Return the time as a fraction; raise `SettingError` if `interpolate` cannot take the arguments."""
    if not isinstance(time, (int, float, Fraction, np.floating)) or not 0 < time < 1:
        raise SettingError(f"the time is {time}; it must be a number between the frames, above 0 and below 1")
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        valid, expected = _is_frame_tensor(first), "[3, H, W] or [B, 3, H, W], floating point in 0..1"
        height, width = first.shape[-2:] if valid else (0, 0)
        if first.device != second.device:
            raise SettingError(f"the frames are on different devices: {first.device} and {second.device}")
    elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        valid, expected = _is_frame_array(first), "[H, W, 3], uint8, uint16 or floating point in 0..1"
        height, width = first.shape[:2] if valid else (0, 0)
    else:
        types = f"{type(first).__name__} and {type(second).__name__}"
        raise SettingError(f"two frames of one kind are needed, torch tensors or numpy arrays, not {types}")
    if first.shape != second.shape or first.dtype != second.dtype:
        raise SettingError(
            f"the frames differ: {tuple(first.shape)} {first.dtype} and {tuple(second.shape)} {second.dtype}"
        )
    if not valid:
        raise SettingError(f"a frame is {expected}, RGB; found {tuple(first.shape)} {first.dtype}")
    if min(height, width) < MIN_SIZE:
        raise SettingError(f"a frame is at least {MIN_SIZE}x{MIN_SIZE}; found {width}x{height}")
    return time if isinstance(time, Fraction) else Fraction(float(time))


def _is_frame_tensor(frame: Tensor) -> bool:
    """Return whether dimensions and type of a tensor are those that `interpolate` takes."""
    return frame.ndim in (3, 4) and frame.shape[-3] == 3 and frame.is_floating_point() and frame.numel() > 0


def _is_frame_array(frame: np.ndarray[Any, Any]) -> bool:
    """Return whether dimensions and type of an array are those that `interpolate` takes."""
    return frame.ndim == 3 and frame.shape[-1] == 3 and (frame.dtype.kind == "f" or frame.dtype.name in PEAKS)


def _pairs_that_differ(first: Tensor | np.ndarray[Any, Any], second: Tensor | np.ndarray[Any, Any]) -> list[bool]:
    """Return for each pair of a batch whether its two frames differ; an array is a batch of one."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        batch = first.shape[0] if first.ndim == 4 else 1
        differs: list[bool] = (first != second).reshape(batch, -1).any(1).tolist()
        return differs
    return [not np.array_equal(first, second)]


def _to_tensor(picture: Tensor | np.ndarray[Any, Any]) -> Tensor:
    """Convert a frame or a batch of frames to float32 `[B, 3, H, W]` in 0..1."""
    if isinstance(picture, Tensor):
        return picture.float().reshape(-1, *picture.shape[-3:])
    values = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32))[None]
    peak = PEAKS.get(picture.dtype.name)
    return values if peak is None else values / peak


def _restore_type(result: Tensor, source: Picture, differs: list[bool]) -> Picture:
    """Convert frames `[B, 3, H, W]` to the kind, shape and type of `source`, clipped and rounded.

    Where a pair does not differ, the result is a copy of the source frame, bit for bit.
    """
    result = result.clamp(0, 1)
    if isinstance(source, Tensor):
        converted = result.to(source.device, source.dtype).reshape(source.shape)
        is_equal = torch.tensor([not differ for differ in differs], device=source.device)
        converted.view(-1, *source.shape[-3:])[is_equal] = source.reshape(-1, *source.shape[-3:])[is_equal]
        return converted
    if not any(differs):
        return source.copy()
    values = result[0].permute(1, 2, 0).cpu().numpy()
    peak = PEAKS.get(source.dtype.name)
    return values.astype(source.dtype) if peak is None else np.floor(values * peak + 0.5).astype(source.dtype)
