"""Drawn training samples: real textures and cut-outs under smooth motion, whose middle and motion are known exactly."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from midframe.errors import SettingError
from midframe.training.synthetic.layers import STILL, Affine, Layer, Wave, frame_at, motion_from, seen_in
from midframe.training.synthetic.shapes import MARGIN, caption, outline

DENSITY = 2.0
"""Pixels of a layer's map for each pixel of the picture: dense enough that reading it bilinearly blurs every frame
alike, wherever the frame lies between the map's pixels."""

FLAT = 8.0
"""A window of a picture whose standard deviation is below this (of 255) is given up for another, three times."""


@dataclass(frozen=True)
class Drawn:
    """Two frames, the true frame between them, and where every pixel of that frame lies in both.

    first, target, second: `[3, S, S]` float32, RGB 0..255.
    motion: `[4, S, S]`: from a pixel of the target to where it lies in the first frame (x, y), then in the second, in
    pixels. seen: `[2, S, S]`, 1 where that place in the first / second frame is inside the picture and shows the same
    layer (nothing covers it), else 0. `draw_batch` puts a batch dimension before all of them.
    """

    first: Tensor
    target: Tensor
    second: Tensor
    motion: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Scene:
    """What may happen in a drawn sample: chances 0..1, motion in pixels from the first frame to the second."""

    cutouts: tuple[float, ...] = (0.1, 0.25, 0.3, 0.2, 0.15)
    """Chance of no cut-out, one, two, ..."""
    largest: float = 48.0
    """The largest translation of a layer."""
    camera: float = 5.0
    """Median translation of a camera that moves; with it move all layers."""
    own: float = 8.0
    """Median translation of a cut-out that moves against the camera."""
    spread: float = 1.0
    """Standard deviation of the logarithm of both: how heavy the tail is."""
    still_camera: float = 0.25
    still_cutout: float = 0.15
    bend: float = 0.2
    """A layer is bent by waves besides its affine motion."""
    caption: float = 0.25
    """Captions, logos or bars that stand still over everything."""
    shadow: float = 0.15
    drift: float = 0.12
    """Brightness and contrast change linearly with time, in the target too."""
    noise: float = 0.12
    """Noise in the first and second frame; the target stays clean."""
    blur: float = 0.05
    """Motion blur, with the same shutter for all frames."""


def draw(
    textures: Sequence[Tensor],
    generator: torch.Generator,
    *,
    size: int,
    time: float = 0.5,
    scene: Scene = Scene(),
) -> Drawn:
    """Draw a sample: a background and cut-outs, each with its own picture as texture, moving in straight lines.

    textures: real pictures, uint8 `[3, H, W]` of any size on one device; each layer takes one by chance. generator: a
    CPU generator, all chance comes from it, so the sample is a pure function of both. size: side S of the frames.
    time: of the target, in (0, 1); the two frames are the same whatever it is. scene: what may happen.

    Every layer has its own affine velocity (the camera's and its own), some are bent by waves besides. A point of a
    layer moves on a straight line at constant speed, so motion[:2] / time == −motion[2:] / (1 − time).
    Raises `SettingError` for textures, a size or a time that do not fit.
    Source: the idea of FlyingChairs (Dosovitskiy et al., arXiv 1504.06852) and AutoFlow (arXiv 2104.14544).
    """
    if not textures or size < 16 or not 0 < time < 1:
        found = f"{len(textures)} textures, size {size}, time {time}"
        raise SettingError(f"a drawn sample needs a texture or more, a size from 16 and a time in (0, 1); got {found}")
    chance = random.Random(int(torch.randint(2**62, (), generator=generator)))
    layers = _scene(textures, generator, chance, size, scene)
    device = textures[0].device
    still = caption(generator, chance, size).to(device) if chance.random() < scene.caption else None

    shutter = chance.uniform(0.1, 0.45) if chance.random() < scene.blur else 0.0
    rendered = {s: frame_at(layers, s, size, still=still, shutter=shutter) for s in (0.0, time, 1.0)}
    labels = {s: label for s, (_, label) in rendered.items()}
    frames = {s: frame for s, (frame, _) in rendered.items()}
    if chance.random() < scene.drift:
        gain, offset = chance.gauss(0, 0.15), chance.gauss(0, 15.0)
        frames = {s: frame * (1 + (s - 0.5) * gain) + (s - 0.5) * offset for s, frame in frames.items()}
    if chance.random() < scene.noise:
        noise = torch.randn((2, 3, size, size), generator=generator).to(device) * chance.uniform(1.0, 8.0)
        frames[0.0], frames[1.0] = frames[0.0] + noise[0], frames[1.0] + noise[1]

    motion = motion_from(layers, labels[time], time, size)
    seen = torch.stack([seen_in(motion[:2], labels[time], labels[0.0]), seen_in(motion[2:], labels[time], labels[1.0])])
    first, target, second = (frames[s].clamp_(0, 255) for s in (0.0, time, 1.0))
    return Drawn(first, target, second, motion, seen)


