"""Layers of a drawn scene: pictures that move in straight lines, read at any time between two frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PRECISION = 1e-3
"""Pixels by which a bent layer may be read beside its place."""


@dataclass(frozen=True)
class Layer:
    """A map of colours (and coverage), where it lies half way, and its velocity.

    A point of the layer that is at q half way is at q + (s − ½) · v(q) at time s: straight on, at constant speed.
    """

    map: Tensor  # [3, h, w], or [4, h, w] with coverage 0..1
    place: Affine  # from q, in pixels of the picture, to pixels of the map
    velocity: Affine
    waves: tuple[Wave, ...] = ()
    solid: bool = True  # a shadow is not: what lies below it is what moves

    def positions(self, s: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where the points that are at the pixels (x, y) at time s are half way: q."""
        affine = IDENTITY.plus(self.velocity, s - 0.5).inverse()
        q = affine.on(x, y)
        if s != 0.5 and self.waves:
            for _ in range(self._iterations(abs(s - 0.5))):
                bend = self.bend(*q)
                q = affine.on(torch.sub(x, bend[0], alpha=s - 0.5), torch.sub(y, bend[1], alpha=s - 0.5))
        return q

    def _iterations(self, away: float) -> int:
        """How often to iterate: each time the error, first the waves' amplitude, is multiplied by their slope."""
        error = away * sum(math.hypot(*wave.amplitude) for wave in self.waves)
        slope = away * sum(math.hypot(*wave.amplitude) * math.hypot(*wave.frequency) for wave in self.waves)
        return max(1, math.ceil(math.log(PRECISION / error) / math.log(slope)))

    def bend(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What the waves add to the velocity at (x, y), half way."""
        bends = [torch.zeros(()), torch.zeros(())]
        for wave in self.waves:
            sine = (x * wave.frequency[0] + (y * wave.frequency[1] + wave.phase)).sin_()
            bends = [torch.add(bend, sine, alpha=part) for bend, part in zip(bends, wave.amplitude, strict=True)]
        return bends[0], bends[1]

    def motion(self, s: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity of the points that are at the pixels (x, y) at time s."""
        if not self.waves:
            affine = IDENTITY.plus(self.velocity, s - 0.5).inverse()
            return self.velocity.after(affine).on(x, y)
        q = self.positions(s, x, y)
        straight, bend = self.velocity.on(*q), self.bend(*q)
        return straight[0] + bend[0], straight[1] + bend[1]

    def box(self, s: float, size: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the pixels that the layer can touch at time s."""
        if self.map.shape[0] == 3:
            return 0, 0, size, size
        height, width = self.map.shape[-2:]
        there = IDENTITY.plus(self.velocity, s - 0.5).after(self.place.inverse())
        corners = [there.at(x, y) for x in (0, width - 1) for y in (0, height - 1)]
        reach = 1 + abs(s - 0.5) * sum(math.hypot(*wave.amplitude) for wave in self.waves)
        low = [max(0, math.floor(min(corner[axis] for corner in corners) - reach)) for axis in (0, 1)]
        high = [min(size, math.ceil(max(corner[axis] for corner in corners) + reach) + 1) for axis in (0, 1)]
        return low[0], low[1], high[0], high[1]

    def sample(self, s: float, x: Tensor, y: Tensor) -> Tensor:
        """The layer at the pixels (x a row, y a column) at time s."""
        height, width = self.map.shape[-2:]
        scaled = Affine(2 / (width - 1), 0, -1, 0, 2 / (height - 1), -1).after(self.place)
        if self.waves:
            u, v = scaled.on(*self.positions(s, x, y))
        else:
            u, v = scaled.after(IDENTITY.plus(self.velocity, s - 0.5).inverse()).on(x, y)
        padding = "border" if self.map.shape[0] == 3 else "zeros"
        grid = torch.stack((u, v), -1)
        return F.grid_sample(self.map[None], grid[None], padding_mode=padding, align_corners=True)[0]


def frame_at(
    layers: Sequence[Layer], s: float, size: int, *, still: Tensor | None = None, shutter: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The picture `[3, S, S]` at time s, and which layer each pixel shows, `[S, S]` uint8.

    layers: from the background up. still: a caption over them, `[4, S, S]`: colours times coverage, and coverage; its
    number is that of the layers. shutter: the share of the time from frame to frame, around s, that is averaged.
    """
    frame, label = _composed(layers, s, size)
    if shutter:
        middle = (size - 1) / 2
        fastest = max(math.hypot(*layer.velocity.at(middle, middle)) for layer in layers)
        half = min(4, max(1, math.ceil(shutter * fastest / 4)))
        steps = [shutter * k / (2 * half + 1) for k in range(-half, half + 1) if k]
        frame = sum((_composed(layers, s + step, size)[0] for step in steps), frame) / (2 * half + 1)
    if still is not None:
        frame.mul_(1 - still[3]).add_(still[:3])
        label.masked_fill_(still[3] > 0.5, len(layers))
    return frame, label


def _composed(layers: Sequence[Layer], s: float, size: int) -> tuple[Tensor, Tensor]:
    x, y = _pixels(size, layers[0].map.device)
    frame = layers[0].sample(s, x, y)
    label = torch.zeros((size, size), dtype=torch.uint8, device=frame.device)
    for number, layer in enumerate(layers[1:], start=1):
        left, top, right, bottom = layer.box(s, size)
        if left >= right or top >= bottom:
            continue
        sampled = layer.sample(s, x[:, left:right], y[top:bottom])
        frame[:, top:bottom, left:right].lerp_(sampled[:3], sampled[3:])
        if layer.solid:
            label[top:bottom, left:right].masked_fill_(sampled[3] > 0.5, number)
    return frame, label


def motion_from(layers: Sequence[Layer], label: Tensor, time: float, size: int) -> Tensor:
    """From the pixels at `time`, by the layer that each shows, to both frames: `[4, S, S]`."""
    x, y = _pixels(size, label.device)
    velocity = torch.stack(layers[0].motion(time, x, y))
    for number, layer in enumerate(layers[1:], start=1):
        left, top, right, bottom = layer.box(time, size)
        if layer.solid and left < right and top < bottom:
            own = torch.stack(layer.motion(time, x[:, left:right], y[top:bottom]))
            region = velocity[:, top:bottom, left:right]
            region.copy_(torch.where(label[top:bottom, left:right] == number, own, region))
    velocity.masked_fill_(label == len(layers), 0.0)
    return torch.cat((-time * velocity, (1 - time) * velocity))


def seen_in(motion: Tensor, label: Tensor, other: Tensor) -> Tensor:
    """1 where motion leads inside the other frame, to a pixel that shows the same layer: `[S, S]`."""
    size = label.shape[-1]
    x, y = _pixels(size, label.device)
    u, v = motion[0] + x, motion[1] + y
    inside = (u >= 0) & (u <= size - 1) & (v >= 0) & (v <= size - 1)
    index = (v.round().clamp_(0, size - 1) * size + u.round().clamp_(0, size - 1)).long()
    return (inside & (other.view(-1)[index] == label)).float()


@dataclass(frozen=True)
class Wave:
    """amplitude · sin(frequency · q + phase), added to the velocity."""

    frequency: tuple[float, float]
    phase: float
    amplitude: tuple[float, float]


@dataclass(frozen=True)
class Affine:
    """(x, y) → (a x + b y + c, d x + e y + f)."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def after(self, other: Affine) -> Affine:
        return Affine(
            self.a * other.a + self.b * other.d,
            self.a * other.b + self.b * other.e,
            self.a * other.c + self.b * other.f + self.c,
            self.d * other.a + self.e * other.d,
            self.d * other.b + self.e * other.e,
            self.d * other.c + self.e * other.f + self.f,
        )

    def inverse(self) -> Affine:
        determinant = self.a * self.e - self.b * self.d
        a, b, d, e = (v / determinant for v in (self.e, -self.b, -self.d, self.a))
        return Affine(a, b, -a * self.c - b * self.f, d, e, -d * self.c - e * self.f)

    def plus(self, other: Affine, share: float = 1.0) -> Affine:
        return Affine(
            self.a + share * other.a,
            self.b + share * other.b,
            self.c + share * other.c,
            self.d + share * other.d,
            self.e + share * other.e,
            self.f + share * other.f,
        )

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f

    def on(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same on tensors: a row and a column of coordinates, or full maps."""
        return x * self.a + (y * self.b + self.c), x * self.d + (y * self.e + self.f)


IDENTITY = Affine(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STILL = Affine(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _pixels(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The columns `[1, S]` and the rows `[S, 1]`."""
    numbers = torch.arange(size, dtype=torch.float32, device=device)
    return numbers[None], numbers[:, None]
