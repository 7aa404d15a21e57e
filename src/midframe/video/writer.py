"""Write a film: encode frames at exact times and mux them with the other streams of the source."""

from __future__ import annotations

import contextlib
import io
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any, cast

import av
import av.codec.context
import av.container
import av.error
import av.stream
import numpy as np

from midframe.errors import MidframeError, SettingError
from midframe.files import part_path, sync_file, write_error
from midframe.video.colour import Colour
from midframe.video.containers import Container
from midframe.video.damage import DamageLog
from midframe.video.encoders import Encoder, suitable_encoders
from midframe.video.frame import Frame, Layout, Plane
from midframe.video.pixels import frame_of
from midframe.video.remuxer import Remuxer
from midframe.video.sink import put_in_place
from midframe.video.streams import has_custom_keys, includes_cover_art

if TYPE_CHECKING:
    from av.container.core import Chapter


MAX_TICKS_PER_SECOND = 100_000_000
"""The finest clock that is used. At this clock the longest duration of a frame in mp4 (31 bits) is 21 s."""

MIN_TICKS_PER_SECOND = 10_000
"""The coarsest `movie_timescale` that is used, for which start times are rounded by at most 0.05 ms."""


@dataclass(frozen=True)
class OutputFormat:
    """How the pictures of an output film are stored, and the metadata that go with them."""

    container: Container
    encoder: Encoder

    layout: Layout
    """The layout of the frames that the writer takes."""

    colour: Colour
    """The meaning of the code values, with the tags that are written."""

    width: int
    """Width of the encoded pictures; smaller frames are padded at the right."""

    height: int
    """Height of the encoded pictures; smaller frames are padded at the bottom."""

    rate: Fraction
    """Nominal frame rate, in frames a second. The frames' times do not depend on it."""

    time_base: Fraction
    """Unit of the frames' times, in seconds."""

    aspect: Fraction | None = None
    """Pixel aspect ratio, width over height; None if the source does not give it."""

    display_matrix: tuple[int, ...] | None = None
    """FFmpeg's display matrix, 9 integers: the rotation that players apply."""

    disposition: int = 0
    """FFmpeg's disposition bits of the film's stream."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    """Global metadata."""

    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the film's stream."""

    chapters: Sequence[Mapping[str, Any]] = ()
    """Chapters at output times, as PyAV takes them."""


class FilmWriter:
    """Encodes frames into a film file; a `Sink`. Not safe for use from several threads at once.

    `index` is the number of the film's stream in the file. `ticks` are the times of the frames written so far, in units
    of `format.time_base`. Every failure to write raises `OutputError`; `check_output_format` tells beforehand whether
    encoder and container work together.
    """

    def __init__(self, target: str, output_format: OutputFormat, remuxer: Remuxer, *, overwrite: bool = False) -> None:
        """Open the output. The remuxer supplies the packets of the other streams; the writer closes it."""
        self.part = part_path(target)
        self.target = target
        self.format = output_format
        self.remuxer = remuxer
        self.overwrite = overwrite
        self.ticks = array("q")
        self._output: av.container.OutputContainer | None = None
        os.environ.setdefault("SVT_LOG", "1")  # otherwise SVT-AV1 reports to standard error
        try:
            options = _muxer_options(output_format, remuxer)
            self._output = av.open(str(self.part), "w", format=output_format.container.name, options=options)
            self._stream = _add_film_stream(self._output, output_format)
            self.index = self._stream.index
            remuxer.add_streams(self._output)
            self._output.start_encoding()
        except BaseException as error:
            self.abort()
            raise self._as_output_error(error) from None

    def write(self, frame: Frame) -> None:
        """Encode one frame, and write the packets of the other streams up to its time."""
        assert self._output is not None
        output_format = self.format
        tick = round(frame.time / output_format.time_base)
        picture = frame_of(
            _padded(frame.planes, output_format), output_format.layout, output_format.encoder.pixel_format
        )
        picture.pts = tick
        picture.time_base = output_format.time_base
        picture.duration = round((frame.duration or 0) / output_format.time_base)
        picture.colorspace, picture.color_range = output_format.colour.tags.matrix, output_format.colour.tags.range
        picture.color_primaries, picture.color_trc = (
            output_format.colour.tags.primaries,
            output_format.colour.tags.transfer,
        )
        try:
            self._output.mux(self._stream.encode(picture))
            self.remuxer.advance(self._output, frame.time)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._as_output_error(error) from None
        self.ticks.append(tick)

    def finish(self) -> None:
        """Flush the encoder and the other streams, and close the file."""
        assert self._output is not None
        try:
            self._output.mux(self._stream.encode(None))
            self.remuxer.finish(self._output)
            self._output.close()
            self._output = None
            sync_file(self.part)  # a full disk may show itself only now
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._as_output_error(error) from None

    def commit(self) -> None:
        """Give the finished file its final name."""
        self.remuxer.close()
        put_in_place(self.part, self.target, self.overwrite)

    def abort(self) -> None:
        """Close without finishing, and delete what was written."""
        self.remuxer.close()
        output, self._output = self._output, None
        if output is not None:
            _close_quietly(output)
        self.part.unlink(missing_ok=True)

    def _as_output_error(self, error: BaseException) -> BaseException:
        """Return the `OutputError` for a failure to write; other exceptions are returned unchanged."""
        if isinstance(error, (av.error.FFmpegError, OSError, ValueError)) and not isinstance(error, MidframeError):
            return write_error(self.target, error)
        return error


