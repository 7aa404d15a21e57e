"""Read size and pixel type of an image file from its header, without decoding it.

All files of an image sequence are compared by their headers before the first one is decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class ImageHeader:
    """The properties in which all images of a sequence must agree."""

    codec: str
    """FFmpeg's name of the decoder."""

    width: int
    height: int

    pixel_type: str
    """How the pixels are stored, in words, such as `RGB, 8 bit`."""

    def describe(self) -> str:
        """Return the header in words, for messages."""
        return f"{self.width}x{self.height}, {_TYPE_NAMES[self.codec]} {self.pixel_type}"


_TYPE_NAMES = {"png": "PNG", "mjpeg": "JPEG", "tiff": "TIFF", "bmp": "BMP", "webp": "WebP"}
"""Names of the image types for messages, by FFmpeg's decoder."""


def read_image_header(path: Path) -> ImageHeader:
    """Read the header of a PNG, JPEG, TIFF, BMP or WebP file, whose type is recognised by its first bytes.

    Raises `ValueError` if the file is none of these or its header is damaged, and `OSError` if it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(32)
        try:
            for signature, read in _READERS.items():
                if start.startswith(signature):
                    header = read(file, start)
                    break
            else:
                raise ValueError("it is empty" if not start else "it is not a picture")
        except (struct.error, IndexError):
            raise ValueError("its header is cut off") from None
    if not (0 < header.width < 65536 and 0 < header.height < 65536):
        raise ValueError(f"its header says {header.width}x{header.height} pixels")
    return header


# Each reader takes the opened file and its first 32 bytes.


def _read_png(file: BinaryIO, start: bytes) -> ImageHeader:
    if start[12:16] != b"IHDR":
        raise ValueError("its header is damaged")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", start, 16)
    names = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGB with alpha"}
    pixel_type = f"{names.get(colour_type, f'colour type {colour_type}')}, {depth} bit"
    file.seek(8)
    while colour_type in (0, 2):  # a chunk before the pixels may declare one colour transparent
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"tRNS":
            pixel_type += ", with a transparent colour"
        if kind in (b"tRNS", b"IDAT", b"IEND"):
            break
        file.seek(length + 4, 1)
    return ImageHeader("png", width, height, pixel_type)


def _read_jpeg(file: BinaryIO, _start: bytes) -> ImageHeader:
    file.seek(2)
    while True:
        prefix, marker = struct.unpack("BB", file.read(2))
        if prefix != 0xFF:
            raise ValueError("its header is damaged")
        if marker == 0xFF:  # a fill byte before the marker
            file.seek(-1, 1)
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            break
        if marker in (0xD9, 0xDA):  # the end of the image, or its samples, before a start of frame
            raise ValueError("its header is damaged")
        file.seek(length - 2, 1)
    depth, height, width, count = struct.unpack(">BHHB", file.read(6))
    sampling = " ".join(f"{file.read(3)[1]:02x}" for _ in range(count))
    names = {"22 11 11": "YUV 4:2:0", "21 11 11": "YUV 4:2:2", "11 11 11": "4:4:4"}
    colour = "gray" if count == 1 else names.get(sampling, f"sampling {sampling}")
    return ImageHeader("mjpeg", width, height, f"{colour}, {depth} bit")


_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 256, 257, 258, 262, 338, 339
"""TIFF tags."""


def _read_tiff(file: BinaryIO, start: bytes) -> ImageHeader:
    order = "<" if start.startswith(b"II") else ">"
    file.seek(struct.unpack_from(f"{order}I", start, 4)[0])
    fields = _read_tiff_directory(file, order)
    if not {_WIDTH, _HEIGHT} <= fields.keys():
        raise ValueError("its header is damaged")
    names = {0: "gray", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YUV"}
    (photometric,) = fields.get(_PHOTOMETRIC, (1,))
    colour = names.get(photometric, f"colour type {photometric}")
    alpha = " with alpha" if _EXTRA_SAMPLES in fields else ""
    bits = "+".join(str(b) for b in dict.fromkeys(fields.get(_BITS, (1,))))
    floating = ", floating point" if 3 in fields.get(_SAMPLE_FORMAT, ()) else ""
    return ImageHeader("tiff", fields[_WIDTH][0], fields[_HEIGHT][0], f"{colour}{alpha}, {bits} bit{floating}")


def _read_tiff_directory(file: BinaryIO, order: str) -> dict[int, tuple[int, ...]]:
    """Read the values of the TIFF tags above from the directory at the file's position; order: `<` or `>`."""
    wanted = (_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    fields: dict[int, tuple[int, ...]] = {}
    directory = file.read(12 * count)
    for k in range(count):
        tag, kind, number = struct.unpack_from(f"{order}HHI", directory, 12 * k)
        if tag not in wanted or kind not in (3, 4) or number > 8:  # 16-bit and 32-bit integers
            continue
        layout = f"{order}{number}{'H' if kind == 3 else 'I'}"
        values = directory[12 * k + 8 : 12 * k + 12]
        if struct.calcsize(layout) > 4:  # the entry holds the values' offset in the file
            file.seek(struct.unpack(f"{order}I", values)[0])
            values = file.read(struct.calcsize(layout))
        fields[tag] = struct.unpack_from(layout, values)
    return fields


def _read_bmp(_file: BinaryIO, start: bytes) -> ImageHeader:
    (header_size,) = struct.unpack_from("<I", start, 14)
    layout = "<HHHH" if header_size == 12 else "<iiHH"  # 12: the OS/2 header, with sizes of 16 bits
    width, height, _, bits = struct.unpack_from(layout, start, 18)
    return ImageHeader("bmp", width, abs(height), f"{bits} bits a pixel")  # negative height: stored top row first


def _read_webp(file: BinaryIO, start: bytes) -> ImageHeader:
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
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"\xff\xd8": _read_jpeg,
    b"II*\0": _read_tiff,
    b"MM\0*": _read_tiff,
    b"BM": _read_bmp,
    b"RIFF": _read_webp,
}
"""The readers by the signature at the beginning of a file."""
