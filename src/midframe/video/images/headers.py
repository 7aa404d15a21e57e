"""What a picture file is, from its header alone: thousands of files are compared before the first is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class ImageHeader:
    """codec: the name of FFmpeg's decoder; form: how the pixels are stored, in words."""

    codec: str
    width: int
    height: int
    form: str

    def describe(self) -> str:
        return f"{self.width}x{self.height}, {_NAMES[self.codec]} {self.form}"


_NAMES = {"png": "PNG", "mjpeg": "JPEG", "tiff": "TIFF", "bmp": "BMP", "webp": "WebP"}


def read_image_header(path: Path) -> ImageHeader:
    """Read the header of a PNG, JPEG, TIFF, BMP or WebP file; what it is, is told by its first bytes, not its name.

    Raises `ValueError` where it is none of them or its header is cut off, and `OSError` where it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(32)
        try:
            for magic, read in _READERS.items():
                if start.startswith(magic):
                    header = read(file, start)
                    break
            else:
                raise ValueError("it is empty" if not start else "it is not a picture")
        except (struct.error, IndexError):
            raise ValueError("its header is cut off") from None
    if not (0 < header.width < 65536 and 0 < header.height < 65536):
        raise ValueError(f"its header says {header.width}x{header.height} pixels")
    return header


def _png(file: BinaryIO, start: bytes) -> ImageHeader:
    if start[12:16] != b"IHDR":
        raise ValueError("its header is damaged")
    width, height, depth, colour = struct.unpack_from(">IIBB", start, 16)
    kinds = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGB with alpha"}
    form = f"{kinds.get(colour, f'colour type {colour}')}, {depth} bit"
    file.seek(8)
    while colour in (0, 2):  # one colour may be named transparent, in a chunk before the pixels
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"tRNS":
            form += ", with a transparent colour"
        if kind in (b"tRNS", b"IDAT", b"IEND"):
            break
        file.seek(length + 4, 1)
    return ImageHeader("png", width, height, form)


def _jpeg(file: BinaryIO, _start: bytes) -> ImageHeader:
    file.seek(2)
    while True:
        fill, marker = struct.unpack("BB", file.read(2))
        if fill != 0xFF:
            raise ValueError("its header is damaged")
        if marker == 0xFF:
            file.seek(-1, 1)
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            break
        if marker in (0xD9, 0xDA):
            raise ValueError("its header is damaged")
        file.seek(length - 2, 1)
    depth, height, width, count = struct.unpack(">BHHB", file.read(6))
    sampling = " ".join(f"{file.read(3)[1]:02x}" for _ in range(count))
    known = {"22 11 11": "YUV 4:2:0", "21 11 11": "YUV 4:2:2", "11 11 11": "4:4:4"}
    words = "gray" if count == 1 else known.get(sampling, f"sampling {sampling}")
    return ImageHeader("mjpeg", width, height, f"{words}, {depth} bit")


def _tiff(file: BinaryIO, start: bytes) -> ImageHeader:
    order = "<" if start.startswith(b"II") else ">"
    file.seek(struct.unpack_from(f"{order}I", start, 4)[0])
    (count,) = struct.unpack(f"{order}H", file.read(2))
    fields: dict[int, tuple[int, ...]] = {}
    directory = file.read(12 * count)
    for k in range(count):
        tag, kind, number = struct.unpack_from(f"{order}HHI", directory, 12 * k)
        if tag not in (256, 257, 258, 262, 277, 338, 339) or kind not in (3, 4) or number > 8:
            continue
        layout = f"{order}{number}{'H' if kind == 3 else 'I'}"
        values = directory[12 * k + 8 : 12 * k + 12]
        if struct.calcsize(layout) > 4:
            file.seek(struct.unpack(f"{order}I", values)[0])
            values = file.read(struct.calcsize(layout))
        fields[tag] = struct.unpack_from(layout, values)
    if not {256, 257} <= fields.keys():
        raise ValueError("its header is damaged")
    kinds = {0: "gray", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YUV"}
    (colour,) = fields.get(262, (1,))
    form = f"{kinds.get(colour, f'colour type {colour}')}{' with alpha' if 338 in fields else ''}"
    bits = "+".join(str(b) for b in dict.fromkeys(fields.get(258, (1,))))
    floating = ", floating point" if 3 in fields.get(339, ()) else ""
    return ImageHeader("tiff", fields[256][0], fields[257][0], f"{form}, {bits} bit{floating}")


def _bmp(_file: BinaryIO, start: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", start, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", start, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", start, 18)
    return ImageHeader("bmp", width, abs(height), f"{bits} bits a pixel")


def _webp(file: BinaryIO, start: bytes) -> ImageHeader:
    if start[8:12] != b"WEBP":
        raise ValueError("it is not a picture")
    file.seek(12)
    alpha = False
    while True:
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind in (b"VP8 ", b"VP8L"):
            break
        if kind == b"ANMF":
            raise ValueError("it is an animation, not a picture")
        alpha |= kind == b"ALPH"
        file.seek(length + (length & 1), 1)
    body = file.read(10)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF, f"lossy{' with alpha' if alpha else ''}")
    (bits,) = struct.unpack_from("<I", body, 1)
    return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, "lossless")


_READERS = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8": _jpeg,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"BM": _bmp,
    b"RIFF": _webp,
}