def draw_batch(
    textures: Sequence[Tensor],
    generators: Sequence[torch.Generator],
    *,
    size: int,
    times: Sequence[float],
    scene: Scene = Scene(),
) -> Drawn:
    """`draw` with each generator and time, stacked: every sample is what it would be alone."""
    pairs = zip(generators, times, strict=True)
    samples = [draw(textures, generator, size=size, time=time, scene=scene) for generator, time in pairs]
    names = ("first", "target", "second", "motion", "seen")
    return Drawn(*(torch.stack([getattr(sample, name) for sample in samples]) for name in names))


def _scene(
    textures: Sequence[Tensor], generator: torch.Generator, chance: random.Random, size: int, scene: Scene
) -> list[Layer]:
    """The layers from the background up."""
    middle = (size - 1) / 2
    camera = STILL
    if chance.random() >= scene.still_camera:
        camera = _velocity(chance, (middle, middle), scene.camera, scene, turn=0.02)
    waves = _waves(chance, size, scene)
    corners = [camera.at(x, y) for x in (0, size - 1) for y in (0, size - 1)]
    reach = sum(math.hypot(*wave.amplitude) for wave in waves)
    margin = [max(abs(corner[axis]) for corner in corners) + reach for axis in (0, 1)]
    turn = chance.gauss(0, 0.08)
    across, along = abs(math.cos(turn)), abs(math.sin(turn))
    wide, high = size + 1.3 * margin[0] + 4, size + 1.3 * margin[1] + 4
    extent = (across * wide + along * high, along * wide + across * high)
    colours = _texture(textures, chance, extent, blur=0.1)
    layers = [Layer(colours, _place(chance, (middle, middle), turn, colours), camera, waves)]

    for _ in range(chance.choices(range(len(scene.cutouts)), scene.cutouts)[0]):
        centre = (chance.uniform(-0.05, 1.05) * size, chance.uniform(-0.05, 1.05) * size)
        radius = size * math.exp(chance.uniform(math.log(0.06), math.log(0.6)))
        distance = outline(generator, chance, radius, DENSITY).to(textures[0].device)
        softness = chance.uniform(2.0, 4.0) if chance.random() < 0.12 else chance.uniform(0.9, 1.5)
        cover = (0.5 - distance / softness).clamp_(0, 1)
        colours = _texture(textures, chance, (cover.shape[1] / DENSITY, cover.shape[0] / DENSITY), blur=0.2)
        colours = _tinted(colours, chance)
        own = STILL
        if chance.random() >= scene.still_cutout:
            own = _velocity(chance, centre, scene.own, scene, turn=0.06)
        layer = Layer(
            torch.cat((colours, cover[None])),
            _place(chance, centre, chance.uniform(-math.pi, math.pi) * chance.random(), colours),
            _limited(camera.plus(own), centre, scene.largest),
            _waves(chance, size, scene),
        )
        if chance.random() < scene.shadow:
            shade = (0.5 - distance / (2 * MARGIN)).clamp_(0, 1) * chance.uniform(0.2, 0.6)
            offset = Affine(1, 0, DENSITY * chance.uniform(-6, 6), 0, 1, DENSITY * chance.uniform(-6, 6))
            shadow = torch.cat((torch.zeros_like(colours), shade[None]))
            layers.append(replace(layer, map=shadow, place=offset.after(layer.place), solid=False))
        layers.append(layer)
    return layers


