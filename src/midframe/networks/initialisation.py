"""Initialise the weights of convolutions."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from midframe.errors import SettingError

Initialisation = Literal["convolution-aware", "glorot"]


def initialise(module: nn.Module, method: Initialisation) -> None:
    """Initialise the weights of all 2-D convolutions in `module`, and set their biases to zero.

    method: `convolution-aware`, see `convolution_aware_`; or `glorot`, uniform in ±sqrt(6 / (fan in + fan out)).
    Random numbers come from the default generator of torch. Raises `SettingError` for any other method.
    """
    if method not in get_args(Initialisation):
        raise SettingError(f"there is no initialisation '{method}'; there are: {', '.join(get_args(Initialisation))}")
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if method == "glorot":
                nn.init.xavier_uniform_(layer.weight)
            else:
                convolution_aware_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def convolution_aware_(weight: Tensor, noise: float = 0.05) -> Tensor:
    """Fill the weight `[out, in, h, w]` of a convolution by convolution-aware initialisation, and return it.

    For each output channel, the Fourier spectra of its `in` kernels are random orthonormal vectors, so that the kernels
    respond to different frequencies. If there are more kernels than Fourier coefficients, several orthonormal bases are
    used. The kernels are the inverse transforms of the spectra plus normal noise, which breaks the symmetry of real
    spectra. They are scaled to the variance 2 / fan in (He). noise: standard deviation of the noise.
    Source: A. Aghajanyan, arXiv 1702.06295.
    """
    if weight.is_meta:  # A weights file is being read: only names and shapes are needed.
        return weight
    outputs, inputs, height, width = weight.shape
    coefficients = height * (width // 2 + 1)
    bases = -(-inputs // coefficients)
    spectra = _orthonormal_bases(outputs * bases, coefficients, weight.device).reshape(outputs, -1, coefficients)
    # One matrix product with the transforms of the unit vectors; a million tiny Fourier transforms would take seconds.
    units = torch.eye(coefficients, dtype=torch.complex64, device=weight.device)
    inverse = torch.fft.irfft2(units.view(coefficients, height, -1), s=(height, width)).flatten(1)
    kernels = (spectra[:, :inputs] @ inverse).view(outputs, inputs, height, width)
    kernels += noise * torch.randn_like(kernels)
    kernels *= (2.0 / (inputs * height * width) / kernels.var(correction=0)).sqrt()
    return weight.copy_(kernels)


def _orthonormal_bases(count: int, size: int, device: torch.device) -> Tensor:
    """Draw random orthonormal bases `[count, size, size]`, one vector in each row, by Gram-Schmidt on all at once."""
    bases = torch.randn(size, size, count, device=device)
    for k in range(size):
        for other in bases[:k]:
            bases[k] -= (other * bases[k]).sum(0) * other
        bases[k] /= bases[k].norm(dim=0)
    return bases.permute(2, 0, 1)
