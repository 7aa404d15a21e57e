"""How the weights of a convolution start."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from midframe.errors import SettingError

Initialisation = Literal["convolution-aware", "glorot"]


def initialise(module: nn.Module, how: Initialisation) -> None:
    """Set the weights of all 2-D convolutions in `module` anew, and their biases to zero.

    `convolution-aware`: see `convolution_aware_`. `glorot`: uniform in ±sqrt(6 / (fan in + fan out)). Random numbers
    come from torch's generator. Raises `SettingError` for any other name.
    """
    if how not in get_args(Initialisation):
        raise SettingError(f"there is no initialisation '{how}'; there are: {', '.join(get_args(Initialisation))}")
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            if how == "glorot":
                nn.init.xavier_uniform_(part.weight)
            else:
                convolution_aware_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@torch.no_grad()
def convolution_aware_(weight: Tensor, noise: float = 0.05) -> Tensor:
    """Fill a convolution's weight `[out, in, h, w]` by convolution-aware initialisation, and return it.

    For each output channel the spectra of its `in` kernels are random orthonormal vectors (as many bases as are needed,
    where there are more kernels than coefficients), so that they see different frequencies; their inverse transforms
    plus normal noise, which breaks the symmetry of real spectra, are scaled to the variance 2 / fan in (He).
    Source: A. Aghajanyan, arXiv 1702.06295.
    """
    if weight.is_meta:  # names and shapes alone are wanted, as when a weights file is read
        return weight
    outputs, inputs, height, width = weight.shape
    coefficients = height * (width // 2 + 1)
    bases = -(-inputs // coefficients)
    spectra = _orthonormal_bases(outputs * bases, coefficients, weight).reshape(outputs, -1, coefficients)
    # One product with the transforms of the unit vectors: a million tiny Fourier transforms take seconds.
    units = torch.eye(coefficients, dtype=torch.complex64, device=weight.device)
    inverse = torch.fft.irfft2(units.view(coefficients, height, -1), s=(height, width)).flatten(1)
    kernels = (spectra[:, :inputs] @ inverse).view(outputs, inputs, height, width)
    kernels += noise * torch.randn_like(kernels)
    kernels *= (2.0 / (inputs * height * width) / kernels.var(correction=0)).sqrt()
    return weight.copy_(kernels)


def _orthonormal_bases(count: int, size: int, like: Tensor) -> Tensor:
    """Random orthonormal bases `[count, size, size]`, a vector a row: Gram-Schmidt, all bases at once."""
    bases = torch.randn(size, size, count, device=like.device)
    for k in range(size):
        for other in bases[:k]:
            bases[k] -= (other * bases[k]).sum(0) * other
        bases[k] /= bases[k].norm(dim=0)
    return bases.permute(2, 0, 1)
