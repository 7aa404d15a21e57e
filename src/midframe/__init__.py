"""Frame interpolation for films by adaptive separable convolution.

- `convert(source, target)` converts a film to a higher frame rate and keeps everything else in it.
- `interpolate(first, second, time)` interpolates one frame between two.
- `load(name)` loads an interpolation network.
- `separable_convolution` is the operator that the networks are built on; a `TapPattern` chooses the pixels it reads.

The names are imported when they are first used, so that `import midframe` does not import PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from midframe.version import __version__

if TYPE_CHECKING:
    from midframe.conversion import convert
    from midframe.interpolation import interpolate
    from midframe.networks import load
    from midframe.ops import separable_convolution
    from midframe.ops.taps import TapPattern

__all__ = ["TapPattern", "__version__", "convert", "interpolate", "load", "separable_convolution"]

_PUBLIC = {
    "TapPattern": "midframe.ops.taps",
    "convert": "midframe.conversion",
    "interpolate": "midframe.interpolation",
    "load": "midframe.networks",
    "separable_convolution": "midframe.ops",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'midframe' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
