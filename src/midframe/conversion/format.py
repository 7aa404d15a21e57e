"""Choose how the picture is written: layout, colour, encoder and everything else that describes the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from midframe.conversion.settings import Settings
from midframe.conversion.times import OutputTimes
from midframe.errors import InputError, SettingError
from midframe.video.colour import Colour
from midframe.video.containers import CONTAINERS, Container
from midframe.video.encoders import Encoder, EncoderRequest, choose_encoder, encoded_size
from midframe.video.frame import Layout, planar_layout
from midframe.video.images.animation import ANIMATION_LAYOUT
from midframe.video.images.writer import image_colour, image_layout
from midframe.video.images.y4m import y4m_layout
from midframe.video.probe import Film
from midframe.video.streams import StreamPlan, chapters_for, container_metadata, film_stream_metadata
from midframe.video.writer import OutputFormat, check_output_format


@dataclass(frozen=True)
class PictureFormat:
    """How the pixels of the output are stored and encoded."""

    layout: Layout
    colour: Colour
    encoder: Encoder


def choose_picture_format(film: Film, target: str, container: Container, settings: Settings) -> PictureFormat:
    """Choose layout, colour and encoder: the film's own layout and colour unless target or settings need others.

    Raises `SettingError` if the settings do not fit each other, the container or the film, and `InputError` if the
    film is transparent.
    """
    if film.has_alpha and not settings.drop_alpha and film.pixel_format.startswith(("yuva", "gbrap")):
        raise InputError(
            f"{film.path} has transparency ({film.pixel_format}), which made frames lack; --drop-alpha leaves it out"
        )
    layout = _choose_layout(film, target, container, settings)
    colour = _choose_colour(film, layout, container, settings)
    if not container.needs_encoder:
        return PictureFormat(layout, colour, Encoder(container.name, layout.name, {}))
    request = EncoderRequest(settings.codec, settings.encoder, settings.crf, settings.preset)
    return PictureFormat(layout, colour, choose_encoder(container, layout, colour, film.hdr, request))


def complete_format(
    film: Film, container: Container, picture: PictureFormat, times: OutputTimes, settings: Settings
) -> OutputFormat:
    """Return the complete description of the output, and try it out.

    Raises `SettingError` if the encoder refuses its settings, and `OutputError` for an odd size with `odd` = "error".
    """
    width, height = encoded_size(picture.encoder, film.width, film.height, settings.odd)
    timeline = times.timeline
    output = OutputFormat(
        container=container,
        encoder=picture.encoder,
        layout=picture.layout,
        colour=picture.colour,
        width=width,
        height=height,
        rate=timeline.rate or film.rate * timeline.factor / timeline.slowdown,
        time_base=times.time_base,
        aspect=film.sample_aspect_ratio,
        display_matrix=film.display_matrix,
        disposition=film.disposition,
        metadata=container_metadata(film, container),
        stream_metadata=film_stream_metadata(film, container),
        chapters=chapters_for(film, container, timeline),
    )
    if container.needs_encoder:
        check_output_format(output)
    return output


LOSSLESS_BITS_PER_SAMPLE = 0.5
"""Rough size of losslessly coded pictures, for each bit of depth, in bits a sample."""

LOSSY_BITS_PER_SAMPLE = 0.03
"""Rough size of pictures coded with the default quality, in bits a sample."""


def estimate_bytes(film: Film, picture: PictureFormat, streams: Sequence[StreamPlan], frame_count: int) -> int:
    """Return a rough, low estimate of the output's size in bytes: the pictures, and the other streams as they are."""
    samples = sum(height * width for height, width in picture.layout.sizes(film.width, film.height))
    is_lossless = picture.encoder.name in ("ffv1", *(c.name for c in CONTAINERS if c.video_only))
    bits = picture.layout.depth * LOSSLESS_BITS_PER_SAMPLE if is_lossless else LOSSY_BITS_PER_SAMPLE
    others = sum(plan.info.bytes for plan in streams if plan.included and plan.action != "encode")
    return others + int(samples * bits / 8 * frame_count)


def _choose_layout(film: Film, target: str, container: Container, settings: Settings) -> Layout:
    """Return the layout in which frames are written."""
    if settings.pixel_format is not None:
        layout = planar_layout(settings.pixel_format)
        if layout is None or settings.pixel_format.startswith("yuvj"):
            raise SettingError(
                f"'{settings.pixel_format}' is not a pixel format to convert to; "
                "give a planar one such as yuv420p, yuv444p10le, gray or gbrp"
            )
        return layout
    if container.writer == "images":
        return image_layout(target, film.layout)
    if container.writer in ("gif", "webp"):
        return ANIMATION_LAYOUT
    return y4m_layout(film.layout) if container.writer == "y4m" else film.layout


def _choose_colour(film: Film, layout: Layout, container: Container, settings: Settings) -> Colour:
    """Return the meaning of the code values in `layout`: the film's own colour if the layout is of the same family.

    Otherwise BT.709 with limited range for YUV, and full range for RGB and gray.
    """
    if container.writer == "images" and settings.pixel_format is None:
        return image_colour(layout, film.colour)
    if layout.family == (film.colour.matrix if film.colour.matrix in ("rgb", "gray") else "yuv"):
        return film.colour
    if layout.family == "yuv":
        return Colour("bt709", full_range=False, tags=replace(film.colour.tags, matrix=1, range=1))
    matrix_tag = {"rgb": 0, "gray": 2}[layout.family]
    return Colour(layout.family, full_range=True, tags=replace(film.colour.tags, matrix=matrix_tag, range=2))
