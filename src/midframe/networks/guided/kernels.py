"""The adaptive kernels of the network `guided`: separable, and their weights sum to 1 by construction."""

from __future__ import annotations

import torch
from torch import Tensor


def adaptive_kernels(free_taps: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the decoder's output into vertical and horizontal kernels for each frame, `[B, 2, T, h, w]` each.

    A kernel is a delta plus taps whose sum is zero. The vertical kernels of the first frame are multiplied by
    visibility, those of the second by 1 − visibility. So the weights of a pixel sum to 1 without a division, also after
    the kernel maps are upsampled bilinearly.

    free_taps: `[B, 4T, h, w]`, taps for the first frame (vertical, horizontal), then for the second (vertical,
    horizontal). visibility: weight of the first frame `[B, 1, h, w]`, 0..1.
    """
    batch, channels, *size = free_taps.shape
    taps = channels // 4
    kernels = _sum_to_one(free_taps.reshape(batch, 2, 2, taps, *size))
    vertical, horizontal = kernels.unbind(2)
    frame_weights = torch.stack((visibility, 1 - visibility), 1)
    return vertical * frame_weights.to(vertical.dtype), horizontal


def _sum_to_one(free_taps: Tensor) -> Tensor:
    """Subtract the mean of the taps `[B, 2, 2, T, h, w]` and add a delta at the centre tap."""
    taps = free_taps.shape[3]
    delta = torch.zeros(taps, dtype=free_taps.dtype, device=free_taps.device)
    delta[taps // 2] = 1
    return free_taps - free_taps.mean(3, keepdim=True) + delta.view(-1, 1, 1)
