"""Teacher flow for distillation: DIS, a classical optical flow, on samples without ground-truth flow."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from midframe.errors import DeviceError

ERROR_SCALE = 8.0
"""Residual after warping, in 0..255, at which the confidence in the flow has fallen to 1/e."""

_thread_local = threading.local()
"""Keeps one DIS instance per thread: an instance must not be used by two threads at once."""


def estimate_teacher_flow(first: Tensor, target: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the optical flow from a frame to both neighbours by DIS, and the confidence in it.

    first, target, second: uint8 `[3, H, W]`, RGB, H and W even. Returns the flow from the target to the first frame
    (x, y) and to the second (x, y), `[4, H, W]`, in pixels, estimated at half resolution; and the confidence
    `[1, H, W]`, exp(−d / `ERROR_SCALE`), d being the mean absolute difference (0..255) between the target and the two
    frames warped to it. Raises `DeviceError` if OpenCV is not installed. Source: DIS (Kroeger et al., ECCV 2016).
    """
    height, width = target.shape[-2:]
    target_gray, *neighbours = (_half_resolution_gray(frame) for frame in (target, first, second))
    flows = [_dis_flow(target_gray, neighbour) for neighbour in neighbours]
    residuals = [_residual(target_gray, other, flow) for other, flow in zip(neighbours, flows, strict=True)]
    confidence = np.exp(-(sum(residuals) / 2) / ERROR_SCALE)
    full_scale_flows = np.concatenate([flow.transpose(2, 0, 1) * 2 for flow in flows])
    maps = torch.from_numpy(np.concatenate((full_scale_flows, confidence[None]))).float()
    maps = torch.nn.functional.interpolate(maps[None], size=(height, width), mode="bilinear", align_corners=False)[0]
    return maps[:4], maps[4:]


def _dis_flow(source: Any, target: Any) -> Any:
    """Return the flow `[H, W, 2]` (x, y) from a grey picture to another one."""
    if not hasattr(_thread_local, "dis"):
        _thread_local.dis = _opencv().DISOpticalFlow_create(_opencv().DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _thread_local.dis.calc(source, target, None)


def _residual(source: Any, target: Any, flow: Any) -> Any:
    """Return the absolute difference between a grey picture and another one warped to it by the flow."""
    height, width = source.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cv2 = _opencv()
    warped = cv2.remap(target, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.abs(warped.astype(np.float32) - source)


def _half_resolution_gray(frame: Tensor) -> Any:
    cv2 = _opencv()
    gray = cv2.cvtColor(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise DeviceError("the teacher of motion needs OpenCV: pip install 'midframe[train]'") from error
    return cv2
