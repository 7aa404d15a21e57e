"""Choose the video encoder of an output film: its pixel format, its options and its HDR metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error

from midframe.errors import OutputError, SettingError
from midframe.video.colour import HLG, PQ, Colour
from midframe.video.containers import Container
from midframe.video.frame import Layout
from midframe.video.pixels import format_holds
from midframe.video.probe import HdrMetadata

CODECS = {
    "h264": ("libx264", "libx264rgb"),
    "h265": ("libx265",),
    "av1": ("libsvtav1",),
    "vp9": ("libvpx-vp9",),
    "ffv1": ("ffv1",),
    "prores": ("prores_ks",),
}
"""The encoders of each codec that `--codec` offers; the first that takes the film's pixel format is used."""


@dataclass(frozen=True)
class Encoder:
    """A chosen encoder."""

    name: str
    """FFmpeg's name of the encoder; the container's name if the container is written without a choice of encoder."""

    pixel_format: str
    """FFmpeg's name of the pixel format that the encoder is given."""

    options: Mapping[str, str]
    """The encoder's private options."""


@dataclass(frozen=True)
class EncoderRequest:
    """What the user asks of the encoder; None leaves the choice to Midframe."""

    codec: str | None = None
    """A key of `CODECS`."""

    encoder: str | None = None
    """FFmpeg's name of an encoder or of a codec; it takes precedence over `codec`."""

    crf: float | None = None
    """Constant rate factor, from 0 (best) to the encoder's maximum."""

    preset: str | None = None
    """The encoder's own name of a trade-off between speed and size; for ProRes the profile."""


def choose_encoder(
    container: Container, layout: Layout, colour: Colour, hdr: HdrMetadata, request: EncoderRequest | None = None
) -> Encoder:
    """Choose the encoder for pictures of one layout in a container, by default or by the user's request.

    Raises `SettingError` if the encoder does not exist, does not take the pixel format or lacks an option asked for.
    The message names what can be used instead.
    """
    request = request or EncoderRequest()
    if request.encoder is not None:
        names: tuple[str, ...] = (_canonical_name(request.encoder),)
    elif request.codec is not None:
        if request.codec not in CODECS:
            raise SettingError(
                f"there is no codec '{request.codec}'; give one of {', '.join(CODECS)}, or --encoder NAME"
            )
        names = CODECS[request.codec]
    else:
        names = container.default_encoders if layout.depth == 8 else container.default_encoders_deep
    for name in names:
        pixel_format = _pixel_format(name, layout)
        if pixel_format is not None:
            return Encoder(name, pixel_format, _options(name, colour, hdr, request))
    suitable = suitable_encoders(container, layout)
    advice = f"those that do: {', '.join(suitable)}" if suitable else "no encoder for this container does"
    raise SettingError(
        f"{names[0]} does not take the film's pixel format ({layout.describe()}); {advice}; "
        "or convert with --pixel-format"
    )


def suitable_encoders(container: Container, layout: Layout) -> list[str]:
    """Return the encoders of `CODECS` that take pictures of a layout and that the container holds."""
    return [
        name
        for name in _known_encoders()
        if _pixel_format(name, layout) and (container.encoders is None or name in container.encoders)
    ]


