"""Writing a film: frames in, encoded at exact times, with all other streams beside them."""

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
from midframe.video.colour import Colour
from midframe.video.damage import DamageLog
from midframe.video.encoders import Encoder, encoders_for
from midframe.video.frame import Frame, Layout, Plane
from midframe.video.pixels import frame_of
from midframe.video.remuxer import Carrier
from midframe.video.sink import part_path, put_in_place, write_error
from midframe.video.streams import holds_cover, needs_free_keys, spoken

if TYPE_CHECKING:
    from av.container.core import Chapter


FINEST = 100_000_000
"""The finest clock, in ticks a second: at this one mp4 still holds gaps of 20 s."""


@dataclass(frozen=True)
class FilmFormat:
    """How a film is written: container, encoder, picture, clock, and what describes it."""

    container: str
    encoder: Encoder
    layout: Layout
    colour: Colour
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    aspect: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    disposition: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: Sequence[Mapping[str, Any]] = ()


class FilmWriter:
    """Encodes frames into a film file. Not safe for use from several threads at once.

    A `Sink` (see there). carrier: brings the packets of the other streams. `index` is the film's stream in the file,
    `ticks` the times of the frames written so far, in `form.time_base`. Raises `OutputError` for everything that goes
    wrong in writing; `try_format` says beforehand whether encoder and container work.
    """

    def __init__(self, target: str, form: FilmFormat, carrier: Carrier, *, overwrite: bool = False) -> None:
        self.part = part_path(target)
        self.target = target
        self.form = form
        self.carrier = carrier
        self.overwrite = overwrite
        self.ticks = array("q")
        self.output: av.container.OutputContainer | None = None
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 reports to standard error otherwise
        try:
            self.output = av.open(str(self.part), "w", format=form.container, options=_muxer_options(form, carrier))
            self.stream = _film_stream(self.output, self.form)
            self.index = self.stream.index
            carrier.add_streams(self.output)
            self.output.start_encoding()
        except BaseException as error:
            self.abort()
            raise self._explain(error) from None

    def write(self, frame: Frame) -> None:
        """Encode one frame, and write the packets of the other streams up to its time."""
        assert self.output is not None
        tick = frame.time / self.form.time_base
        picture = frame_of(_padded(frame.planes, self.form), self.form.layout, self.form.encoder.pixel_format)
        picture.pts = round(tick)
        picture.time_base = self.form.time_base
        picture.duration = round((frame.duration or 0) / self.form.time_base)
        colour = self.form.colour
        picture.colorspace, picture.color_range = colour.tag_matrix, colour.tag_range
        picture.color_primaries, picture.color_trc = colour.tag_primaries, colour.tag_transfer
        try:
            packets = self.stream.encode(picture)
            self.output.mux(packets)
            self.carrier.advance(self.output, frame.time)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._explain(error) from None
        self.ticks.append(round(tick))

    def finish(self) -> None:
        """Flush the encoder and the other streams, and close the file so that a full disk shows itself."""
        assert self.output is not None
        try:
            self.output.mux(self.stream.encode(None))
            self.carrier.finish(self.output)
            self.output.close()
            self.output = None
            with self.part.open("rb+") as file:
                os.fsync(file.fileno())  # a full disk may show itself only now
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._explain(error) from None

    def commit(self) -> None:
        """Give the finished file its name."""
        self.carrier.close()
        put_in_place(self.part, self.target, self.overwrite)

    def abort(self) -> None:
        """Close without finishing and delete what was written."""
        self.carrier.close()
        output, self.output = self.output, None
        if output is not None:
            _close_quietly(output)
        self.part.unlink(missing_ok=True)

    def _explain(self, error: BaseException) -> BaseException:
        if isinstance(error, (av.error.FFmpegError, OSError, ValueError)) and not isinstance(error, MidframeError):
            return write_error(self.target, error)
        return error


