"""Whether a GIF is all there: FFmpeg ends a GIF that is cut off without a word, so its blocks are walked here."""

from __future__ import annotations

from pathlib import Path


def gif_is_truncated(path: str | Path) -> bool:
    """Whether a GIF ends before its trailer, by the lengths of its blocks; the pictures are not decoded.

    Raises `OSError` where the file cannot be read. A file that is no GIF at all ends early, too.
    """
    data = Path(path).read_bytes()
    try:
        if data[:3] != b"GIF":
            return True
        at = 13 + _table(data[10])
        while data[at] != 0x3B:
            if data[at] == 0x2C:  # a picture: place and size, its own colours, the size of its codes, blocks
                at += 11 + _table(data[at + 9])
            elif data[at] == 0x21:  # an extension
                at += 2
            else:
                return True
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        return True
    return False


def _table(flags: int) -> int:
    """The bytes of a colour table, by the flags before it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
