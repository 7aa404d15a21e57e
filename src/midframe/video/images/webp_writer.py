"""Write animated WebP, and read it back for verification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av

from midframe.errors import OutputError
from midframe.video.frame import Frame
from midframe.video.images.animation import ANIMATION_LAYOUT, AnimationEncoding, AnimationWriter
from midframe.video.images.webp_file import decode_webp_frame, open_webp, parse_webp
from midframe.video.pixels import frame_of

MAX_WEBP_SIDE = 16383
"""The largest width and height of a WebP, in pixels."""

LOSSLESS_WEBP_OPTIONS = {"lossless": "1", "compression_level": "1", "quality": "20"}
"""Options of libwebp for lossless pictures. Level and quality, which here means effort, are low for speed."""

_ENCODING = AnimationEncoding(
    container="webp",
    encoder="libwebp",
    pixel_format="bgra",
    options=LOSSLESS_WEBP_OPTIONS,
    tick=Fraction(1, 1000),
    shortest=1,
    advice="a WebP shows at most 1000 frames a second; give --fps",
)


class WebpWriter(AnimationWriter):
    """Writes frames as a lossless animated WebP; a `Sink` of 8-bit RGB frames.

    Every frame is stored whole, even if it equals the frame before it. Times are rounded to 1/1000 s.
    """

    def __init__(self, target: str, width: int, height: int, *, plays: int = 0, overwrite: bool = False) -> None:
        """Open the output; `plays` is the number of times that the animation is shown, 0 for endless."""
        if max(width, height) > MAX_WEBP_SIDE:
            raise OutputError(
                f"{target}: WebP cannot hold a picture of {width}x{height}; at most {MAX_WEBP_SIDE} pixels a side"
            )
        super().__init__(target, _ENCODING, (width, height), loop_option=str(plays), overwrite=overwrite)

    def to_picture(self, frame: Frame) -> av.VideoFrame:
        """Return a frame as opaque BGRA."""
        return frame_of(frame.planes, frame.layout, _ENCODING.pixel_format)


def frame_times(path: Path) -> list[Fraction]:
    """Return the times of all frames of a WebP, in seconds."""
    return parse_webp(path.read_bytes(), str(path)).frame_times()


def count_frames(path: Path) -> int:
    """Return the number of frames of a WebP."""
    return len(frame_times(path))


def decode_frames(path: Path, indices: Sequence[int]) -> Iterator[Frame]:
    """Decode the frames of a WebP with the given indices, which rise from 0.

    Raises `OutputError` if there is no frame of that index.
    """
    file = parse_webp(path.read_bytes(), str(path))
    times = file.frame_times()
    with open_webp(file, str(path)) as image:
        for index in indices:
            if index >= len(times):
                raise OutputError(f"{path} has no frame {index}")
            yield Frame(decode_webp_frame(image, index, str(path)).planes, ANIMATION_LAYOUT, times[index])
