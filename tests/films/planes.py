"""Convert RGB to the planes of a pixel format and back, in floating point, by ITU-T H.273."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.video.format import VideoFormat

from .film import Film
from .scenes import picture

LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # Kr, Kb

# For formats with several components in a plane: the components of each plane in the order of memory
# (0, 1, 2 are Y, Cb, Cr or R, G, B; 3 is alpha).
PACKED = {
    **dict.fromkeys(("nv12", "nv16", "nv24", "p010le", "p012le", "p016le", "p210le", "p410le"), ((0,), (1, 2))),
    **dict.fromkeys(("nv21", "nv42"), ((0,), (2, 1))),
    **dict.fromkeys(("rgb24", "rgb48le"), ((0, 1, 2),)),
    "bgr24": ((2, 1, 0),),
    **dict.fromkeys(("rgba", "rgba64le", "rgb0"), ((0, 1, 2, 3),)),
    **dict.fromkeys(("bgra", "bgr0"), ((2, 1, 0, 3),)),
}
SHIFT = {"p010le": 6, "p210le": 6, "p410le": 6, "p012le": 4}  # samples are stored in the high bits


def planes(film: Film, time: Fraction | float) -> tuple[np.ndarray, ...]:
    """Return the true planes of the film at `time`, as a perfect interpolation would give them."""
    rgb = picture(film, time)
    if film.interlaced:
        later = picture(film, Fraction(time) + 1 / (2 * Fraction(film.rate)))
        rgb[1::2] = later[1::2]
    return planes_of(film, rgb)


def planes_of(film: Film, rgb: np.ndarray) -> tuple[np.ndarray, ...]:
    """Convert RGB [H, W, 3] float in 0..1 to the planes of `film.pixel_format`: 2-D, uint8 or uint16, as in memory.

    Components that are stored in one plane are interleaved, so its width is pixels × components. Limited range
    applies to YUV and gray only. A palette format gives the indices into a cube of 6×6×6 colours, and that palette.
    """
    layout = VideoFormat(film.pixel_format, film.width, film.height)
    if film.pixel_format == "pal8":
        steps = np.floor(np.clip(rgb, 0, 1) * 5 + 0.5).astype(np.uint8)
        return (steps @ np.array([36, 6, 1], np.uint8)).astype(np.uint8), palette()
    if film.pixel_format.endswith("be"):
        raise ValueError(f"big-endian {film.pixel_format} is not drawn")
    bits = layout.components[0].bits
    parts = [_codes(part, bits) for part in _components(film, layout, rgb)]
    order = PACKED.get(film.pixel_format) or _planar(layout)
    result = []
    for indices in order:
        stack = np.stack([parts[k] for k in indices], axis=-1) << SHIFT.get(film.pixel_format, 0)
        result.append(stack.reshape(stack.shape[0], -1).astype(np.uint8 if bits == 8 else np.uint16))
    return tuple(result)


def rgb_of(film: Film, stored: tuple[np.ndarray, ...]) -> np.ndarray:
    """Convert planes to float RGB [H, W, 3], not clipped: the inverse of `planes_of` but for rounding and subsampling.

    Chroma is interpolated linearly, by the film's chroma siting. Planar formats and packed RGB are supported.
    """
    layout = VideoFormat(film.pixel_format, film.width, film.height)
    bits = layout.components[0].bits
    order = PACKED.get(film.pixel_format) or _planar(layout)
    parts: dict[int, np.ndarray] = {}
    for plane, indices in zip(stored, order, strict=False):
        apart = (plane >> SHIFT.get(film.pixel_format, 0)).reshape(plane.shape[0], -1, len(indices)).astype(float)
        parts |= {k: apart[..., place] for place, k in enumerate(indices)}
    if layout.is_rgb:
        return np.stack([parts[k] for k in range(3)], axis=-1) / (2**bits - 1)
    offset, span, middle, chroma_span = _range(film, bits)
    luma = (parts[0] - offset) / span
    if len(parts) < 3:
        return np.repeat(luma[..., None], 3, axis=-1)
    cb, cr = ((_grow(film, parts[k]) - middle) / chroma_span for k in (1, 2))
    red_share, blue_share = LUMA[film.matrix_used]
    red, blue = luma + 2 * (1 - red_share) * cr, luma + 2 * (1 - blue_share) * cb
    green = (luma - red_share * red - blue_share * blue) / (1 - red_share - blue_share)
    return np.stack([red, green, blue], axis=-1)


def palette() -> np.ndarray:
    """Return the palette: 256 colours, B G R A in memory, [256, 4] uint8."""
    index = np.arange(216)
    colours = np.zeros((256, 4), np.uint8)
    colours[:, 3] = 255
    for channel, weight in enumerate((1, 6, 36)):
        colours[:216, channel] = index // weight % 6 * 51
    return colours


def _range(film: Film, bits: int) -> tuple[float, float, float, float]:
    """Return the code of black, the codes from black to white, the code of zero chroma, and the codes of chroma."""
    scale = 2 ** (bits - 8)
    if film.is_full_range:
        return 0.0, 2**bits - 1.0, 128.0 * scale, 2**bits - 1.0
    return 16.0 * scale, 219.0 * scale, 128.0 * scale, 224.0 * scale


def _components(film: Film, layout: VideoFormat, rgb: np.ndarray) -> list[np.ndarray]:
    bits = layout.components[0].bits
    alpha = np.broadcast_to(np.linspace(0.2, 1.0, film.width), rgb.shape[:2]) * (2**bits - 1)
    if layout.is_rgb:
        return [*(rgb[..., k] * (2**bits - 1) for k in range(3)), alpha]
    offset, span, middle, chroma_span = _range(film, bits)
    red_share, blue_share = LUMA[film.matrix_used]
    luma = rgb @ np.array([red_share, 1 - red_share - blue_share, blue_share])
    parts = [luma * span + offset]
    if len(layout.components) < 3:
        return parts
    for channel, share in ((2, blue_share), (0, red_share)):
        chroma = (rgb[..., channel] - luma) / (2 * (1 - share)) * chroma_span + middle
        parts.append(_shrink(chroma, layout, film.siting_used))
    return [*parts, alpha]


def _codes(values: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, 2**bits - 1).astype(np.int64)


def _planar(layout: VideoFormat) -> tuple[tuple[int, ...], ...]:
    by_plane = {component.plane: (k,) for k, component in enumerate(layout.components)}
    if len(by_plane) != len(layout.components):
        raise ValueError(f"the layout of {layout.name} is not known here")
    return tuple(by_plane[plane] for plane in sorted(by_plane))


def _shrink(chroma: np.ndarray, layout: VideoFormat, siting: str) -> np.ndarray:
    """Subsample chroma as the format requires: filter 1-2-1 around a co-sited sample, else the mean of two samples."""
    if layout.chroma_width(4) == 2:
        chroma = _halve(chroma.T, siting in ("left", "topleft")).T
    if layout.chroma_height(4) == 2:
        chroma = _halve(chroma, siting == "topleft")
    return chroma


def _halve(rows: np.ndarray, cosited: bool) -> np.ndarray:
    padded = np.concatenate([rows[:1], rows, rows[-1:], rows[-1:]])
    count = (len(rows) + 1) // 2
    before, at, after = (padded[k : k + 2 * count : 2][:count] for k in range(3))
    return (before + 2 * at + after) / 4 if cosited else (at + after) / 2


def _grow(film: Film, chroma: np.ndarray) -> np.ndarray:
    if chroma.shape[1] < film.width:
        chroma = _double(chroma.T, film.width, film.siting_used in ("left", "topleft")).T
    if chroma.shape[0] < film.height:
        chroma = _double(chroma, film.height, film.siting_used == "topleft")
    return chroma


def _double(rows: np.ndarray, size: int, cosited: bool) -> np.ndarray:
    place = np.clip((np.arange(size) - (0.0 if cosited else 0.5)) / 2, 0, len(rows) - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(rows) - 1)
    share = (place - low)[:, None]
    return rows[low] * (1 - share) + rows[high] * share
