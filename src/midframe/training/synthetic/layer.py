"""A layer of a synthetic scene: a texture that moves in straight lines, sampled at any time between two frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.training.synthetic.geometry import IDENTITY, Affine, Wave

INVERSION_TOLERANCE = 1e-3
"""Largest error, in pixels, of the fixed-point iteration that inverts the motion of a bent layer."""


@dataclass(frozen=True)
class Layer:
    """A texture with its place and its velocity.

    Time runs from 0 (first frame) to 1 (second frame). Places and velocities are given for time ½, the reference time:
    a point at the reference position q moves in a straight line at constant speed, so at time t it is at
    q + (t − ½)·v(q), where v is the sum of `velocity` and `waves`.
    """

    texture: Tensor
    """RGB in 0..255, `[3, h, w]` (the background, which fills the picture), or RGB and coverage 0..1, `[4, h, w]`."""
    texture_coordinates: Affine
    """The map from reference positions, in pixels of the picture, to positions in the texture."""
    velocity: Affine
    """The velocity at each reference position, in pixels per frame interval."""
    waves: tuple[Wave, ...] = ()
    """Added to the velocity; empty for a layer that is not bent."""
    has_flow: bool = True
    """Whether the pixels that show the layer have its flow; a shadow has none: its pixels show the layer below."""

    def reference_positions(self, time: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reference positions of the points that are at the pixels (x, y) at a time.

        The motion of a bent layer is inverted by fixed-point iteration.
        """
        inverse = self._motion_without_waves(time).inverse()
        q = inverse.map_grid(x, y)
        if time != 0.5 and self.waves:
            for _ in range(self._iterations(abs(time - 0.5))):
                bend = self.wave_velocity(*q)
                q = inverse.map_grid(torch.sub(x, bend[0], alpha=time - 0.5), torch.sub(y, bend[1], alpha=time - 0.5))
        return q

    def wave_velocity(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity (x, y) that the waves add at reference positions."""
        velocities = [torch.zeros(()), torch.zeros(())]
        for wave in self.waves:
            sine = (x * wave.frequency[0] + (y * wave.frequency[1] + wave.phase)).sin_()
            velocities = [
                torch.add(velocity, sine, alpha=amplitude)
                for velocity, amplitude in zip(velocities, wave.amplitude, strict=True)
            ]
        return velocities[0], velocities[1]

    def velocity_at(self, time: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity (x, y) of the points that are at the pixels (x, y) at a time."""
        if not self.waves:
            return self.velocity.after(self._motion_without_waves(time).inverse()).map_grid(x, y)
        q = self.reference_positions(time, x, y)
        affine, bend = self.velocity.map_grid(*q), self.wave_velocity(*q)
        return affine[0] + bend[0], affine[1] + bend[1]

    def bounding_box(self, time: float, size: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the pixels that the layer may cover at a time.

        size: side of the picture. Right and bottom are exclusive.
        """
        if self.texture.shape[0] == 3:
            return 0, 0, size, size
        height, width = self.texture.shape[-2:]
        texture_to_picture = self._motion_without_waves(time).after(self.texture_coordinates.inverse())
        corners = [texture_to_picture.map_point(x, y) for x in (0, width - 1) for y in (0, height - 1)]
        margin = 1 + abs(time - 0.5) * sum(wave.speed for wave in self.waves)
        low = [max(0, math.floor(min(corner[axis] for corner in corners) - margin)) for axis in (0, 1)]
        high = [min(size, math.ceil(max(corner[axis] for corner in corners) + margin) + 1) for axis in (0, 1)]
        return low[0], low[1], high[0], high[1]

    def sample(self, time: float, x: Tensor, y: Tensor) -> Tensor:
        """Sample the layer's texture at pixels at a time, bilinearly. x: `[1, W]`; y: `[H, 1]`."""
        height, width = self.texture.shape[-2:]
        to_grid_sample = Affine(2 / (width - 1), 0, -1, 0, 2 / (height - 1), -1).after(self.texture_coordinates)
        if self.waves:
            u, v = to_grid_sample.map_grid(*self.reference_positions(time, x, y))
        else:
            u, v = to_grid_sample.after(self._motion_without_waves(time).inverse()).map_grid(x, y)
        padding = "border" if self.texture.shape[0] == 3 else "zeros"
        grid = torch.stack((u, v), -1)
        return F.grid_sample(self.texture[None], grid[None], padding_mode=padding, align_corners=True)[0]

    def _motion_without_waves(self, time: float) -> Affine:
        """Return the map from reference positions to positions at a time, without the waves."""
        return IDENTITY.plus(self.velocity, time - 0.5)

    def _iterations(self, duration: float) -> int:
        """Return the number of fixed-point iterations for a time this far from ½.

        The initial error is the waves' displacement; each iteration multiplies it by their slope.
        """
        error = duration * sum(wave.speed for wave in self.waves)
        slope = duration * sum(wave.slope for wave in self.waves)
        return max(1, math.ceil(math.log(INVERSION_TOLERANCE / error) / math.log(slope)))
