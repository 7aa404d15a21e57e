"""Shapes for drawn samples: outlines of cut-outs, and captions."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 5
"""Pixels left free around an outline, for soft edges."""


def outline(generator: torch.Generator, chance: random.Random, radius: float, density: float) -> Tensor:
    """The distance to the edge of a random shape, in pixels, negative inside: `[h, w]`, `density` values a pixel.

    A blob, a polygon, an ellipse, a thin bar or a fence of bars, sometimes hollow; its half-axes are `radius` and less.
    All of it ends `MARGIN` pixels before the edge of the map.
    """
    kind = chance.choices(("blob", "polygon", "ellipse", "bar", "fence"), (0.45, 0.2, 0.1, 0.13, 0.12))[0]
    narrow = radius * chance.uniform(0.45, 1.0)
    if kind == "bar":
        narrow = min(radius, chance.uniform(0.7, 4.0))
    width, height = (2 * math.ceil(density * (side + MARGIN)) for side in (radius, narrow))
    x = (torch.arange(width) - (width - 1) / 2)[None] / density
    y = (torch.arange(height) - (height - 1) / 2)[:, None] / density
    if kind == "blob":
        distance = _blob(generator, chance, radius, narrow, (height, width), density)
    elif kind == "polygon":
        distance = _polygon(chance, radius, narrow, x, y)
    elif kind == "ellipse":
        distance = _ellipse(radius, narrow, x, y)
    else:
        distance = torch.maximum(x.abs() - radius, y.abs() - narrow)
    if kind == "fence":
        period = max(5.0, radius * chance.uniform(0.15, 0.6))
        bars = (torch.remainder(x, period) - period / 2).abs() - period * chance.uniform(0.12, 0.35)
        distance = torch.maximum(distance, bars)
    if kind != "bar" and chance.random() < 0.12:
        wall = radius * chance.uniform(0.05, 0.2)
        distance = (distance + wall).abs() - wall
    return torch.maximum(distance, torch.maximum(x.abs() - radius, y.abs() - narrow))


def _blob(
    generator: torch.Generator,
    chance: random.Random,
    radius: float,
    narrow: float,
    shape: tuple[int, int],
    density: float,
) -> Tensor:
    """Where smooth noise minus the squared distance from the centre is above zero; may have holes and islands."""
    coarse = [max(8, side // 4) for side in shape]
    cells = chance.randint(4, 8)
    noise = torch.randn((1, 1, cells, cells), generator=generator)
    noise = F.interpolate(noise, size=coarse, mode="bicubic", align_corners=True)[0, 0]
    x = torch.linspace(-1, 1, coarse[1])[None] * (1 + MARGIN / radius)
    y = torch.linspace(-1, 1, coarse[0])[:, None] * (1 + MARGIN / narrow)
    height = 0.6 - (x * x + y * y) + chance.uniform(0.15, 0.5) * noise
    rows, columns = torch.gradient(height)
    spacing = [side / density / small for side, small in zip(shape, coarse, strict=True)]
    slope = torch.sqrt((rows / spacing[0]) ** 2 + (columns / spacing[1]) ** 2)
    distance = -height / slope.clamp_min(0.3 / radius)
    return F.interpolate(distance[None, None], size=shape, mode="bilinear", align_corners=True)[0, 0]


def _polygon(chance: random.Random, radius: float, narrow: float, x: Tensor, y: Tensor) -> Tensor:
    """A convex polygon: the half-planes of 3 to 7 sides around the centre."""
    sides = chance.randint(3, 7)
    start = chance.uniform(0, math.tau)
    distance = torch.full((y.shape[0], x.shape[1]), -math.inf)
    for side in range(sides):
        angle = start + math.tau * (side + chance.uniform(-0.25, 0.25)) / sides
        normal = (math.cos(angle), math.sin(angle))
        reach = math.hypot(radius * normal[0], narrow * normal[1]) * chance.uniform(0.5, 0.95)
        distance = torch.maximum(distance, x * normal[0] + (y * normal[1] - reach))
    return distance


def _ellipse(radius: float, narrow: float, x: Tensor, y: Tensor) -> Tensor:
    """Distance to first order: the implicit function over its gradient's length."""
    u, v = x / radius, y / narrow
    length = torch.sqrt(u * u + v * v)
    slope = torch.sqrt((u / radius) ** 2 + (v / narrow) ** 2).clamp_min(1e-6)
    return torch.where(length < 1e-3, torch.tensor(-narrow), (length - 1) * length / slope)


