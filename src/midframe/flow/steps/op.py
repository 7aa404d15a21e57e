"""The steps of an alignment as torch sees them where Halide runs: operators of `torch.library`, without gradients."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("midframe::half_luma", mutates_args=(), device_types="cpu")
def half_luma(frames: Tensor) -> Tensor:
    from midframe.flow.steps import halide

    return halide.half_luma(frames)


@torch.library.custom_op("midframe::normalise_contrast", mutates_args=(), device_types="cpu")
def normalise_contrast(frames: Tensor) -> Tensor:
    from midframe.flow.steps import halide

    return halide.normalise_contrast(frames)


@torch.library.custom_op("midframe::propagate_motion", mutates_args=(), device_types="cpu")
def propagate_motion(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    from midframe.flow.steps import halide

    return halide.propagate_motion(frames, motion, time)


@torch.library.custom_op("midframe::correct_motion", mutates_args=(), device_types="cpu")
def correct_motion(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    from midframe.flow.steps import halide

    return halide.correct_motion(frames, motion, time)


@torch.library.custom_op("midframe::median_motion", mutates_args=(), device_types="cpu")
def median_motion(motion: Tensor) -> Tensor:
    from midframe.flow.steps import halide

    return halide.median_motion(motion)


@half_luma.register_fake
def _(frames: Tensor) -> Tensor:
    batch, _, height, width = frames.shape
    return torch.empty((batch, 1, height // 2, width // 2), dtype=frames.dtype, device=frames.device)


@normalise_contrast.register_fake
def _(frames: Tensor) -> Tensor:
    return torch.empty(frames.shape, dtype=frames.dtype, device=frames.device)


@propagate_motion.register_fake
def _(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    return torch.empty(motion.shape, dtype=motion.dtype, device=motion.device)


@correct_motion.register_fake
def _(frames: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    return torch.empty(motion.shape, dtype=motion.dtype, device=motion.device)


@median_motion.register_fake
def _(motion: Tensor) -> Tensor:
    return torch.empty(motion.shape, dtype=motion.dtype, device=motion.device)
