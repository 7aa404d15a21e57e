"""Folders and patterns of pictures, read as a film."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error

from midframe.errors import InputError, error_reason
from midframe.video.damage import DamageLog
from midframe.video.frame import Frame
from midframe.video.images.headers import ImageHeader, read_image_header
from midframe.video.images.names import image_name, image_number, list_images, split_pattern
from midframe.video.images.sequence import read_image_frames
from midframe.video.pixels import DecodedPlanes, has_alpha, layout_of_format, planes_of
from midframe.video.probe import Film, colour_of_frame
from midframe.video.reader import DEFAULT_OPTIONS, ReadOptions, ReadReport


def probe_images(path: str, rate: Fraction) -> Film:
    """What the film in a folder or pattern of pictures is: picture k is shown at k/rate.

    The headers of all files are compared, and the first picture is decoded. Raises `InputError` where there is no
    picture, where one differs from the first in size or pixel format (it is named), or the first one is broken. A file
    whose header cannot be read is a broken picture: it is named in `problems`, and met again in reading.
    """
    files = list_images(path)
    first: ImageHeader | None = None
    problems = _holes(Path(path).name, files)
    broken = 0
    for file in files:
        try:
            header = read_image_header(file)
        except (ValueError, OSError) as error:
            broken += 1
            if broken <= 3:
                problems.append(f"{file.name} cannot be read: {error_reason(error)}")
            continue
        first = first or header
        if header != first:
            raise InputError(
                f"{file} is {header.describe()}, but the pictures before it are {first.describe()}; all pictures of a "
                "film must have one size and pixel format"
            )
    if first is None:
        raise InputError(f"none of the {len(files)} pictures in {path} can be read: {problems[-1]}")
    if broken > 3:
        problems.append(f"{broken - 3} more pictures cannot be read")
    picture = next(picture for file in files if (picture := _decodable(file, first.codec)) is not None)
    name = picture.format.name
    layout = layout_of_format(name)
    if layout is None:
        raise InputError(f"{files[0]}: the pixel format {name} ({first.describe()}) is not one that Midframe reads")
    return Film(
        path=path,
        container="images",
        stream_index=0,
        codec=first.codec,
        width=picture.width,
        height=picture.height,
        pixel_format=name,
        layout=layout,
        colour=colour_of_frame(picture, layout, first.codec),
        time_base=1 / rate,
        rate=rate,
        last_duration=1 / rate,
        ticks=array("q", range(len(files))),
        has_alpha=has_alpha(name),
        problems=tuple(problems),
    )


def read_images(
    film: Film,
    report: ReadReport,
    options: ReadOptions = DEFAULT_OPTIONS,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Frame]:
    """Decode the pictures of a probed film with start <= time < end; the contract of `reader.read_frames`."""
    files = list_images(film.path)
    if film.ticks is None or len(files) != len(film.ticks):
        raise InputError(f"{film.path}: the number of pictures has changed since they were looked at")

    def load(k: int) -> DecodedPlanes:
        picture = decode_image(files[k], film.codec)
        found = (picture.width, picture.height, picture.format.name)
        if found != (film.width, film.height, film.pixel_format):
            raise InputError(f"{files[k]} is {found[0]}x{found[1]} {found[2]}, unlike the pictures before it")
        return planes_of(picture)

    with DamageLog({film.codec}) as log:
        try:
            yield from read_image_frames(film, report, load, options, cancelled)
        finally:
            report.messages.update(log.messages)


def decode_image(file: Path, codec: str | None = None) -> av.VideoFrame:
    """Decode one picture file; raises `InputError`, naming it, where it is broken in any way that can be told."""
    try:
        codec = codec or read_image_header(file).codec
        data = file.read_bytes()
        # The decoder fills what is missing at the end of a JPEG with gray and says nothing.
        if codec == "mjpeg" and data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) < 0:
            raise InputError(f"{file} is cut off")
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, av.VideoCodecContext)
        # The TIFF decoder would take an unknown tag for damage.
        context.options = {} if codec == "tiff" else {"err_detect": "crccheck+bitstream+buffer+explode"}
        pictures = [*context.decode(av.Packet(data)), *context.decode(None)] if data else []
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{file} cannot be decoded: {error_reason(error)}") from None
    if not pictures:
        raise InputError(f"{file} cannot be decoded: there is no picture in it")
    return pictures[0]


def _holes(pattern: str, files: list[Path]) -> list[str]:
    """What is missing in the numbering of a pattern, in words."""
    if split_pattern(pattern) is None:
        return []
    numbers = [number for file in files if (number := image_number(pattern, file.name)) is not None]
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if not missing:
        return []
    after = next(a for a, b in itertools.pairwise(numbers) if b != a + 1)
    return [f"{missing} pictures are missing in the numbering, the first after {image_name(pattern, after)}"]


def _decodable(file: Path, codec: str) -> av.VideoFrame | None:
    try:
        return decode_image(file, codec)
    except InputError:
        return None
