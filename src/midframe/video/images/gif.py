"""Write GIF animations, and read them back for verification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from midframe.errors import OutputError
from midframe.video.frame import Frame, Plane
from midframe.video.images.animation import ANIMATION_LAYOUT, AnimationEncoding, AnimationWriter
from midframe.video.pixels import planes_of
from midframe.video.sink import pick

MAX_GIF_SIDE = 65535
"""The largest width and height of a GIF, in pixels."""

MAX_GIF_RATE = 50
"""The most frames a second: players show a frame of less than 2/100 s for 10/100 s."""

PALETTE_PIXELS = 10_000
"""Approximate number of pixels of a frame from which its 256 colours are chosen.

Compared with a choice from all pixels, the mean squared error rises by 3 to 6 % and the choice is 20 times as fast.
"""

_ENCODING = AnimationEncoding(
    container="gif",
    encoder="gif",
    pixel_format="pal8",
    # By default FFmpeg's encoder leaves out pixels that did not change, even if the frame before had another palette.
    options={"gifflags": "0"},
    tick=Fraction(1, 100),
    shortest=2,
    advice=f"a GIF shows at most {MAX_GIF_RATE} frames a second; give --fps or a .webp",
)


class GifWriter(AnimationWriter):
    """Writes frames as a GIF; a `Sink` of 8-bit RGB frames.

    A frame of up to 256 colours is stored exactly, so the source frames of a GIF stay as they are. For any other frame
    a palette of its own is chosen, and the frame is dithered. Times are rounded to 1/100 s. A frame that would last
    less than 2/100 s raises `OutputError`.
    """

    def __init__(self, target: str, width: int, height: int, *, plays: int = 0, overwrite: bool = False) -> None:
        """Open the output; `plays` is the number of times that the animation is shown, 0 for endless."""
        if max(width, height) > MAX_GIF_SIDE:
            raise OutputError(
                f"{target}: GIF cannot hold a picture of {width}x{height}; at most {MAX_GIF_SIDE} pixels a side"
            )
        # FFmpeg counts the repetitions: -1 for none, 0 for endless.
        loop_option = {0: "0", 1: "-1"}.get(plays, str(plays - 1))
        super().__init__(target, _ENCODING, (width, height), loop_option=loop_option, overwrite=overwrite)

    def to_picture(self, frame: Frame) -> av.VideoFrame:
        """Return a frame as palette indices and a palette."""
        indices, palette = _to_palette(frame)
        picture = av.VideoFrame(frame.width, frame.height, "pal8")
        rows = np.frombuffer(memoryview(picture.planes[0]), np.uint8).reshape(-1, picture.planes[0].line_size)
        rows[: frame.height, : frame.width] = indices
        np.frombuffer(memoryview(picture.planes[1]), np.uint32)[:256] = palette
        return picture


def frame_times(path: Path) -> list[Fraction]:
    """Return the times of all frames of a GIF, in seconds."""
    with av.open(str(path), format="gif", options=_EXACT_TIMES) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base or 1)
        return [packet.pts * base for packet in container.demux(stream) if packet.pts is not None and packet.size]


def count_frames(path: Path) -> int:
    """Return the number of frames of a GIF."""
    return len(frame_times(path))


def decode_frames(path: Path, indices: Sequence[int]) -> Iterator[Frame]:
    """Decode the frames of a GIF with the given indices, which rise from 0, in one pass over the file.

    Raises `OutputError` if there is no frame of that index.
    """
    with av.open(str(path), format="gif", options=_EXACT_TIMES) as container:
        for picture in pick(container.decode(video=0), indices, path):
            planes = tuple(plane.copy() for plane in planes_of(picture).planes)
            yield Frame(planes, ANIMATION_LAYOUT, (picture.pts or 0) * Fraction(picture.time_base or 1))


_EXACT_TIMES = {"min_delay": "0"}
"""Demuxer options: by default FFmpeg lengthens short frames, as players do."""


def _to_palette(frame: Frame) -> tuple[Plane, Plane]:
    """Return a frame as indices `[H, W]` into a palette `[256]` of 32-bit ARGB colours.

    Exact if the frame has at most 256 colours; otherwise median cut and Floyd-Steinberg dithering.
    """
    red, green, blue = (plane.astype(np.uint32) for plane in frame.planes)
    packed = red << 16 | green << 8 | blue
    present = np.zeros(1 << 24, bool)
    present[packed] = True
    colours = np.flatnonzero(present).astype(np.uint32)
    palette = np.full(256, 0xFF000000, np.uint32)
    if len(colours) <= 256:
        palette[: len(colours)] |= colours
        index_of_colour = np.zeros(1 << 24, np.uint8)
        index_of_colour[colours] = np.arange(len(colours), dtype=np.uint8)
        return index_of_colour[packed], palette
    pixels = np.stack(frame.planes, axis=-1)
    step = max(1, round((frame.width * frame.height / PALETTE_PIXELS) ** 0.5))
    sample = Image.fromarray(np.ascontiguousarray(pixels[step // 2 :: step, step // 2 :: step]))
    chosen = sample.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
    dithered = Image.fromarray(pixels).quantize(palette=chosen, dither=Image.Dither.FLOYDSTEINBERG)
    table = np.frombuffer(bytes(dithered.getpalette("RGB") or ()), np.uint8).reshape(-1, 3).astype(np.uint32)
    palette[: len(table)] |= table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]
    return np.asarray(dithered), palette
