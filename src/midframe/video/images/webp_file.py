"""Parse WebP files by their chunks and decode their frames with Pillow."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import numpy as np
from PIL import Image, UnidentifiedImageError

from midframe.errors import InputError
from midframe.video.images.animation import ANIMATION_LAYOUT
from midframe.video.pixels import DecodedPlanes


@dataclass(frozen=True)
class WebpFile:
    """A WebP file in memory, up to its last whole chunk."""

    data: bytes
    """The file's bytes. If it was cut off, its incomplete last chunk is left out and its header says so."""

    durations: tuple[int, ...]
    """The frames' durations in milliseconds; empty if the file is a single picture, not an animation."""

    complete: bool
    """Whether the file is as long as its header says."""

    def frame_times(self) -> list[Fraction]:
        """Return the times of all frames, in seconds; a single picture is a frame at 0."""
        return [Fraction(start, 1000) for start in accumulate((0, *self.durations[:-1]))]


def parse_webp(data: bytes, path: str) -> WebpFile:
    """Parse the bytes of the file `path`. Raises `InputError` if it is no WebP or has no whole picture."""
    if not data.startswith(b"RIFF") or data[8:12] != b"WEBP":
        raise InputError(f"{path} is not a film that can be read: {'it is not a WebP file' if data else 'it is empty'}")
    stated_size = struct.unpack("<I", data[4:8])[0] + 8
    durations = []
    has_picture = False
    position = 12
    while position + 8 <= min(stated_size, len(data)):
        kind, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > len(data):
            break
        if kind == b"ANMF" and length >= 16:
            durations.append(int.from_bytes(data[position + 20 : position + 23], "little"))
        has_picture |= kind in (b"VP8 ", b"VP8L")
        position += 8 + length + (length & 1)
    if not durations and not has_picture:
        raise InputError(f"{path} has no whole picture in it")
    chunks = data[12:position]
    whole = b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
    return WebpFile(whole, tuple(durations), complete=position >= stated_size - 1)


def open_webp(file: WebpFile, path: str) -> Image.Image:
    """Open a parsed WebP with Pillow. Raises `InputError` if Pillow refuses it."""
    try:
        return Image.open(io.BytesIO(file.data), formats=("webp",))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a film that can be read: {error}") from None


def decode_webp_frame(image: Image.Image, index: int, path: str) -> DecodedPlanes:
    """Decode a frame (from 0) of an opened WebP. Raises `InputError` if it is damaged."""
    try:
        image.seek(index)
        pixels = np.array(image)
    except (EOFError, OSError, ValueError) as error:
        raise InputError(f"{path}: frame {index + 1} cannot be decoded: {error}") from None
    planes = tuple(np.ascontiguousarray(pixels[..., channel]) for channel in range(3))
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    return DecodedPlanes(planes, ANIMATION_LAYOUT, alpha)