def try_format(form: FilmFormat) -> None:
    """Open encoder and container on a file in memory. Raises `SettingError` where one of them does not work so."""
    name, context = form.encoder.name, None
    with contextlib.ExitStack() as stack:
        output = av.open(io.BytesIO(), "w", format=form.container)
        stack.callback(_close_quietly, output)
        log = stack.enter_context(DamageLog({name, form.container}))
        try:
            context = _film_stream(output, form).codec_context
            output.start_encoding()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if context is not None and not context.is_open:
                said = next(iter(log.messages), None) or getattr(error, "strerror", None) or str(error)
                raise SettingError(_refused(form.encoder, said, isinstance(error, PermissionError))) from None
            able = " ".join(encoders_for(form.container, form.layout))
            raise SettingError(
                f"{spoken(form.container)} does not hold what {name} makes; give one of the encoders {able}"
                + ("" if form.container == "matroska" else ", or write an .mkv")
            ) from None


def _close_quietly(output: av.container.OutputContainer) -> None:
    with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
        output.close()


def _refused(encoder: Encoder, reason: str, forbidden: bool) -> str:
    """Why an encoder could not be opened, in one line."""
    if forbidden:
        return f"the encoder {encoder.name} cannot run on this machine (no such hardware?)"
    given = " ".join(f"{k}={v}" for k, v in encoder.options.items())
    return f"the encoder {encoder.name} refused its settings ({given}): {reason}"


def _film_stream(output: av.container.OutputContainer, form: FilmFormat) -> av.VideoStream:
    stream = output.add_stream(form.encoder.name, rate=form.rate, options=dict(form.encoder.options))
    assert isinstance(stream, av.VideoStream)
    context = stream.codec_context
    context.width, context.height = form.width, form.height
    context.pix_fmt = form.encoder.pixel_format
    context.time_base = form.time_base
    stream.time_base = form.time_base
    context.flags |= int(av.codec.context.Flags.frame_duration)
    colour = form.colour
    context.colorspace, context.color_range = colour.tag_matrix, colour.tag_range
    context.color_primaries, context.color_trc = colour.tag_primaries, colour.tag_transfer
    if form.aspect is not None:
        context.sample_aspect_ratio = form.aspect
    if form.display_matrix is not None:
        stream.set_display_matrix(form.display_matrix)
    if form.encoder.name == "libx265" and form.container in ("mp4", "mov"):
        context.codec_tag = "hvc1"
    stream.metadata.update(form.stream_metadata)
    stream.disposition = av.stream.Disposition(form.disposition)
    stream.thread_type = "AUTO"
    output.metadata.update(form.metadata)
    if form.chapters:
        output.set_chapters([cast("Chapter", chapter) for chapter in form.chapters])
    return stream


def _muxer_options(form: FilmFormat, carrier: Carrier) -> dict[str, str]:
    """What makes a container keep times exactly and metadata whole."""
    if form.container not in ("mp4", "mov"):
        return {"avoid_negative_ts": "disabled"} if form.container == "matroska" else {}
    # The clock in which the starts of all tracks are written: one that holds each of them.
    scale = form.time_base.denominator
    for clock in carrier.clocks():
        scale = lcm(scale, clock.denominator) if lcm(scale, clock.denominator) <= FINEST else scale
    while scale < 10_000:
        scale *= 2
    options = {"movie_timescale": str(scale)}
    if needs_free_keys(form.metadata) and not holds_cover(carrier.plans):
        options["movflags"] = "use_metadata_tags"
    return options


def _padded(planes: Sequence[Plane], form: FilmFormat) -> Sequence[Plane]:
    """Planes grown to the encoded size by repeating the last column and row."""
    sizes = form.layout.sizes(form.width, form.height)
    if all(plane.shape == size for plane, size in zip(planes, sizes, strict=True)):
        return planes
    return [
        np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")
        for plane, (height, width) in zip(planes, sizes, strict=True)
    ]
