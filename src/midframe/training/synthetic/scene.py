"""Random composition of a synthetic scene: a background and foreground layers with textures, velocities and shadows."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.errors import SettingError
from midframe.training.synthetic.geometry import ZERO, Affine, Wave
from midframe.training.synthetic.layer import Layer
from midframe.training.synthetic.shapes import MARGIN, random_shape

TEXTURE_DENSITY = 2.0
"""Texture pixels per picture pixel: dense enough that bilinear sampling blurs all frames alike, wherever the layer lies
relative to the pixel grid."""

MIN_DEVIATION = 8.0
"""Standard deviation (0..255) below which a part of a picture is too flat for a texture and another is drawn."""

TEXTURE_ATTEMPTS = 4
"""Attempts to draw a texture that is not too flat; the last one is used in any case."""


@dataclass(frozen=True)
class SceneSettings:
    """The probabilities (0..1) and ranges of a synthetic scene; motion is in pixels from the first to the second frame.

    The median motions are those of log-normal distributions.
    """

    foreground_counts: tuple[float, ...] = (0.1, 0.25, 0.3, 0.2, 0.15)
    """The probability of no foreground layer, of one, of two, ..."""
    max_motion: float = 48.0
    """Largest translation of a layer."""
    camera_motion: float = 5.0
    """Median translation of a moving camera, which moves all layers."""
    object_motion: float = 8.0
    """Median translation of a moving foreground layer relative to the camera."""
    motion_spread: float = 1.0
    """Standard deviation of the logarithm of both translations."""
    still_camera: float = 0.25
    """Probability that the camera does not move."""
    still_object: float = 0.15
    """Probability that a foreground layer moves only with the camera."""
    bend: float = 0.2
    """Probability that a layer is bent by waves besides its affine motion."""
    overlay: float = 0.25
    """Probability of a still overlay: text, a logo or black bars."""
    shadow: float = 0.15
    """Probability that a foreground layer casts a shadow."""
    brightness_drift: float = 0.12
    """Probability that brightness and contrast change linearly with time, in the target too."""
    noise: float = 0.12
    """Probability of noise in the first and the second frame; the target stays clean."""
    motion_blur: float = 0.05
    """Probability of motion blur, with the same shutter for all frames."""


DEFAULT_SCENE = SceneSettings()


def compose_scene(
    textures: Sequence[Tensor], rng: random.Random, generator: torch.Generator, size: int, settings: SceneSettings
) -> list[Layer]:
    """Compose the layers of a scene at random, from the background up.

    textures: pictures, uint8 `[3, H, W]`; each layer shows a part of one. rng, generator: all random numbers come from
    them. size: side of the frames in pixels. Raises `SettingError` if a texture has another shape or type.
    """
    middle = (size - 1) / 2
    camera = ZERO
    if rng.random() >= settings.still_camera:
        camera = _random_velocity(rng, (middle, middle), settings.camera_motion, settings, distortion=0.02)
    layers = [_background(textures, rng, size, camera, settings)]
    count = rng.choices(range(len(settings.foreground_counts)), settings.foreground_counts)[0]
    for _ in range(count):
        layers += _foreground(textures, rng, generator, size, camera, settings)
    return layers


def _background(
    textures: Sequence[Tensor], rng: random.Random, size: int, camera: Affine, settings: SceneSettings
) -> Layer:
    """Return a layer that fills the picture at all times. camera: the camera's velocity field."""
    middle = (size - 1) / 2
    waves = _random_waves(rng, size, settings)
    corner_velocities = [camera.map_point(x, y) for x in (0, size - 1) for y in (0, size - 1)]
    wave_speed = sum(wave.speed for wave in waves)
    motion = [max(abs(velocity[axis]) for velocity in corner_velocities) + wave_speed for axis in (0, 1)]
    angle = rng.gauss(0, 0.08)
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = size + 1.3 * motion[0] + 4, size + 1.3 * motion[1] + 4
    extent = (cosine * width + sine * height, sine * width + cosine * height)
    texture = _random_texture(textures, rng, extent, blur_probability=0.1)
    return Layer(texture, _random_placement(rng, (middle, middle), angle, texture), camera, waves)


