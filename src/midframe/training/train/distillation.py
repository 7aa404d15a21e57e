"""A classical optical flow as the teacher of motion, while the network has none of its own."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from midframe.errors import DeviceError

_local = threading.local()


def teacher_motion(first: Tensor, target: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The motion from a frame to its neighbours that DIS finds, and how much it is to be believed.

    first, target, second: uint8 `[3, H, W]` RGB, H and W even. Returns motion `[4, H, W]` (to the first frame x, y,
    then to the second), in pixels, found at half the size, and trust `[1, H, W]`, 0..1: e^(-d / 8), d being the mean
    absolute difference in 0..255 that the motions leave between the moved frames and the target.
    Raises `DeviceError` where OpenCV is not installed. Source: DIS (Kroeger et al., ECCV 2016).
    """
    height, width = target.shape[-2:]
    gray = [_gray(frame) for frame in (target, first, second)]
    flows = [_flow(gray[0], other) for other in gray[1:]]
    left = sum(_difference(gray[0], other, flow) for other, flow in zip(gray[1:], flows, strict=True)) / 2
    small = np.concatenate([flow.transpose(2, 0, 1) * 2 for flow in flows])
    maps = torch.from_numpy(np.concatenate((small, np.exp(-left / 8)[None]))).float()
    full = torch.nn.functional.interpolate(maps[None], size=(height, width), mode="bilinear", align_corners=False)[0]
    return full[:4], full[4:]


def _flow(here: Any, there: Any) -> Any:
    if not hasattr(_local, "dis"):
        _local.dis = _opencv().DISOpticalFlow_create(_opencv().DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _local.dis.calc(here, there, None)


def _difference(here: Any, there: Any, flow: Any) -> Any:
    height, width = here.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cv2 = _opencv()
    moved = cv2.remap(there, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.abs(moved.astype(np.float32) - here)


def _gray(frame: Tensor) -> Any:
    cv2 = _opencv()
    gray = cv2.cvtColor(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise DeviceError("the teacher of motion needs OpenCV: pip install 'midframe[train]'") from error
    return cv2