def encoded_size(encoder: Encoder, width: int, height: int, odd: str) -> tuple[int, int]:
    """Return the width and height that an encoder is given: the smallest it can hold that are not below the film's.

    Some encoders hold only even sizes along the axes in which the chroma planes are halved. Raises `OutputError` if
    the size would have to grow and `odd` is "error" rather than "pad".
    """
    if encoder.name not in _EVEN_SIZES_ONLY:
        return width, height
    pixel_format = av.VideoFormat(encoder.pixel_format)
    multiple_x = 2 if pixel_format.chroma_width(4) == 2 else 1
    multiple_y = 2 if pixel_format.chroma_height(4) == 2 else 1
    padded = (-(-width // multiple_x) * multiple_x, -(-height // multiple_y) * multiple_y)
    if padded != (width, height) and odd == "error":
        raise OutputError(
            f"{encoder.name} cannot hold the odd size {width}x{height}; --odd pad repeats the last column or line"
        )
    return padded


def writes_hdr_metadata(name: str) -> bool:
    """Return whether an encoder writes static HDR metadata."""
    return name in _HDR_OPTIONS


@dataclass(frozen=True)
class _QualityScale:
    """The constant rate factors of an encoder."""

    default: int
    worst: int


@dataclass(frozen=True)
class _Presets:
    """The option by which an encoder trades speed for size, its default, and its values."""

    option: str
    default: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class _HdrOptions:
    """How an encoder takes static HDR metadata: its option for parameters, and the names of two parameters."""

    option: str
    mastering_display: str
    content_light: str


_EVEN_SIZES_ONLY = ("libx264", "libx265", "libsvtav1", "prores_ks", "h264_nvenc", "hevc_nvenc")
"""Encoders that refuse odd sizes with subsampled chroma."""

_QUALITY = {
    "libx264": _QualityScale(18, 51),
    "libx264rgb": _QualityScale(18, 51),
    "libx265": _QualityScale(18, 51),
    "libsvtav1": _QualityScale(24, 63),
    "libvpx-vp9": _QualityScale(24, 63),
}

_X264_PRESETS = _Presets(
    "preset",
    "medium",
    ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"),
)

_PRESETS = {
    "libx264": _X264_PRESETS,
    "libx264rgb": _X264_PRESETS,
    "libx265": _X264_PRESETS,
    "libsvtav1": _Presets("preset", "8", tuple(str(k) for k in range(14))),
    "libvpx-vp9": _Presets("cpu-used", "2", tuple(str(k) for k in range(9))),
    "prores_ks": _Presets("profile", "hq", ("proxy", "lt", "standard", "hq", "4444", "4444xq")),
}

_FIXED_QUANTISER = ("mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "msmpeg4v2", "msmpeg4", "h263p", "flv", "wmv2")
"""Encoders that are given the fixed quantiser 2; without one they aim at 200 kbit/s."""

_LAMBDA_PER_QUANTISER = 118
"""FFmpeg's FF_QP2LAMBDA: `global_quality` is the quantiser times this."""

_HDR_OPTIONS = {
    "libx265": _HdrOptions("x265-params", "master-display", "max-cll"),
    "libx264": _HdrOptions("x264-params", "mastering-display", "cll"),
    "libsvtav1": _HdrOptions("svtav1-params", "mastering-display", "content-light"),
}

_SITING_ENCODERS = ("libx264", "libx264rgb", "libx265", "libsvtav1", "ffv1")
"""Encoders that write the chroma siting."""


def _known_encoders() -> list[str]:
    return [name for encoders in CODECS.values() for name in encoders]


def _canonical_name(name: str) -> str:
    """Return FFmpeg's own name of a video encoder; `h264` becomes `libx264`. Raises `SettingError` if there is none."""
    try:
        codec = av.codec.Codec(name, "w")
    except (av.error.FFmpegError, ValueError):
        codec = None
    if codec is None or codec.type != "video":
        raise SettingError(f"there is no video encoder '{name}'; usual ones: {', '.join(_known_encoders())}")
    return codec.name


def _pixel_format(name: str, layout: Layout) -> str | None:
    """Return the encoder's pixel format of least depth that holds a layout (`format_holds`); None if there is none."""
    try:
        formats = [f.name for f in av.codec.Codec(name, "w").video_formats or ()]
    except (av.error.FFmpegError, ValueError):
        return None
    if layout.name in formats:
        return layout.name
    suitable = [f for f in formats if format_holds(f, layout)]
    return min(suitable, key=lambda f: max(c.bits for c in av.VideoFormat(f).components), default=None)


def _options(name: str, colour: Colour, hdr: HdrMetadata, request: EncoderRequest) -> dict[str, str]:
    """Return an encoder's options: quality, speed, chroma siting and HDR metadata."""
    options = {**_quality_options(name, request.crf), **_preset_options(name, request.preset)}
    if name == "libvpx-vp9":
        options |= {"b": "0", "row-mt": "1", "deadline": "good"}
    if name in _FIXED_QUANTISER:
        options |= {"flags": "+qscale", "global_quality": str(2 * _LAMBDA_PER_QUANTISER)}
    if name == "ffv1":
        options |= {"level": "3", "slicecrc": "1"}
    if name in _SITING_ENCODERS and colour.siting != "left":
        options["chroma_sample_location"] = {"topleft": "topleft", "centre": "center"}[colour.siting]
    parameters = _hdr_parameters(name, colour, hdr)
    if name == "libx265":
        parameters = [*parameters, "log-level=error"]
    if parameters:
        options[_HDR_OPTIONS[name].option] = ":".join(parameters)
    return options


def _quality_options(name: str, crf: float | None) -> dict[str, str]:
    """Return the option for a constant rate factor. Raises `SettingError` if the encoder does not take it."""
    scale = _QUALITY.get(name)
    if scale is None:
        if crf is not None:
            raise SettingError(f"{name} has no --crf")
        return {}
    if crf is not None and not 0 <= crf <= scale.worst:
        raise SettingError(f"{name} takes a --crf from 0 (best) to {scale.worst}, not {crf:g}")
    return {"crf": f"{scale.default if crf is None else crf:g}"}


def _preset_options(name: str, preset: str | None) -> dict[str, str]:
    """Return the option for a preset. Raises `SettingError` if the encoder does not have it."""
    presets = _PRESETS.get(name)
    if presets is None:
        if preset is not None:
            raise SettingError(f"{name} has no --preset")
        return {}
    if preset is not None and preset not in presets.values:
        raise SettingError(f"{name} has no --preset '{preset}'; it has {' '.join(presets.values)}")
    return {presets.option: preset or presets.default}


def _hdr_parameters(name: str, colour: Colour, hdr: HdrMetadata) -> list[str]:
    """Return the `key=value` parameters with which an encoder writes static HDR metadata; none without metadata."""
    if name not in _HDR_OPTIONS or (hdr.mastering_display is None and hdr.content_light_level is None):
        return []
    keys, parameters = _HDR_OPTIONS[name], []
    if hdr.mastering_display is not None:
        parameters.append(f"{keys.mastering_display}={_mastering_display(name, hdr.mastering_display)}")
    if hdr.content_light_level is not None:
        parameters.append(f"{keys.content_light}={hdr.content_light_level[0]},{hdr.content_light_level[1]}")
    if name == "libx265":
        parameters += ["hdr10=1"] if colour.tags.transfer in (PQ, HLG) else []
        parameters += ["repeat-headers=1"]
    return parameters


def _mastering_display(name: str, mastering: tuple[int, ...]) -> str:
    """Return FFmpeg's mastering display metadata as an encoder's text: primaries G B R, white point, luminance.

    mastering: numerators and denominators in turn: x and y of red, green, blue and white, then the lowest and highest
    luminance in cd/m². SVT-AV1 takes decimals, x264 and x265 units of 1/50000 and 1/10000 cd/m².
    """
    values = [Fraction(mastering[k], mastering[k + 1] or 1) for k in range(0, 20, 2)]
    red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y, low, high = values
    points = (("G", green_x, green_y), ("B", blue_x, blue_y), ("R", red_x, red_y), ("WP", white_x, white_y))
    if name == "libsvtav1":
        chromaticities = "".join(f"{label}({float(x):.5f},{float(y):.5f})" for label, x, y in points)
        return f"{chromaticities}L({float(high):.4f},{float(low):.4f})"
    chromaticities = "".join(f"{label}({round(x * 50000)},{round(y * 50000)})" for label, x, y in points)
    return f"{chromaticities}L({round(high * 10000)},{round(low * 10000)})"