def _foreground(
    textures: Sequence[Tensor],
    rng: random.Random,
    generator: torch.Generator,
    size: int,
    camera: Affine,
    settings: SceneSettings,
) -> list[Layer]:
    """Return a foreground layer of random shape, preceded by its shadow if it casts one."""
    centre = (rng.uniform(-0.05, 1.05) * size, rng.uniform(-0.05, 1.05) * size)
    radius = size * math.exp(rng.uniform(math.log(0.06), math.log(0.6)))
    distance = random_shape(rng, generator, radius, TEXTURE_DENSITY).to(textures[0].device)
    softness = rng.uniform(2.0, 4.0) if rng.random() < 0.12 else rng.uniform(0.9, 1.5)
    coverage = (0.5 - distance / softness).clamp_(0, 1)
    extent = (coverage.shape[1] / TEXTURE_DENSITY, coverage.shape[0] / TEXTURE_DENSITY)
    texture = _random_tint(_random_texture(textures, rng, extent, blur_probability=0.2), rng)
    velocity = camera
    if rng.random() >= settings.still_object:
        own = _random_velocity(rng, centre, settings.object_motion, settings, distortion=0.06)
        velocity = camera.plus(own)
    angle = rng.uniform(-math.pi, math.pi) * rng.random()
    layer = Layer(
        torch.cat((texture, coverage[None])),
        _random_placement(rng, centre, angle, texture),
        _limit_velocity(velocity, centre, settings.max_motion),
        _random_waves(rng, size, settings),
    )
    if rng.random() >= settings.shadow:
        return [layer]
    shade = (0.5 - distance / (2 * MARGIN)).clamp_(0, 1) * rng.uniform(0.2, 0.6)
    offset = Affine(1, 0, TEXTURE_DENSITY * rng.uniform(-6, 6), 0, 1, TEXTURE_DENSITY * rng.uniform(-6, 6))
    shadow = replace(
        layer,
        texture=torch.cat((torch.zeros_like(texture), shade[None])),
        texture_coordinates=offset.after(layer.texture_coordinates),
        has_flow=False,
    )
    return [shadow, layer]


def _random_texture(
    textures: Sequence[Tensor], rng: random.Random, extent: tuple[float, float], blur_probability: float
) -> Tensor:
    """Return a random part of a random picture as a texture, float RGB in 0..255, at `TEXTURE_DENSITY`.

    extent: (width, height) of the texture in pixels of the frame. The part is reduced to the frame's resolution first,
    so that finer detail cannot alias; with `blur_probability` to a lower resolution, as if out of focus.
    """
    for _ in range(TEXTURE_ATTEMPTS):
        picture = rng.choice(textures)
        if picture.dim() != 3 or picture.shape[0] != 3 or picture.dtype != torch.uint8 or min(picture.shape) < 2:
            raise SettingError(f"textures are uint8 [3, H, W]; got {picture.dtype} {list(picture.shape)}")
        height, width = picture.shape[-2:]
        scale = math.exp(rng.uniform(math.log(0.6), math.log(1.8)))
        scale = min(scale, width / extent[0], height / extent[1])
        w, h = (max(2, min(side, round(length * scale))) for side, length in zip((width, height), extent, strict=True))
        left, top = rng.randint(0, width - w), rng.randint(0, height - h)
        part = picture[None, :, top : top + h, left : left + w]
        if float(part[:, 1, ::4, ::4].float().std(correction=0)) >= MIN_DEVIATION:
            break
    if part.is_cuda:
        part = part.float()
    resolution = rng.uniform(0.4, 1.0) if rng.random() < blur_probability else 1.0
    if resolution < scale:
        reduced_size = [max(2, round(resolution * length)) for length in reversed(extent)]
        part = F.interpolate(part, size=reduced_size, mode="bicubic", antialias=True)
    dense_size = [max(2, round(TEXTURE_DENSITY * length)) for length in reversed(extent)]
    return F.interpolate(part, size=dense_size, mode="bicubic", antialias=True)[0].float()