def caption(generator: torch.Generator, chance: random.Random, size: int) -> Tensor:
    """What stands still over a picture of side `size`: lines of text, a logo or black bars.

    `[4, size, size]`: colours 0..255 times coverage, and coverage 0..1.
    """
    canvas = torch.zeros(4, size, size)
    kind = chance.choices(("text", "logo", "bars"), (0.7, 0.2, 0.1))[0]
    if kind == "bars":
        bar = max(2, round(size * chance.uniform(0.04, 0.15)))
        for top in (0, size - bar):
            _lay(canvas, top, 0, torch.ones(bar, size), (0.0, 0.0, 0.0))
    elif kind == "logo":
        cover = (0.5 - outline(generator, chance, size * chance.uniform(0.05, 0.12), 1.0)).clamp_(0, 1)
        top, left = (chance.choice((4, size - 4 - side)) for side in cover.shape)
        _lay(canvas, top, left, cover * chance.uniform(0.4, 1.0), _colour(chance))
    else:
        _text(canvas, generator, chance, size)
    return canvas


def _text(canvas: Tensor, generator: torch.Generator, chance: random.Random, size: int) -> None:
    """One or two lines of glyphs near the bottom or anywhere, with an outline, a box, or neither."""
    height = round(math.exp(chance.uniform(math.log(8), math.log(max(9, size / 6)))))
    glyphs = _glyphs(generator, height, max(1.0, height * chance.uniform(0.08, 0.17)))
    across = glyphs.shape[-1]
    letters = max(2, int(size * chance.uniform(0.25, 0.92) / across))
    top = chance.uniform(0.75, 0.95) * size if chance.random() < 0.7 else chance.uniform(0.1, 0.9) * size
    ink = _colour(chance) if chance.random() < 0.3 else (chance.choice((235.0, 255.0)),) * 3
    paper = (0.0, 0.0, 0.0) if sum(ink) > 300 else (255.0, 255.0, 255.0)
    style = chance.choices(("outline", "box", "plain"), (0.55, 0.25, 0.2))[0]
    opacity = chance.choice((1.0, 1.0, chance.uniform(0.3, 0.9)))
    for line in range(chance.choice((1, 1, 2))):
        count = max(2, letters - chance.randint(0, letters // 3))
        chosen = torch.randint(0, len(glyphs), (count,), generator=generator)
        text = F.pad(glyphs[chosen].permute(1, 0, 2).reshape(height, count * across), (2, 2, 2, 2))
        row = min(max(int(top) - (height + 3) * line - height, 0), size - height - 4)
        left = max(0, (size - text.shape[1]) // 2)
        text = text[:, : size - left]
        if style == "outline":
            _lay(canvas, row, left, F.max_pool2d(text[None], 3, 1, 1)[0], paper)
        elif style == "box":
            _lay(canvas, row, left, torch.full_like(text, opacity), paper)
        _lay(canvas, row, left, text, ink)


def _glyphs(generator: torch.Generator, height: int, thickness: float) -> Tensor:
    """Twenty letter-like glyphs of two to four strokes, and three blanks: `[23, h, w]`.

    A stroke leads from a node of a 3 by 3 lattice to its opposite or next one: upright, level or slanting.
    """
    width = max(5, round(0.62 * height))
    count, strokes = 20, 4
    start = torch.randint(0, 3, (count, strokes, 2), generator=generator)
    step = torch.tensor([[0, 1], [0, 2], [1, 0], [2, 0], [0, 2], [1, 2], [1, 1], [2, 1]])
    step = step[torch.randint(0, len(step), (count, strokes), generator=generator)]
    end = torch.where(start + step > 2, start - step, start + step).clamp_(0, 2)
    start[:, 0, 1], end[:, 0, 1], end[:, 0, 0] = 0, 2, start[:, 0, 0]  # one stem over the whole height
    ends = torch.stack((start, end)) / 2
    edge = thickness / 2 + 0.5
    x0, x1 = (edge + ends[0] * (width - 2 * edge - 1)).unbind(-1)
    y0, y1 = (edge + ends[1] * (height - 2 * edge - 1)).unbind(-1)
    x = torch.arange(width)[None, None, None] - x0[..., None, None]
    y = torch.arange(height)[None, None, :, None] - y0[..., None, None]
    dx, dy = (x1 - x0)[..., None, None], (y1 - y0)[..., None, None]
    along = ((x * dx + y * dy) / (dx * dx + dy * dy).clamp_min(1e-6)).clamp_(0, 1)
    distance = torch.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2).amin(1)
    return F.pad((0.5 + thickness / 2 - distance).clamp_(0, 1), (0, 1, 0, 0, 0, 3))


def _lay(canvas: Tensor, top: int, left: int, cover: Tensor, colour: tuple[float, ...]) -> None:
    """Lay a flat colour over the canvas."""
    region = canvas[:, top : top + cover.shape[0], left : left + cover.shape[1]]
    region.mul_(1 - cover).add_(cover * torch.tensor((*colour, 1.0))[:, None, None])


def _colour(chance: random.Random) -> tuple[float, float, float]:
    return chance.uniform(0, 255), chance.uniform(0, 255), chance.uniform(0, 255)
