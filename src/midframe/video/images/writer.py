"""Write frames as image files: a numbered sequence, or a single image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error

from midframe.errors import OutputError, SettingError, error_reason
from midframe.files import atomic_write, part_path, write_error
from midframe.video.colour import Colour
from midframe.video.frame import Frame, Layout
from midframe.video.image_names import image_name, is_image_sequence, list_images, matching_names, output_pattern
from midframe.video.images.headers import read_image_header
from midframe.video.images.reader import decode_image
from midframe.video.images.webp_writer import LOSSLESS_WEBP_OPTIONS, MAX_WEBP_SIDE
from midframe.video.pixels import frame_of, planes_of
from midframe.video.sink import check_target


class ImageWriter:
    """Writes frames as an image sequence; a `Sink`.

    target: a folder, or a pattern with one number such as `out/frame%05d.jpg`. A folder exists already or has a name
    that ends in a slash; its images are PNG files 00001.png, 00002.png, ... Numbers always start at 1. layout, colour:
    those that `image_layout` and `image_colour` return. PNG, TIFF, BMP and WebP are lossless; JPEG has the finest
    quantisation of FFmpeg's encoder (between Pillow's quality 96 and 97). Everything is written into the folder
    `NAME.PID.part` first.

    Raises `OutputError` if images match the pattern already, or if the target is a folder with anything in it. With
    `overwrite` images that the pattern names are replaced, further ones beyond the last are deleted, and all other
    files stay.
    """

    def __init__(
        self, target: str, layout: Layout, colour: Colour, *, width: int, height: int, overwrite: bool = False
    ) -> None:
        self.part = part_path(target)
        self._target = target
        self._folder, self._pattern = output_pattern(target)
        self._is_whole_folder = Path(target) == self._folder
        self._overwrite = overwrite
        self._layout, self._colour = layout, colour
        self._count = 0
        self._committed = False
        self._check_target()
        self._context = _open_encoder(target, Path(self._pattern).suffix, layout, width, height)
        self._context.thread_type, self._context.thread_count = "FRAME", 0
        try:
            self.part.mkdir()
        except OSError as error:
            raise write_error(target, error) from None

    def write(self, frame: Frame) -> None:
        """Encode one frame."""
        if frame.layout != self._layout or (frame.width, frame.height) != (self._context.width, self._context.height):
            raise ValueError(
                f"the pictures are {self._layout.describe()} {self._context.width}x{self._context.height}, "
                f"not {frame.layout.describe()} {frame.width}x{frame.height}"
            )
        self._encode(_to_picture(frame, self._colour, str(self._context.pix_fmt)))

    def finish(self) -> None:
        """Write the images that the encoder still holds."""
        self._encode(None)

    def commit(self) -> None:
        """Move the images to their final folder."""
        self._check_target()
        names = [image_name(self._pattern, number) for number in range(1, self._count + 1)]
        try:
            if not self._folder.exists():
                self.part.rename(self._folder)
            else:
                for name in names:
                    (self.part / name).replace(self._folder / name)
                for name in set(self._existing_names()) - set(names):
                    (self._folder / name).unlink()
                self.part.rmdir()
        except OSError as error:
            raise write_error(self._target, error) from None
        self._committed = True

    def abort(self) -> None:
        """Delete the images, unless they are in their final folder already."""
        if not self._committed:
            shutil.rmtree(self.part, ignore_errors=True)

    def _encode(self, picture: av.VideoFrame | None) -> None:
        """Encode a picture, or flush the encoder with None, and write the images that are ready."""
        try:
            for packet in self._context.encode(picture):
                self._count += 1
                (self.part / image_name(self._pattern, self._count)).write_bytes(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise write_error(self._target, error) from None

    def _existing_names(self) -> list[str]:
        """Return the names in the target's folder that match the pattern."""
        return matching_names(self._pattern, [entry.name for entry in os.scandir(self._folder)])

    def _check_target(self) -> None:
        """Raise `OutputError` if the images cannot be put into the target's folder."""
        folder = self._folder
        parent = folder.absolute().parent if self._is_whole_folder else folder
        if not parent.is_dir():
            raise OutputError(f"{self._target} cannot be written: there is no folder {parent}")
        if not folder.exists():
            return
        if not folder.is_dir():
            raise OutputError(f"{folder} is a file, not a folder for pictures")
        if self._overwrite:
            return
        if self._is_whole_folder and any(os.scandir(folder)):
            raise OutputError(f"the folder {folder} is not empty; --overwrite replaces the pictures in it")
        if not self._is_whole_folder and self._existing_names():
            raise OutputError(f"there are pictures named {self._pattern} in {folder}; --overwrite replaces them")


def save_image(frame: Frame, colour: Colour, target: str, *, overwrite: bool = False) -> None:
    """Write one frame as an image file. Its layout and `colour` must come from `image_layout` and `image_colour`.

    Raises `OutputError` if it cannot be written, or if it exists and `overwrite` is not set.
    """
    check_target(target, overwrite)
    context = _open_encoder(target, Path(target).suffix, frame.layout, frame.width, frame.height)
    try:
        packets = [*context.encode(_to_picture(frame, colour, str(context.pix_fmt))), *context.encode(None)]
    except av.error.FFmpegError as error:
        raise write_error(target, error) from None
    with atomic_write(target) as file:
        file.writelines(bytes(packet) for packet in packets)
        check_target(target, overwrite)