def _random_tint(texture: Tensor, rng: random.Random) -> Tensor:
    """Change contrast, brightness and tint of a texture, in four of ten cases."""
    if rng.random() < 0.6:
        return texture
    contrast, brightness, tint = rng.uniform(0.15, 1.2), rng.gauss(0, 25), rng.choice((0.0, 12.0))
    mean = texture.mean((1, 2), keepdim=True)
    shift = torch.tensor([brightness + rng.gauss(0, 1) * tint for _ in range(3)], device=texture.device)
    return ((texture - mean) * contrast + (mean + shift[:, None, None])).clamp_(0, 255)


def _random_placement(rng: random.Random, centre: tuple[float, float], angle: float, texture: Tensor) -> Affine:
    """Return the map from picture to texture coordinates that puts the texture's middle at the centre.

    The texture is rotated by the angle, displaced by half a pixel at most, and mirrored with probability ½.
    """
    x, y = (coordinate + rng.uniform(-0.5, 0.5) for coordinate in centre)
    mirror = rng.choice((-1, 1))
    cosine, sine = TEXTURE_DENSITY * math.cos(angle), TEXTURE_DENSITY * math.sin(angle)
    height, width = texture.shape[-2:]
    linear = Affine(mirror * cosine, mirror * sine, (width - 1) / 2, -sine, cosine, (height - 1) / 2)
    return linear.after(Affine(1, 0, -x, 0, 1, -y))


def _random_velocity(
    rng: random.Random, centre: tuple[float, float], median: float, settings: SceneSettings, distortion: float
) -> Affine:
    """Return a velocity field: a log-normal translation, and some rotation, zoom and shear about the centre.

    distortion: standard deviation of the rotation in radians; zoom and shear have smaller ones.
    """
    speed = min(median * math.exp(settings.motion_spread * rng.gauss(0, 1)), settings.max_motion)
    direction = rng.uniform(0, math.tau)
    rotation, zoom, shear = (rng.gauss(0, 1) * distortion * factor for factor in (1.0, 0.8, 0.3))
    u, v = speed * math.cos(direction), speed * math.sin(direction)
    linear = Affine(zoom, shear - rotation, u, shear + rotation, zoom, v)
    return linear.after(Affine(1, 0, -centre[0], 0, 1, -centre[1]))


def _limit_velocity(velocity: Affine, centre: tuple[float, float], max_speed: float) -> Affine:
    """Scale a velocity field so that the speed at the centre is at most `max_speed`."""
    factor = max_speed / max(max_speed, math.hypot(*velocity.map_point(*centre)))
    return ZERO.plus(velocity, factor)


def _random_waves(rng: random.Random, size: int, settings: SceneSettings) -> tuple[Wave, ...]:
    """Return two waves, or none.

    The velocity of each changes by less than 0.15 a pixel, so that no layer folds over itself.
    """
    if rng.random() >= settings.bend:
        return ()
    waves = []
    for _ in range(2):
        wavelength = size * math.exp(rng.uniform(math.log(0.4), math.log(2.0)))
        wave_angle, velocity_angle = rng.uniform(0, math.tau), rng.uniform(0, math.tau)
        frequency, amplitude = math.tau / wavelength, rng.uniform(0.02, 0.15) * wavelength / math.tau
        waves.append(
            Wave(
                (frequency * math.cos(wave_angle), frequency * math.sin(wave_angle)),
                rng.uniform(0, math.tau),
                (amplitude * math.cos(velocity_angle), amplitude * math.sin(velocity_angle)),
            )
        )
    return tuple(waves)
