"""Which encoder a film gets, in which pixel format, with which options and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error

from midframe.errors import OutputError, SettingError
from midframe.video.colour import HLG, PQ, Colour
from midframe.video.frame import Layout
from midframe.video.pixels import holds
from midframe.video.probe import Hdr

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".gif": "gif",
    ".webp": "webp",
    ".y4m": "yuv4mpegpipe",
}
"""FFmpeg's name of the container by file name suffix."""

CODECS = {
    "h264": ("libx264", "libx264rgb"),
    "h265": ("libx265",),
    "av1": ("libsvtav1",),
    "vp9": ("libvpx-vp9",),
    "ffv1": ("ffv1",),
    "prores": ("prores_ks",),
}
"""The encoders of each `--codec`, the first that takes the film's pixel format."""


@dataclass(frozen=True)
class Encoder:
    """A chosen encoder: FFmpeg's name, the pixel format it is given, and its options."""

    name: str
    pixel_format: str
    options: Mapping[str, str]


def container_for(path: str) -> str:
    """FFmpeg's container for an output file name; raises `SettingError` for one that Midframe does not write."""
    suffix = Path(path).suffix.lower()
    if path == "-":
        return "yuv4mpegpipe"
    if suffix not in CONTAINERS:
        known = " ".join(CONTAINERS)
        raise SettingError(f"cannot tell from '{Path(path).name}' what to write; name it with one of {known}")
    return CONTAINERS[suffix]


def choose_encoder(
    container: str,
    layout: Layout,
    colour: Colour,
    hdr: Hdr,
    *,
    codec: str | None = None,
    encoder: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
) -> Encoder:
    """Choose the encoder for a film, by container and layout, or by the user's `codec` or `encoder`.

    Raises `SettingError` where the encoder does not exist or does not take the film's pixel format; the message names
    those that do.
    """
    if encoder is not None:
        names: tuple[str, ...] = (_encoder_named(encoder),)
    elif codec is not None:
        if codec not in CODECS:
            raise SettingError(f"there is no codec '{codec}'; give one of {', '.join(CODECS)}, or --encoder NAME")
        names = CODECS[codec]
    else:
        names = _defaults(container, layout)
    for name in names:
        pixel_format = _pixel_format(name, layout)
        if pixel_format is not None:
            return Encoder(name, pixel_format, _options(name, colour, hdr, crf, preset))
    takers = encoders_for(container, layout)
    advice = f"those that do: {', '.join(takers)}" if takers else "no encoder for this container does"
    raise SettingError(
        f"{names[0]} does not take the film's pixel format ({layout.describe()}); {advice}; "
        "or convert with --pixel-format"
    )


def encoders_for(container: str, layout: Layout) -> list[str]:
    """The usual encoders for a container that take pictures of a layout."""
    return [n for group in CODECS.values() for n in group if _pixel_format(n, layout) and _fits(n, container)]


def _encoder_named(name: str) -> str:
    """The own name of an encoder: `h264` is libx264."""
    try:
        found = av.codec.Codec(name, "w")
    except (av.error.FFmpegError, ValueError):
        found = None
    if found is None or found.type != "video":
        raise SettingError(f"there is no video encoder '{name}'; usual ones: {_usual()}")
    return found.name


def _defaults(container: str, layout: Layout) -> tuple[str, ...]:
    if container == "webm":
        return ("libvpx-vp9", "libsvtav1") if layout.depth == 8 else ("libsvtav1", "libvpx-vp9")
    return ("libx264", "libx264rgb", "libx265", "ffv1") if layout.depth == 8 else ("libx265", "libx264", "ffv1")


def _fits(name: str, container: str) -> bool:
    fits = {
        "mp4": {"libx264", "libx264rgb", "libx265", "libsvtav1", "libvpx-vp9"},
        "mov": {"libx264", "libx264rgb", "libx265", "prores_ks"},
        "webm": {"libsvtav1", "libvpx-vp9"},
        "matroska": {n for group in CODECS.values() for n in group},
    }
    return name in fits.get(container, {name})


def _pixel_format(name: str, layout: Layout) -> str | None:
    """The first pixel format of an encoder that holds a layout: with its own depth before a deeper one."""
    try:
        formats = [f.name for f in av.codec.Codec(name, "w").video_formats or ()]
    except (av.error.FFmpegError, ValueError):
        return None
    if layout.name in formats:
        return layout.name
    good = [f for f in formats if holds(f, layout)]
    return min(good, key=lambda f: max(c.bits for c in av.VideoFormat(f).components), default=None)


