"""Read an image sequence (a folder, or a pattern of file names) as a film."""

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
from midframe.video.image_names import image_name, image_number, list_images, split_pattern
from midframe.video.images.headers import ImageHeader, read_image_header
from midframe.video.images.sequence import read_image_frames
from midframe.video.pixels import DecodedPlanes, has_alpha, layout_of_format, planes_of
from midframe.video.probe import Film, colour_of_frame
from midframe.video.reader import DEFAULT_OPTIONS, ReadOptions, ReadReport


def probe_images(path: str, rate: Fraction) -> Film:
    """Describe an image sequence as a film, in which image k is shown at k/rate seconds.

    The headers of all files are compared, and the first image is decoded. Raises `InputError` if there is no image, if
    one differs from the first in size or pixel type, or if no image can be decoded. Files without a readable header are
    named in `problems`; they count as damaged frames when the film is read.
    """
    files = list_images(path)
    header, problems = _compare_headers(path, files)
    decoded = (_decode_or_none(file, header.codec) for file in files)
    picture = next((picture for picture in decoded if picture is not None), None)
    if picture is None:
        raise InputError(f"none of the {len(files)} pictures in {path} can be decoded")
    name = picture.format.name
    layout = layout_of_format(name)
    if layout is None:
        raise InputError(f"{files[0]}: the pixel format {name} ({header.describe()}) is not one that Midframe reads")
    return Film(
        path=path,
        container="images",
        stream_index=0,
        codec=header.codec,
        width=picture.width,
        height=picture.height,
        pixel_format=name,
        layout=layout,
        colour=colour_of_frame(picture, layout, header.codec),
        time_base=1 / rate,
        rate=rate,
        last_duration=1 / rate,
        ticks=array("q", range(len(files))),
        has_alpha=has_alpha(name),
        problems=(*_missing_numbers(Path(path).name, files), *problems),
    )


def read_images(
    film: Film,
    report: ReadReport,
    options: ReadOptions = DEFAULT_OPTIONS,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Frame]:
    """Decode the images of a probed sequence with start <= time < end. The contract is that of `reader.read_frames`."""
    files = list_images(film.path)
    if film.ticks is None or len(files) != len(film.ticks):
        raise InputError(f"{film.path}: the number of pictures has changed since they were looked at")

    def decode(index: int) -> DecodedPlanes:
        picture = decode_image(files[index], film.codec)
        found = (picture.width, picture.height, picture.format.name)
        if found != (film.width, film.height, film.pixel_format):
            raise InputError(f"{files[index]} is {found[0]}x{found[1]} {found[2]}, unlike the pictures before it")
        return planes_of(picture)

    with DamageLog({film.codec}) as log:
        try:
            yield from read_image_frames(film, report, decode, options, cancelled)
        finally:
            report.messages.update(log.messages)


def decode_image(file: Path, codec: str | None = None) -> av.VideoFrame:
    """Decode an image file. Raises `InputError`, naming the file, for every damage that can be detected.

    codec: FFmpeg's name of the decoder; None: it is found from the file's header.
    """
    try:
        codec = codec or read_image_header(file).codec
        data = file.read_bytes()
        # The decoder fills what is missing at the end of a JPEG with gray and reports nothing: there must be an end of
        # image (FF D9) after the last start of scan (FF DA).
        if codec == "mjpeg" and data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) < 0:
            raise InputError(f"{file} is cut off")
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, av.VideoCodecContext)
        # With these options the TIFF decoder would refuse files with unknown tags.
        context.options = {} if codec == "tiff" else {"err_detect": "crccheck+bitstream+buffer+explode"}
        pictures = [*context.decode(av.Packet(data)), *context.decode(None)] if data else []
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{file} cannot be decoded: {error_reason(error)}") from None
    if not pictures:
        raise InputError(f"{file} cannot be decoded: there is no picture in it")
    return pictures[0]


MAX_NAMED = 3
"""How many files without a readable header are named one by one."""


def _compare_headers(path: str, files: list[Path]) -> tuple[ImageHeader, list[str]]:
    """Return the header that all files have in common, and messages about files whose header cannot be read.

    Raises `InputError` if two headers differ or none can be read.
    """
    first: ImageHeader | None = None
    unreadable: list[str] = []
    for file in files:
        try:
            header = read_image_header(file)
        except (ValueError, OSError) as error:
            unreadable.append(f"{file.name} cannot be read: {error_reason(error)}")
            continue
        first = first or header
        if header != first:
            raise InputError(
                f"{file} is {header.describe()}, but the pictures before it are {first.describe()}; all pictures of a "
                "film must have one size and pixel format"
            )
    if first is None:
        raise InputError(f"none of the {len(files)} pictures in {path} can be read: {unreadable[:MAX_NAMED][-1]}")
    if len(unreadable) > MAX_NAMED:
        unreadable[MAX_NAMED:] = [f"{len(unreadable) - MAX_NAMED} more pictures cannot be read"]
    return first, unreadable


def _missing_numbers(pattern: str, files: list[Path]) -> list[str]:
    """Return a message if numbers are missing among the files of a pattern, else none."""
    if split_pattern(pattern) is None:
        return []
    numbers = [number for file in files if (number := image_number(pattern, file.name)) is not None]
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if not missing:
        return []
    last_before = next(a for a, b in itertools.pairwise(numbers) if b != a + 1)
    return [f"{missing} pictures are missing in the numbering, the first after {image_name(pattern, last_before)}"]


def _decode_or_none(file: Path, codec: str) -> av.VideoFrame | None:
    try:
        return decode_image(file, codec)
    except InputError:
        return None
