"""Affine maps and waves: the geometry of a moving layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """The affine map (x, y) → (a·x + b·y + c, d·x + e·y + f): a change of coordinates, or a field of velocities."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def after(self, other: Affine) -> Affine:
        """Return the map that applies `other` first and then this one."""
        return Affine(
            self.a * other.a + self.b * other.d,
            self.a * other.b + self.b * other.e,
            self.a * other.c + self.b * other.f + self.c,
            self.d * other.a + self.e * other.d,
            self.d * other.b + self.e * other.e,
            self.d * other.c + self.e * other.f + self.f,
        )

    def inverse(self) -> Affine:
        """Return the inverse map."""
        determinant = self.a * self.e - self.b * self.d
        a, b, d, e = (v / determinant for v in (self.e, -self.b, -self.d, self.a))
        return Affine(a, b, -a * self.c - b * self.f, d, e, -d * self.c - e * self.f)

    def plus(self, other: Affine, factor: float = 1.0) -> Affine:
        """Return the sum of this map and `factor` times another one."""
        return Affine(
            self.a + factor * other.a,
            self.b + factor * other.b,
            self.c + factor * other.c,
            self.d + factor * other.d,
            self.e + factor * other.e,
            self.f + factor * other.f,
        )

    def map_point(self, x: float, y: float) -> tuple[float, float]:
        """Return the image of one point."""
        return self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f

    def map_grid(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of many points. x, y: coordinates `[1, W]` and `[H, 1]`, or both `[H, W]`."""
        return x * self.a + (y * self.b + self.c), x * self.d + (y * self.e + self.f)


IDENTITY = Affine(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ZERO = Affine(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""The velocity field of a still layer."""


@dataclass(frozen=True)
class Wave:
    """A field of velocities, amplitude · sin(frequency · (x, y) + phase), that bends a layer."""

    frequency: tuple[float, float]
    """In radians per pixel, along x and y."""
    phase: float
    """In radians."""
    amplitude: tuple[float, float]
    """In pixels per frame interval, along x and y."""

    @property
    def speed(self) -> float:
        """Return the largest speed, in pixels per frame interval."""
        return math.hypot(*self.amplitude)

    @property
    def slope(self) -> float:
        """Return the largest change of the velocity, per pixel."""
        return math.hypot(*self.amplitude) * math.hypot(*self.frequency)


def pixel_grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the x coordinates `[1, size]` and the y coordinates `[size, 1]` of a square picture's pixels."""
    coordinates = torch.arange(size, dtype=torch.float32, device=device)
    return coordinates[None], coordinates[:, None]