def _texture(textures: Sequence[Tensor], chance: random.Random, extent: tuple[float, float], blur: float) -> Tensor:
    """A random window of a random picture as a map of `extent` (width, height) in pixels of the sample, float.

    The window is reduced to the sample's own resolution first, so that nothing finer is left to alias; with chance
    `blur` to less, as if out of focus.
    """
    for _ in range(4):
        picture = chance.choice(textures)
        if picture.dim() != 3 or picture.shape[0] != 3 or picture.dtype != torch.uint8 or min(picture.shape) < 2:
            raise SettingError(f"textures are uint8 [3, H, W]; got {picture.dtype} {list(picture.shape)}")
        height, width = picture.shape[-2:]
        scale = math.exp(chance.uniform(math.log(0.6), math.log(1.8)))
        scale = min(scale, width / extent[0], height / extent[1])
        w, h = (max(2, min(side, round(length * scale))) for side, length in zip((width, height), extent, strict=True))
        left, top = chance.randint(0, width - w), chance.randint(0, height - h)
        window = picture[None, :, top : top + h, left : left + w]
        if float(window[:, 1, ::4, ::4].float().std(correction=0)) >= FLAT:
            break
    if window.is_cuda:
        window = window.float()
    detail = chance.uniform(0.4, 1.0) if chance.random() < blur else 1.0
    if detail < scale:
        reduced = [max(2, round(detail * length)) for length in reversed(extent)]
        window = F.interpolate(window, size=reduced, mode="bicubic", antialias=True)
    dense = [max(2, round(DENSITY * length)) for length in reversed(extent)]
    return F.interpolate(window, size=dense, mode="bicubic", antialias=True)[0].float()


def _tinted(colours: Tensor, chance: random.Random) -> Tensor:
    """Sometimes less contrast, another brightness, another tint."""
    if chance.random() < 0.6:
        return colours
    gain, bright, tint = chance.uniform(0.15, 1.2), chance.gauss(0, 25), chance.choice((0.0, 12.0))
    mean = colours.mean((1, 2), keepdim=True)
    shift = torch.tensor([bright + chance.gauss(0, 1) * tint for _ in range(3)], device=colours.device)
    return ((colours - mean) * gain + (mean + shift[:, None, None])).clamp_(0, 255)


def _place(chance: random.Random, centre: tuple[float, float], turn: float, colours: Tensor) -> Affine:
    """The middle of the map at the centre (off by part of a pixel), turned, mirrored by chance."""
    x, y = (at + chance.uniform(-0.5, 0.5) for at in centre)
    mirror = chance.choice((-1, 1))
    cosine, sine = DENSITY * math.cos(turn), DENSITY * math.sin(turn)
    height, width = colours.shape[-2:]
    linear = Affine(mirror * cosine, mirror * sine, (width - 1) / 2, -sine, cosine, (height - 1) / 2)
    return linear.after(Affine(1, 0, -x, 0, 1, -y))


def _velocity(chance: random.Random, centre: tuple[float, float], median: float, scene: Scene, turn: float) -> Affine:
    """A translation with a heavy tail, and about the centre some rotation, zoom and shear."""
    length = min(median * math.exp(scene.spread * chance.gauss(0, 1)), scene.largest)
    angle = chance.uniform(0, math.tau)
    rotation, zoom, shear = (chance.gauss(0, 1) * turn * share for share in (1.0, 0.8, 0.3))
    u, v = length * math.cos(angle), length * math.sin(angle)
    linear = Affine(zoom, shear - rotation, u, shear + rotation, zoom, v)
    return linear.after(Affine(1, 0, -centre[0], 0, 1, -centre[1]))


def _limited(velocity: Affine, centre: tuple[float, float], largest: float) -> Affine:
    share = largest / max(largest, math.hypot(*velocity.at(*centre)))
    return STILL.plus(velocity, share)


def _waves(chance: random.Random, size: int, scene: Scene) -> tuple[Wave, ...]:
    """Two waves, or none; the velocity changes by less than 0.15 a pixel in each, so that nothing folds."""
    if chance.random() >= scene.bend:
        return ()
    waves = []
    for _ in range(2):
        wavelength = size * math.exp(chance.uniform(math.log(0.4), math.log(2.0)))
        along, across = chance.uniform(0, math.tau), chance.uniform(0, math.tau)
        frequency, amplitude = math.tau / wavelength, chance.uniform(0.02, 0.15) * wavelength / math.tau
        waves.append(
            Wave(
                (frequency * math.cos(along), frequency * math.sin(along)),
                chance.uniform(0, math.tau),
                (amplitude * math.cos(across), amplitude * math.sin(across)),
            )
        )
    return tuple(waves)
