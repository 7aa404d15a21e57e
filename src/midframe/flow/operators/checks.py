"""Check the inputs of the flow operators and convert them to the type in which the operators compute."""

from __future__ import annotations

import torch
from torch import Tensor

from midframe.errors import SettingError


def check_frames_flow_time(
    operator: str, frames: Tensor, flow: Tensor, time: Tensor, channels: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames `[2B, channels, H, W]`, flow `[B, 2, H, W]` and time `[B]` in the working type.

    Raises `SettingError`, which names the operator, if shapes, types or devices do not fit together.
    """
    found = f"got {list(frames.shape)}, {list(flow.shape)} and {list(time.shape)}"
    if flow.dim() != 4 or flow.shape[1] != 2 or 0 in flow.shape:
        raise SettingError(f"{operator} takes flow [B, 2, H, W]; {found}")
    batch, _, height, width = flow.shape
    if frames.shape != (2 * batch, channels, height, width) or time.shape != (batch,):
        raise SettingError(f"{operator} takes frames [2B, {channels}, H, W], flow [B, 2, H, W] and time [B]; {found}")
    if not all(tensor.is_floating_point() for tensor in (frames, flow, time)):
        raise SettingError(f"{operator} takes floating point tensors; got {frames.dtype}, {flow.dtype}, {time.dtype}")
    if not frames.device == flow.device == time.device:
        raise SettingError(
            f"the inputs of {operator} must be on one device; got {frames.device}, {flow.device}, {time.device}"
        )
    dtype = working_type(frames)
    return frames.to(dtype), flow.to(dtype), time.to(dtype)


def working_type(tensor: Tensor) -> torch.dtype:
    """Return the type in which an operator computes on this tensor: float64 for float64, else float32."""
    return torch.promote_types(tensor.dtype, torch.float32)
