"""Random overlays that stand still in front of a synthetic scene: lines of text, a logo, black bars."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.training.synthetic.shapes import random_shape

OVERLAY_WEIGHTS = {"text": 0.7, "logo": 0.2, "bars": 0.1}
"""The probability of each overlay."""

TEXT_STYLE_WEIGHTS = {"outline": 0.55, "box": 0.25, "plain": 0.2}
"""The probability of each style of text."""

Colour = tuple[float, float, float]
"""RGB in 0..255."""

GLYPHS = 20
"""Letter-like glyphs in a font; there are three blanks beside them."""

STROKES = 4
"""Strokes of a glyph; some may coincide."""


def random_overlay(rng: random.Random, generator: torch.Generator, size: int) -> Tensor:
    """Draw an overlay for a picture of side `size`.

    Returns `[4, size, size]`: RGB in 0..255 times coverage, and coverage 0..1.
    """
    canvas = torch.zeros(4, size, size)
    kind = rng.choices(tuple(OVERLAY_WEIGHTS), tuple(OVERLAY_WEIGHTS.values()))[0]
    if kind == "bars":
        height = max(2, round(size * rng.uniform(0.04, 0.15)))
        for top in (0, size - height):
            _blend_colour(canvas, top, 0, torch.ones(height, size), (0.0, 0.0, 0.0))
    elif kind == "logo":
        coverage = (0.5 - random_shape(rng, generator, size * rng.uniform(0.05, 0.12), 1.0)).clamp_(0, 1)
        top, left = (rng.choice((4, size - 4 - side)) for side in coverage.shape)
        _blend_colour(canvas, top, left, coverage * rng.uniform(0.4, 1.0), _random_colour(rng))
    else:
        _draw_text(canvas, rng, generator, size)
    return canvas


def _draw_text(canvas: Tensor, rng: random.Random, generator: torch.Generator, size: int) -> None:
    """Draw one or two centred lines of glyphs, mostly near the bottom, with an outline, on a box, or plain."""
    height = round(math.exp(rng.uniform(math.log(8), math.log(max(9, size / 6)))))
    font = _random_font(generator, height, max(1.0, height * rng.uniform(0.08, 0.17)))
    glyph_width = font.shape[-1]
    max_letters = max(2, int(size * rng.uniform(0.25, 0.92) / glyph_width))
    top = rng.uniform(0.75, 0.95) * size if rng.random() < 0.7 else rng.uniform(0.1, 0.9) * size
    ink = _random_colour(rng) if rng.random() < 0.3 else (rng.choice((235.0, 255.0)),) * 3
    background = (0.0, 0.0, 0.0) if sum(ink) > 300 else (255.0, 255.0, 255.0)
    style = rng.choices(tuple(TEXT_STYLE_WEIGHTS), tuple(TEXT_STYLE_WEIGHTS.values()))[0]
    opacity = rng.choice((1.0, 1.0, rng.uniform(0.3, 0.9)))
    for line in range(rng.choice((1, 1, 2))):
        letters = max(2, max_letters - rng.randint(0, max_letters // 3))
        indices = torch.randint(0, len(font), (letters,), generator=generator)
        text = F.pad(font[indices].permute(1, 0, 2).reshape(height, letters * glyph_width), (2, 2, 2, 2))
        row = min(max(int(top) - (height + 3) * line - height, 0), size - height - 4)
        left = max(0, (size - text.shape[1]) // 2)
        text = text[:, : size - left]
        if style == "outline":
            _blend_colour(canvas, row, left, F.max_pool2d(text[None], 3, 1, 1)[0], background)
        elif style == "box":
            _blend_colour(canvas, row, left, torch.full_like(text, opacity), background)
        _blend_colour(canvas, row, left, text, ink)


def _random_font(generator: torch.Generator, height: int, thickness: float) -> Tensor:
    """Draw the coverage of letter-like glyphs and of three blanks: `[GLYPHS + 3, height, width]`.

    height, thickness: of the glyphs and their strokes, in pixels. A stroke joins two nodes of a 3×3 lattice:
    vertical, horizontal or diagonal. The first stroke of a glyph is a stem over the whole height.
    """
    width = max(5, round(0.62 * height))
    start = torch.randint(0, 3, (GLYPHS, STROKES, 2), generator=generator)
    steps = torch.tensor([[0, 1], [0, 2], [1, 0], [2, 0], [0, 2], [1, 2], [1, 1], [2, 1]])
    steps = steps[torch.randint(0, len(steps), (GLYPHS, STROKES), generator=generator)]
    end = torch.where(start + steps > 2, start - steps, start + steps).clamp_(0, 2)
    start[:, 0, 1], end[:, 0, 1], end[:, 0, 0] = 0, 2, start[:, 0, 0]
    ends = torch.stack((start, end)) / 2
    inset = thickness / 2 + 0.5
    x0, x1 = (inset + ends[0] * (width - 2 * inset - 1)).unbind(-1)
    y0, y1 = (inset + ends[1] * (height - 2 * inset - 1)).unbind(-1)
    x = torch.arange(width)[None, None, None] - x0[..., None, None]
    y = torch.arange(height)[None, None, :, None] - y0[..., None, None]
    dx, dy = (x1 - x0)[..., None, None], (y1 - y0)[..., None, None]
    position_on_stroke = ((x * dx + y * dy) / (dx * dx + dy * dy).clamp_min(1e-6)).clamp_(0, 1)
    distance = torch.sqrt((x - position_on_stroke * dx) ** 2 + (y - position_on_stroke * dy) ** 2).amin(1)
    return F.pad((0.5 + thickness / 2 - distance).clamp_(0, 1), (0, 1, 0, 0, 0, 3))


def _blend_colour(canvas: Tensor, top: int, left: int, coverage: Tensor, colour: tuple[float, ...]) -> None:
    """Blend a uniform colour over a region of the canvas. coverage: `[h, w]`, 0..1."""
    region = canvas[:, top : top + coverage.shape[0], left : left + coverage.shape[1]]
    region.mul_(1 - coverage).add_(coverage * torch.tensor((*colour, 1.0))[:, None, None])


def _random_colour(rng: random.Random) -> Colour:
    return rng.uniform(0, 255), rng.uniform(0, 255), rng.uniform(0, 255)
