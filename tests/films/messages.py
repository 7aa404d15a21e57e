"""Add closed captions and HDR10+ metadata, which no encoder here writes, to films as SEI messages."""

from __future__ import annotations

from pathlib import Path

import av

from .broken import remuxed


def captioned(path: Path, to: Path) -> Path:
    """Copy an H.264 film (mp4, mov or mkv), adding CEA-608 closed captions (ATSC A/53 part 4) to every frame."""
    triples = bytes.fromhex("fc9420fc9420fcc8e5fcecec")
    message = b"\xb5\x00\x31GA94\x03" + bytes([0xC0 | len(triples) // 3, 0xFF]) + triples + b"\xff"
    return remuxed(path, to, lambda number, packet: _with_sei(packet, b"\x06", message))


def dynamic_hdr(path: Path, to: Path) -> Path:
    """Copy an HEVC film (mp4, mov or mkv), adding HDR10+ metadata (SMPTE ST 2094-40) to every frame."""
    fields = [(1, 2), (1000, 27), (0, 1)]  # windows, target luminance, no map of the target's peak
    fields += [(40000, 17)] * 3 + [(12000, 17)]  # largest components, mean of the largest
    fields += [(1, 4), (50, 7), (9000, 17), (100, 10)]  # one percentile, fraction of bright pixels
    fields += [(0, 1), (0, 1), (0, 1)]  # no map of the picture's peak, no tone curve, no saturation weight
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    bits += "0" * (-len(bits) % 8)
    message = b"\xb5\x00\x3c\x00\x01\x04\x01" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return remuxed(path, to, lambda number, packet: _with_sei(packet, b"\x4e\x01", message))


def _with_sei(packet: av.Packet, header: bytes, message: bytes) -> av.Packet:
    """Return the packet with a NAL unit before it: an SEI message of type 4 (registered user data)."""
    unit = header + _escaped(bytes([4, len(message)]) + message + b"\x80")
    longer = av.Packet(len(unit).to_bytes(4, "big") + unit + bytes(packet))
    longer.time_base, longer.pts, longer.dts = packet.time_base, packet.pts, packet.dts
    longer.duration, longer.is_keyframe = packet.duration, packet.is_keyframe
    return longer


def _escaped(payload: bytes) -> bytes:
    """Insert a byte 3 after two zero bytes if a byte of 0..3 follows, which would look like a start code."""
    out = bytearray()
    for byte in payload:
        if byte <= 3 and out[-2:] == b"\x00\x00":
            out.append(3)
        out.append(byte)
    return bytes(out)
