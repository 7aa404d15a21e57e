"""Choose the device that networks compute on."""

from __future__ import annotations

import torch

from midframe.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """Return the torch device of this name; `auto` takes CUDA, then MPS, then the CPU.

    Raises `DeviceError` if a named device is unknown or cannot be used on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"the device '{name}' cannot be used: {str(error).splitlines()[0]}") from None
    return torch.device(name)