def image_layout(path: str, layout: Layout) -> Layout:
    """Return the layout in which an image file or sequence named `path` stores frames whose own layout is `layout`.

    PNG and TIFF hold gray and RGB of 8 bits, and of 16 bits for everything deeper; BMP and WebP hold RGB of 8 bits;
    JPEG holds gray, 4:2:0, 4:2:2 and 4:4:4 of 8 bits.
    """
    suffix = Path(output_pattern(path)[1] if is_image_sequence(path) else path).suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        if layout.family == "gray":
            return Layout("gray", 8)
        shifts = (layout.shift_x, layout.shift_y)
        return Layout("yuv", 8, *shifts) if shifts in ((1, 1), (1, 0)) else Layout("yuv", 8)
    if suffix in (".bmp", ".webp"):
        return Layout("rgb", 8)
    return Layout("gray" if layout.family == "gray" else "rgb", 8 if layout.depth == 8 else 16)


def image_colour(layout: Layout, colour: Colour) -> Colour:
    """Return the colour of the images of a film whose colour is `colour`; `layout` is that of the images.

    Images are full range, and YUV has JPEG's matrix. Primaries and transfer are those of the film.
    """
    matrix = "bt601" if layout.family == "yuv" else layout.family
    matrix_tag = {"yuv": 5, "rgb": 0, "gray": 2}[layout.family]
    return replace(
        colour,
        matrix=matrix,
        full_range=True,
        siting="centre",
        guessed=(),
        tags=replace(colour.tags, matrix=matrix_tag, range=2),
    )


def count_frames(path: Path) -> int:
    """Return the number of images in a written folder. Raises `OutputError` if a file has no readable image header."""
    files = list(path.iterdir())
    for file in files:
        try:
            read_image_header(file)
        except (ValueError, OSError) as error:
            raise OutputError(f"{file.name} did not come out as a picture: {error_reason(error)}") from None
    return len(files)


def decode_frames(path: Path, indices: Sequence[int]) -> Iterator[Frame]:
    """Decode the images of a written folder with the given indices, from 0. The time of each is its index."""
    files = list_images(f"{path}/")
    for index in indices:
        planes, layout, _ = planes_of(decode_image(files[index]))
        yield Frame(planes, layout, Fraction(index))


@dataclass(frozen=True)
class _ImageEncoder:
    """FFmpeg's encoder for an image type."""

    name: str
    pixel_format: str
    """FFmpeg's name of the pixel format that the encoder is given."""
    options: dict[str, str]
    max_side: int = 65500
    """The largest width and height in pixels."""


def _open_encoder(target: str, suffix: str, layout: Layout, width: int, height: int) -> av.VideoCodecContext:
    """Create an encoder for images of one type, layout and size.

    Raises `SettingError` if the type does not hold the layout, `OutputError` if it does not hold the size.
    """
    storable = image_layout(target, layout)
    if storable != layout:
        raise SettingError(f"pictures of type {suffix} hold {storable.describe()}, not {layout.describe()}")
    encoder = _encoder_for(suffix.lower(), layout)
    if max(width, height) > encoder.max_side:
        raise OutputError(
            f"{target} cannot hold pictures of {width}x{height}; at most {encoder.max_side} pixels a side"
        )
    context = av.CodecContext.create(encoder.name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, encoder.pixel_format
    context.time_base = Fraction(1, 25)
    context.color_range = 2
    context.options = encoder.options
    return context


def _to_picture(frame: Frame, colour: Colour, pixel_format: str) -> av.VideoFrame:
    """Return a frame in the pixel format of an encoder, with the tags of a colour."""
    picture = frame_of(frame.planes, frame.layout, pixel_format)
    picture.pts, picture.time_base = None, Fraction(1, 25)
    picture.colorspace, picture.color_range = colour.tags.matrix, 2
    picture.color_primaries, picture.color_trc = colour.tags.primaries, colour.tags.transfer
    return picture


def _encoder_for(suffix: str, layout: Layout) -> _ImageEncoder:
    """Return the encoder for an image type and a layout that the type holds."""
    if suffix in (".jpg", ".jpeg"):
        subsampling = {(1, 1): "420", (1, 0): "422"}.get((layout.shift_x, layout.shift_y), "444")
        pixel_format = "yuvj420p" if layout.family == "gray" else f"yuvj{subsampling}p"
        return _ImageEncoder("mjpeg", pixel_format, {"qmin": "1", "qmax": "1"})
    if suffix == ".webp":
        return _ImageEncoder("libwebp", "bgra", LOSSLESS_WEBP_OPTIONS, max_side=MAX_WEBP_SIDE)
    if suffix == ".bmp":
        return _ImageEncoder("bmp", "bgr24", {})
    byte_order = "be" if suffix == ".png" else "le"
    if layout.depth == 8:
        pixel_format = "gray" if layout.family == "gray" else "rgb24"
    else:
        pixel_format = f"gray16{byte_order}" if layout.family == "gray" else f"rgb48{byte_order}"
    if suffix == ".png":
        return _ImageEncoder("png", pixel_format, {"pred": "paeth", "compression_level": "3"})
    return _ImageEncoder("tiff", pixel_format, {"compression_algo": "deflate"})
