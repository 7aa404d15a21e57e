"""Find out whether a GIF is complete, from the lengths of its blocks.

FFmpeg decodes a GIF that was cut off without reporting an error.
"""

from __future__ import annotations

from pathlib import Path

_HEADER_SIZE = 13
"""Bytes of the signature and the logical screen descriptor."""

_SCREEN_FLAGS = 10
"""Offset in the file of the flags that describe the global colour table."""

_IMAGE_SIZE, _IMAGE_FLAGS = 11, 9
"""Bytes of an image descriptor with the code size after it, and the offset in it of the colour table's flags."""

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
"""The bytes that introduce a block."""


def gif_is_truncated(path: str | Path) -> bool:
    """Return whether a GIF ends before its trailer; a file that is not a GIF counts as truncated.

    The pictures are not decoded. Raises `OSError` if the file cannot be read.
    """
    data = Path(path).read_bytes()
    if data[:3] != b"GIF":
        return True
    try:
        position = _HEADER_SIZE + _colour_table_size(data[_SCREEN_FLAGS])
        while data[position] != _TRAILER:
            if data[position] == _IMAGE:
                position += _IMAGE_SIZE + _colour_table_size(data[position + _IMAGE_FLAGS])
            elif data[position] == _EXTENSION:
                position += 2
            else:
                return True
            while data[position]:  # sub-blocks, each after its length; the last is empty
                position += 1 + data[position]
            position += 1
    except IndexError:
        return True
    return False


def _colour_table_size(flags: int) -> int:
    """Return the size in bytes of the colour table that flags describe; 0 if there is none."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
