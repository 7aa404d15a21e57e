"""Random shapes for foreground layers, as signed distance fields."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 5
"""Pixels between a shape and the edge of its distance field, for soft edges."""

SHAPE_WEIGHTS = {"blob": 0.45, "polygon": 0.2, "ellipse": 0.1, "bar": 0.13, "fence": 0.12}
"""The probability of each shape. A bar is a rectangle a few pixels wide; a fence is a row of parallel bars."""

HOLLOW_PROBABILITY = 0.12
"""The probability that a shape other than a bar is hollow: only a wall along its edge is left."""


def random_shape(rng: random.Random, generator: torch.Generator, radius: float, density: float) -> Tensor:
    """Return the signed distance to the edge of a random shape, in pixels, negative inside: `[h, w]`.

    radius: the larger half-axis of the shape in pixels. density: samples of the distance field per pixel.
    """
    kind = rng.choices(tuple(SHAPE_WEIGHTS), tuple(SHAPE_WEIGHTS.values()))[0]
    minor_radius = radius * rng.uniform(0.45, 1.0)
    if kind == "bar":
        minor_radius = min(radius, rng.uniform(0.7, 4.0))
    width, height = (2 * math.ceil(density * (side + MARGIN)) for side in (radius, minor_radius))
    x = (torch.arange(width) - (width - 1) / 2)[None] / density
    y = (torch.arange(height) - (height - 1) / 2)[:, None] / density
    rectangle = torch.maximum(x.abs() - radius, y.abs() - minor_radius)
    if kind == "blob":
        distance = _blob(rng, generator, (radius, minor_radius), (height, width), density)
    elif kind == "polygon":
        distance = _polygon(rng, (radius, minor_radius), x, y)
    elif kind == "ellipse":
        distance = _ellipse((radius, minor_radius), x, y)
    else:
        distance = rectangle
    if kind == "fence":
        period = max(5.0, radius * rng.uniform(0.15, 0.6))
        bars = (torch.remainder(x, period) - period / 2).abs() - period * rng.uniform(0.12, 0.35)
        distance = torch.maximum(distance, bars)
    if kind != "bar" and rng.random() < HOLLOW_PROBABILITY:
        wall = radius * rng.uniform(0.05, 0.2)
        distance = (distance + wall).abs() - wall
    return torch.maximum(distance, rectangle)


def _blob(
    rng: random.Random,
    generator: torch.Generator,
    radii: tuple[float, float],
    shape: tuple[int, int],
    density: float,
) -> Tensor:
    """Return the distance field of a blob, which may have holes and islands.

    The blob is the region in which smooth noise minus the squared distance from the centre is positive. radii:
    half-axes along x and y. shape: (height, width) of the distance field.
    """
    coarse_shape = [max(8, side // 4) for side in shape]
    cells = rng.randint(4, 8)
    noise = torch.randn((1, 1, cells, cells), generator=generator)
    noise = F.interpolate(noise, size=coarse_shape, mode="bicubic", align_corners=True)[0, 0]
    x = torch.linspace(-1, 1, coarse_shape[1])[None] * (1 + MARGIN / radii[0])
    y = torch.linspace(-1, 1, coarse_shape[0])[:, None] * (1 + MARGIN / radii[1])
    level = 0.6 - (x * x + y * y) + rng.uniform(0.15, 0.5) * noise
    gradient_rows, gradient_columns = torch.gradient(level)
    spacing = [side / density / coarse for side, coarse in zip(shape, coarse_shape, strict=True)]
    slope = torch.sqrt((gradient_rows / spacing[0]) ** 2 + (gradient_columns / spacing[1]) ** 2)
    distance = -level / slope.clamp_min(0.3 / radii[0])
    return F.interpolate(distance[None, None], size=shape, mode="bilinear", align_corners=True)[0, 0]


def _polygon(rng: random.Random, radii: tuple[float, float], x: Tensor, y: Tensor) -> Tensor:
    """Return the distance field of a convex polygon: the intersection of 3 to 7 half-planes around the centre."""
    sides = rng.randint(3, 7)
    start = rng.uniform(0, math.tau)
    distance = torch.full((y.shape[0], x.shape[1]), -math.inf)
    for side in range(sides):
        angle = start + math.tau * (side + rng.uniform(-0.25, 0.25)) / sides
        normal = (math.cos(angle), math.sin(angle))
        centre_distance = math.hypot(radii[0] * normal[0], radii[1] * normal[1]) * rng.uniform(0.5, 0.95)
        distance = torch.maximum(distance, x * normal[0] + (y * normal[1] - centre_distance))
    return distance


def _ellipse(radii: tuple[float, float], x: Tensor, y: Tensor) -> Tensor:
    """Return the distance to an ellipse to first order: the implicit function divided by its gradient's length."""
    u, v = x / radii[0], y / radii[1]
    length = torch.sqrt(u * u + v * v)
    slope = torch.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2).clamp_min(1e-6)
    return torch.where(length < 1e-3, torch.tensor(-radii[1]), (length - 1) * length / slope)
