"""Pairs of frames that are equal but for their right third, and networks that disturb them.

Shared by `conversion/test_stillness.py` and `benchmarks/stillness.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from films import Film, planes_of
from made_frames import Noise, Planes, disturbed_network
from midframe.networks.base import InterpolationNetwork
from midframe.shader import DEFAULT_PRESET
from midframe.video.colour import Colour
from midframe.video.frame import Layout, planar_layout

WIDTH, HEIGHT = 128, 96

REACH = DEFAULT_PRESET.radius + 4
"""Distance in pixels from the part that differs beyond which nothing may change.

It is the radius of the shader's blur, and a margin for interpolated chroma.
"""

TIMES = [Fraction(1, 4), Fraction(1, 2), Fraction(2, 3)]

NETWORKS: dict[str, Callable[[], InterpolationNetwork]] = {
    "noise": Noise,
    "guided": lambda: disturbed_network("guided", 0.05),
    "paper": lambda: disturbed_network("paper", 0.003),
}
"""Networks whose pictures are wrong everywhere, so that only the shader can keep static regions unchanged."""

REAL_FILMS = {
    "river-boat-still.mp4": "yuv420p",
    "cockatoo-yuv444-20fps.mp4": "yuv444p",
    "phone-hlg-10bit-rotated.mp4": "yuv420p10le",
    "phone-hdr10-av1-portrait.mp4": "yuv420p10le",
    "coast-aerial.mp4": "yuvj420p",
}
"""Real films and their pixel formats."""


def saturated_frames(pixel_format: str) -> tuple[Layout, Colour, Planes, Planes]:
    """Return layout, colour and two frames of blocks of pure colours, equal but for their right third."""
    film = Film(WIDTH, HEIGHT, pixel_format=pixel_format, matrix="bt709")
    layout = planar_layout(pixel_format)
    assert layout is not None
    colour = Colour({"yuv": "bt709"}.get(layout.family, layout.family), layout.family == "rgb")
    rng = np.random.default_rng(11)
    blocks = [rng.integers(0, 2, (HEIGHT // 8, WIDTH // 8, 3)).astype(float) for _ in range(2)]
    first, second = (planes_of(film, np.kron(block, np.ones((8, 8, 1)))) for block in blocks)
    if film.format.is_rgb:
        first, second = ((p[2], p[0], p[1]) for p in (first, second))
    return layout, colour, first, replace_right_third(first, second)


def replace_right_third(planes: Planes, other: Planes) -> Planes:
    """Return a frame with the right third of another one."""
    result = []
    for plane, other_plane in zip(planes, other, strict=True):
        edge = plane.shape[1] * 2 // 3
        result.append(np.concatenate([plane[:, :edge], other_plane[:, edge:]], axis=1))
    return tuple(result)


def static_region(planes: Planes) -> Callable[[int], Any]:
    """Return a function that gives, for the number of a plane, the index of its part beyond `REACH`."""

    def index(k: int) -> Any:
        width = planes[k].shape[1]
        return np.s_[:, : width * 2 // 3 - -(-REACH * width // planes[0].shape[1])]

    return index


def crop_middle(planes: Planes, layout: Layout) -> Planes:
    """Return a part of `WIDTH` x `HEIGHT` pixels from the middle of a frame."""
    top, left = planes[0].shape[0] // 3 & ~3, planes[0].shape[1] // 3 & ~3
    result = []
    for k, plane in enumerate(planes):
        x, y = (layout.shift_x, layout.shift_y) if k else (0, 0)
        result.append(plane[top >> y : top + HEIGHT >> y, left >> x : left + WIDTH >> x].copy())
    return tuple(result)
