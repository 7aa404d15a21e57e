"""Draw scenes as functions of continuous position and time, so that the true frame at any time is known."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .film import Film

BARS = ((1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1))


def picture(film: Film, time: Fraction | float) -> np.ndarray:
    """Return the film's picture at `time` in seconds: float64 RGB [height, width, 3] in 0..1, gamma-encoded.

    time: may lie between frames. A new shot begins at the time of its first frame.
    """
    times = film.frame_times
    shot = sum(time >= times[cut] for cut in film.cuts)
    shown = float((Fraction(time) - times[0]) * Fraction(film.rate))
    if film.scene not in SCENES:
        raise ValueError(f"no scene {film.scene!r}; there are {', '.join(SCENES)}")
    rgb = SCENES[film.scene](film, shown, shot)
    if film.caption:
        ink, plate = _caption(film.width, film.height)
        rgb = rgb * (1 - plate) + ink
    return np.clip(rgb, 0.0, 1.0)


def texture(width: int, height: int, shift: tuple[float, float], seed: int) -> np.ndarray:
    """Return a smooth random texture, translated by `shift` pixels: float64 RGB [height, width, 3] in 0..1.

    It is a tint plus sinusoids with wave lengths of 7 to 70 pixels, the long ones strongest, so sub-pixel shifts are
    exact: the value at (x, y) is that of the unshifted texture at (x − dx, y − dy). Values need no clipping.
    """
    draw = np.random.default_rng([seed, 51])
    waves = 12
    length = np.geomspace(7.0, 70.0, waves)
    angle = draw.uniform(0, 2 * np.pi, waves)
    strength = 0.3 * length**0.7 / (length**0.7).sum()
    across, down = (2 * np.pi / length * trig(angle) for trig in (np.cos, np.sin))
    columns = across[:, None] * (np.arange(width)[None, :] - shift[0])
    columns = np.concatenate([np.sin(columns), np.cos(columns)])
    y = np.arange(height)[:, None] - shift[1]
    tint = 0.5 + 0.18 * np.cos(2 * np.pi * (seed * 0.45 + np.arange(3) / 3))  # shots that follow differ much
    common = draw.uniform(0, 2 * np.pi, waves)
    out = np.empty((height, width, 3))
    for channel in range(3):
        phase = common + draw.uniform(-0.7, 0.7, waves)
        rows = np.concatenate([np.cos(y * down + phase), np.sin(y * down + phase)], axis=1) * np.tile(strength, 2)
        out[..., channel] = tint[channel] + rows @ columns
    return out


def _texture_scene(film: Film, shown: float, shot: int) -> np.ndarray:
    return texture(film.width, film.height, (film.speed[0] * shown, film.speed[1] * shown), shot)


def _static(film: Film, shown: float, shot: int) -> np.ndarray:
    return texture(film.width, film.height, (0.0, 0.0), shot)


def _half(film: Film, shown: float, shot: int) -> np.ndarray:
    left = np.arange(film.width)[None, :, None] < film.width // 2
    return np.where(left, _static(film, shown, shot), _texture_scene(film, shown, shot + 100))


def _shapes(film: Film, shown: float, shot: int) -> np.ndarray:
    """Draw textured discs and boxes with soft edges that move against the background and wrap around the picture."""
    rgb = _texture_scene(film, shown, shot)
    draw = np.random.default_rng([shot, 7])
    x, y = np.arange(film.width)[None, :], np.arange(film.height)[:, None]
    for index in range(7):
        radius = draw.uniform(0.09, 0.2) * min(film.width, film.height)
        margin = 2 * radius + 4
        pace = draw.uniform(-1.2, 0.4), draw.uniform(-0.8, 0.8)
        place = (index * 0.618 + shot * 0.382 + 0.3) % 1, (index + 0.5) / 7
        angle = draw.uniform(0, np.pi)
        colour = draw.uniform(0.05, 0.95, 3)
        move = [film.speed[0] * pace[0] * shown, film.speed[1] * pace[1] * shown]
        centre = [
            (place[axis] * size + move[axis] + margin) % (size + 2 * margin) - margin
            for axis, size in enumerate((film.width, film.height))
        ]
        near = tuple(
            slice(max(0, int(at - margin)), max(0, int(at + margin) + 1)) for at in (centre[1], centre[0])
        )  # outside of it the shape covers nothing
        u, v = x[:, near[1]] - centre[0], y[near[0]] - centre[1]
        if index % 2:
            u, v = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
            distance = np.maximum(np.abs(u), 1.4 * np.abs(v)) - radius  # from the edge, negative inside
        else:
            distance = np.hypot(u, v) - radius
        cover = 0.5 - 0.5 * np.tanh(distance / 1.2)
        pattern = 0.12 * np.sin(u * (2 * np.pi / 9) + index) * np.cos(v * (2 * np.pi / 13))
        rgb[near] += (colour + pattern[..., None] - rgb[near]) * cover[..., None]
    return rgb


def _bars(film: Film, shown: float, shot: int) -> np.ndarray:
    row = 0.75 * np.array(BARS, float)[np.arange(film.width) * len(BARS) // film.width]
    return np.broadcast_to(np.roll(row, shot, axis=1), (film.height, film.width, 3)).copy()


def _edge(film: Film, shown: float, shot: int) -> np.ndarray:
    """Draw red left of a vertical edge and blue right of it; the pixel on the edge is a mixture."""
    place = film.width / 4 + film.speed[0] * shown
    red = np.clip(place - np.arange(film.width), 0.0, 1.0)[None, :, None]
    colours = np.array([(0.8, 0.1, 0.1), (0.1, 0.1, 0.8)])[:: -1 if shot % 2 else 1]
    return np.broadcast_to(red * colours[0] + (1 - red) * colours[1], (film.height, film.width, 3)).copy()


def _noise(film: Film, shown: float, shot: int) -> np.ndarray:
    draw = np.random.default_rng([shot, round(shown) + 1_000_000])
    noise = draw.uniform(size=(film.height + 2, film.width + 2, 3))
    return sum(noise[i : i + film.height, j : j + film.width] for i in range(3) for j in range(3)) / 9


SCENES: dict[str, Callable[[Film, float, int], np.ndarray]] = {
    "shapes": _shapes,
    "texture": _texture_scene,
    "static": _static,
    "half": _half,
    "bars": _bars,
    "edge": _edge,
    "noise": _noise,
}


@lru_cache(maxsize=8)
def _caption(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a caption of white letters with a dark outline: its light, and its coverage; both [height, width, 1]."""
    size = max(8, height // 7)
    ink, plate = (Image.new("L", (width, height)) for _ in range(2))
    font = ImageFont.load_default(size)
    where, text = (width / 2, height * 0.86), "between frames"
    ImageDraw.Draw(ink).text(where, text, 255, font, anchor="mm")
    ImageDraw.Draw(plate).text(where, text, 255, font, anchor="mm", stroke_width=max(1, size // 8), stroke_fill=255)
    return tuple(np.asarray(image, float)[..., None] / 255 for image in (ink, plate))  # type: ignore[return-value]