def check_output_format(output_format: OutputFormat) -> None:
    """Raise `SettingError` if the encoder refuses its settings, or the container refuses the encoder.

    Both are tried by opening an output in memory.
    """
    name, context = output_format.encoder.name, None
    with contextlib.ExitStack() as stack:
        output = av.open(io.BytesIO(), "w", format=output_format.container.name)
        stack.callback(_close_quietly, output)
        log = stack.enter_context(DamageLog({name, output_format.container.name}))
        try:
            context = _add_film_stream(output, output_format).codec_context
            output.start_encoding()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if context is not None and not context.is_open:
                reason = next(iter(log.messages), None) or getattr(error, "strerror", None) or str(error)
                raise SettingError(
                    _why_not_opened(output_format.encoder, reason, isinstance(error, PermissionError))
                ) from None
            container = output_format.container
            suitable = " ".join(suitable_encoders(container, output_format.layout))
            raise SettingError(
                f"{container.spoken_name} cannot hold the output of {name}; give one of the encoders {suitable}"
                + ("" if container.encoders is None else ", or write an .mkv")
            ) from None


def _close_quietly(output: av.container.OutputContainer) -> None:
    """Close an output whose failure is already known."""
    with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
        output.close()


def _why_not_opened(encoder: Encoder, reason: str, forbidden: bool) -> str:
    """Return, in one line, why an encoder could not be opened; `forbidden` if the system denied permission."""
    if forbidden:
        return f"the encoder {encoder.name} cannot run on this machine (no such hardware?)"
    options = " ".join(f"{key}={value}" for key, value in encoder.options.items())
    return f"the encoder {encoder.name} refused its settings ({options}): {reason}"


def _add_film_stream(output: av.container.OutputContainer, output_format: OutputFormat) -> av.VideoStream:
    """Add the film's own video stream, the global metadata and the chapters to an output."""
    stream = output.add_stream(
        output_format.encoder.name, rate=output_format.rate, options=dict(output_format.encoder.options)
    )
    assert isinstance(stream, av.VideoStream)
    context = stream.codec_context
    context.width, context.height = output_format.width, output_format.height
    context.pix_fmt = output_format.encoder.pixel_format
    context.time_base = stream.time_base = output_format.time_base
    context.flags |= int(av.codec.context.Flags.frame_duration)
    context.colorspace, context.color_range = output_format.colour.tags.matrix, output_format.colour.tags.range
    context.color_primaries, context.color_trc = output_format.colour.tags.primaries, output_format.colour.tags.transfer
    if output_format.aspect is not None:
        context.sample_aspect_ratio = output_format.aspect
    if output_format.display_matrix is not None:
        stream.set_display_matrix(output_format.display_matrix)
    if output_format.encoder.name in output_format.container.codec_tags:
        context.codec_tag = output_format.container.codec_tags[output_format.encoder.name]
    stream.metadata.update(output_format.stream_metadata)
    stream.disposition = av.stream.Disposition(output_format.disposition)
    stream.thread_type = "AUTO"
    output.metadata.update(output_format.metadata)
    if output_format.chapters:
        output.set_chapters([cast("Chapter", chapter) for chapter in output_format.chapters])
    return stream


def _muxer_options(output_format: OutputFormat, remuxer: Remuxer) -> dict[str, str]:
    """Return the muxer options with which a container keeps times exact and metadata complete."""
    options = dict(output_format.container.muxer_options)
    if output_format.container.movie_timescale:
        options["movie_timescale"] = str(_movie_timescale(output_format.time_base, remuxer.time_bases()))
    if has_custom_keys(output_format.metadata, output_format.container) and not includes_cover_art(remuxer.plans):
        options["movflags"] = "use_metadata_tags"
    return options


def _movie_timescale(film_base: Fraction, other_bases: Sequence[Fraction]) -> int:
    """Return a `movie_timescale` in which the start times of the film, and of most other streams, are exact.

    A stream is left out if the common clock would exceed `MAX_TICKS_PER_SECOND`.
    """
    scale = film_base.denominator
    for base in other_bases:
        common = lcm(scale, base.denominator)
        scale = common if common <= MAX_TICKS_PER_SECOND else scale
    while scale < MIN_TICKS_PER_SECOND:
        scale *= 2
    return scale


def _padded(planes: Sequence[Plane], output_format: OutputFormat) -> Sequence[Plane]:
    """Return planes `[h, w]` of the encoded size; the last column and row are repeated."""
    sizes = output_format.layout.sizes(output_format.width, output_format.height)
    if all(plane.shape == size for plane, size in zip(planes, sizes, strict=True)):
        return planes
    return [
        np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")
        for plane, (height, width) in zip(planes, sizes, strict=True)
    ]