_QUALITY = {"libx264": (18, 51), "libx264rgb": (18, 51), "libx265": (18, 51), "libsvtav1": (24, 63)}
_QUALITY |= {"libvpx-vp9": (24, 63)}
_X264 = tuple("ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split())  # noqa: SIM905
# The option that a preset is for, the usual one, and all there are.
_PRESETS = {
    "libx264": ("preset", "medium", _X264),
    "libx264rgb": ("preset", "medium", _X264),
    "libx265": ("preset", "medium", _X264),
    "libsvtav1": ("preset", "8", tuple(str(k) for k in range(14))),
    "libvpx-vp9": ("cpu-used", "2", tuple(str(k) for k in range(9))),
    "prores_ks": ("profile", "hq", ("proxy", "lt", "standard", "hq", "4444", "4444xq")),
}
_QUANTISED = ("mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "msmpeg4v2", "msmpeg4", "h263p", "flv", "wmv2")


def _usual() -> str:
    return ", ".join(name for group in CODECS.values() for name in group)


def _options(name: str, colour: Colour, hdr: Hdr, crf: float | None, preset: str | None) -> dict[str, str]:
    """The encoder's own options: quality, speed, and HDR metadata in its own words."""
    options: dict[str, str] = {}
    if name in _QUALITY:
        usual, worst = _QUALITY[name]
        if crf is not None and not 0 <= crf <= worst:
            raise SettingError(f"{name} takes a --crf from 0 (best) to {worst}, not {crf:g}")
        options["crf"] = f"{usual if crf is None else crf:g}"
    elif crf is not None:
        raise SettingError(f"{name} has no --crf")
    if name in _PRESETS:
        key, usual_preset, presets = _PRESETS[name]
        if preset is not None and preset not in presets:
            raise SettingError(f"{name} has no --preset '{preset}'; it has {' '.join(presets)}")
        options[key] = preset or usual_preset
    elif preset is not None:
        raise SettingError(f"{name} has no --preset")
    if name == "libvpx-vp9":
        options |= {"b": "0", "row-mt": "1", "deadline": "good"}
    if name in _QUANTISED:
        # Without a word on quality these make 200 kbit/s of any film.
        options |= {"flags": "+qscale", "global_quality": str(2 * 118)}
    if name == "ffv1":
        options |= {"level": "3", "slicecrc": "1"}
    if name in ("libx264", "libx264rgb", "libx265", "libsvtav1", "ffv1") and colour.siting != "left":
        options["chroma_sample_location"] = {"topleft": "topleft", "centre": "center"}[colour.siting]
    parameters = _hdr_parameters(name, colour, hdr)
    if parameters:
        key = {"libx265": "x265-params", "libx264": "x264-params", "libsvtav1": "svtav1-params"}[name]
        options[key] = parameters
    if name == "libx265":
        options["x265-params"] = ":".join(filter(None, (options.get("x265-params"), "log-level=error")))
    return options


def keeps_hdr(name: str) -> bool:
    """Whether an encoder writes static HDR metadata."""
    return name in ("libx265", "libx264", "libsvtav1")


def _hdr_parameters(name: str, colour: Colour, hdr: Hdr) -> str:
    if not keeps_hdr(name) or (hdr.mastering is None and hdr.light is None):
        return ""
    parts = []
    if hdr.mastering is not None:
        values = [Fraction(hdr.mastering[k], hdr.mastering[k + 1] or 1) for k in range(0, 20, 2)]
        (rx, ry, gx, gy, bx, by, wx, wy, low, high) = values
        if name == "libsvtav1":
            points = [
                f"{c}({float(x):.5f},{float(y):.5f})" for c, x, y in (("G", gx, gy), ("B", bx, by), ("R", rx, ry))
            ]
            text = "".join(points) + f"WP({float(wx):.5f},{float(wy):.5f})L({float(high):.4f},{float(low):.4f})"
            parts.append(f"mastering-display={text}")
        else:
            points = [
                f"{c}({round(x * 50000)},{round(y * 50000)})"
                for c, x, y in (("G", gx, gy), ("B", bx, by), ("R", rx, ry), ("WP", wx, wy))
            ]
            text = "".join(points) + f"L({round(high * 10000)},{round(low * 10000)})"
            parts.append(f"{'master-display' if name == 'libx265' else 'mastering-display'}={text}")
    if hdr.light is not None:
        key = {"libx265": "max-cll", "libx264": "cll", "libsvtav1": "content-light"}[name]
        parts.append(f"{key}={hdr.light[0]},{hdr.light[1]}")
    if name == "libx265":
        parts += ["hdr10=1"] if colour.tag_transfer in (PQ, HLG) else []
        parts += ["repeat-headers=1"]
    return ":".join(parts)


def check_size(encoder: Encoder, width: int, height: int, odd: str) -> tuple[int, int]:
    """The size that is encoded: odd sizes that 4:2:0 or 4:2:2 encoders cannot hold grow by one (`odd` = "pad").

    Raises `OutputError` with `odd` = "error".
    """
    if encoder.name not in ("libx264", "libx265", "libsvtav1", "prores_ks", "h264_nvenc", "hevc_nvenc"):
        return width, height
    components = av.VideoFormat(encoder.pixel_format)
    step_x = 2 if components.chroma_width(4) == 2 else 1
    step_y = 2 if components.chroma_height(4) == 2 else 1
    padded = (-(-width // step_x) * step_x, -(-height // step_y) * step_y)
    if padded != (width, height) and odd == "error":
        raise OutputError(f"{encoder.name} cannot hold the odd size {width}x{height}; --odd pad repeats the last line")
    return padded
