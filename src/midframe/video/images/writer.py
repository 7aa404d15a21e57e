"""Writing a film as numbered pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.error

from midframe.errors import OutputError, SettingError, error_reason
from midframe.files import atomic_write, part_path, write_error
from midframe.video.colour import Colour
from midframe.video.frame import Frame, Layout
from midframe.video.images.headers import read_image_header
from midframe.video.images.names import image_name, is_image_sequence, list_images, matching, output_pattern
from midframe.video.images.reader import decode_image
from midframe.video.pixels import frame_of, planes_of
from midframe.video.sink import check_target


class ImageWriter:
    """Writes frames as numbered pictures; a `Sink`.

    target: a folder (a name that ends in a slash, or an existing folder: PNG files 00001.png, 00002.png, ...) or a
    pattern with one number such as `out/frame%05d.jpg`, always counted from 1. layout, colour: those of `image_layout`
    and `image_colour`. PNG, TIFF, BMP and WebP are lossless; JPEG has the finest quantisation of FFmpeg's encoder
    (between Pillow's quality 96 and 97). Everything is written into the folder `NAME.PID.part` first.

    Raises `OutputError` where there are such pictures already, or anything in the folder, unless `overwrite` is set:
    then pictures that the pattern names are replaced, older ones beyond the last removed, and all other files stay.
    """

    def __init__(
        self, target: str, layout: Layout, colour: Colour, *, width: int, height: int, overwrite: bool = False
    ) -> None:
        self.target = target
        self.folder, self.pattern = output_pattern(target)
        self.whole = Path(target) == self.folder
        self.overwrite = overwrite
        self.layout, self.colour = layout, colour
        self.count = 0
        self.committed = False
        self._check()
        self.part = part_path(target)
        self.context = _encoder(target, Path(self.pattern).suffix, layout, width, height)
        self.context.thread_type, self.context.thread_count = "FRAME", 0
        try:
            self.part.mkdir()
        except OSError as error:
            raise write_error(target, error) from None

    def write(self, frame: Frame) -> None:
        if frame.layout != self.layout or (frame.width, frame.height) != (self.context.width, self.context.height):
            raise ValueError(f"the pictures are {self.layout.describe()}, not {frame.layout.describe()}")
        self._encode(_picture(frame, self.colour, str(self.context.pix_fmt)))

    def finish(self) -> None:
        self._encode(None)

    def commit(self) -> None:
        self._check()
        names = [image_name(self.pattern, k) for k in range(1, self.count + 1)]
        try:
            if not self.folder.exists():
                self.part.rename(self.folder)
            else:
                for name in names:
                    (self.part / name).replace(self.folder / name)
                for name in set(self._present()) - set(names):
                    (self.folder / name).unlink()
                self.part.rmdir()
        except OSError as error:
            raise write_error(self.target, error) from None
        self.committed = True

    def abort(self) -> None:
        if not self.committed:
            shutil.rmtree(self.part, ignore_errors=True)

    def _encode(self, picture: av.VideoFrame | None) -> None:
        try:
            for packet in self.context.encode(picture):
                self.count += 1
                (self.part / image_name(self.pattern, self.count)).write_bytes(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise write_error(self.target, error) from None

    def _present(self) -> list[str]:
        """The names in the target's folder that the pattern may give."""
        return matching(self.pattern, [entry.name for entry in os.scandir(self.folder)])

    def _check(self) -> None:
        parent = self.folder.absolute().parent if self.whole else self.folder
        if not parent.is_dir():
            raise OutputError(f"{self.target} cannot be written: there is no folder {parent}")
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise OutputError(f"{self.folder} is a file, not a folder for pictures")
        if self.overwrite:
            return
        if self.whole and any(os.scandir(self.folder)):
            raise OutputError(f"the folder {self.folder} is not empty; --overwrite replaces the pictures in it")
        if not self.whole and self._present():
            raise OutputError(f"there are pictures named {self.pattern} in {self.folder}; --overwrite replaces them")


def save_image(frame: Frame, colour: Colour, target: str, *, overwrite: bool = False) -> None:
    """Write one frame, in a layout of `image_layout` and the colours of `image_colour`, as a picture file.

    Raises `OutputError` where it cannot be written, or exists and `overwrite` is not set.
    """
    check_target(target, overwrite)
    context = _encoder(target, Path(target).suffix, frame.layout, frame.width, frame.height)
    try:
        packets = [*context.encode(_picture(frame, colour, str(context.pix_fmt))), *context.encode(None)]
    except av.error.FFmpegError as error:
        raise write_error(target, error) from None
    with atomic_write(target) as file:
        file.writelines(bytes(packet) for packet in packets)
        check_target(target, overwrite)


def image_layout(path: str, layout: Layout) -> Layout:
    """The layout that a picture, or pictures, of this name are written in, for a film of that layout.

    PNG and TIFF hold gray and RGB of 8 bits, and of 16 for everything deeper; BMP and WebP RGB of 8 bits; JPEG 4:2:0,
    4:2:2 and 4:4:4 and gray of 8 bits. More bits come by conversion of colours, where the peak becomes 65535.
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
    """What the code values of pictures in a layout of `image_layout` mean: full range, and JPEG's matrix for YUV.

    The primaries and transfer of the film's `colour` stay as they are.
    """
    name = "bt601" if layout.family == "yuv" else layout.family
    matrix = {"yuv": 5, "rgb": 0, "gray": 2}[layout.family]
    return replace(colour, matrix=name, full_range=True, siting="centre", guessed=(), tag_matrix=matrix, tag_range=2)


def count_frames(path: Path) -> int:
    """Return the number of pictures in a written folder. Raises `OutputError` if a file's header is not a picture's."""
    files = list(path.iterdir())
    for file in files:
        try:
            read_image_header(file)
        except (ValueError, OSError) as error:
            raise OutputError(f"{file.name} did not come out as a picture: {error_reason(error)}") from None
    return len(files)


def decode_frames(path: Path, indices: Sequence[int]) -> Iterator[Frame]:
    """Decode the pictures of a written folder with the given indices, from 0. The time of each is its index."""
    files = list_images(f"{path}/")
    for index in indices:
        planes, layout, _ = planes_of(decode_image(files[index]))
        yield Frame(planes, layout, Fraction(index))


def _encoder(target: str, suffix: str, layout: Layout, width: int, height: int) -> av.VideoCodecContext:
    """An encoder for pictures of one type, layout and size."""
    held = image_layout(target, layout)
    if held != layout:
        raise SettingError(f"pictures of type {suffix} hold {held.describe()}, not {layout.describe()}")
    codec, pixel_format, options = _encoding(suffix.lower(), layout)
    limit = {"libwebp": 16383}.get(codec, 65500)
    if max(width, height) > limit:
        raise OutputError(f"{target} cannot hold pictures of {width}x{height}; at most {limit} pixels a side")
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, pixel_format
    context.time_base = Fraction(1, 25)
    context.color_range = 2
    context.options = options
    return context


def _picture(frame: Frame, colour: Colour, pixel_format: str) -> av.VideoFrame:
    """A frame as an encoder for pictures takes it."""
    picture = frame_of(frame.planes, frame.layout, pixel_format)
    picture.pts, picture.time_base = None, Fraction(1, 25)
    picture.colorspace, picture.color_range = colour.tag_matrix, 2
    picture.color_primaries, picture.color_trc = colour.tag_primaries, colour.tag_transfer
    return picture


def _encoding(suffix: str, layout: Layout) -> tuple[str, str, dict[str, str]]:
    """FFmpeg's encoder, pixel format and options for a picture type and layout."""
    if suffix in (".jpg", ".jpeg"):
        sub = {(1, 1): "420", (1, 0): "422"}.get((layout.shift_x, layout.shift_y), "444")
        name = "yuvj420p" if layout.family == "gray" else f"yuvj{sub}p"
        return "mjpeg", name, {"qmin": "1", "qmax": "1"}
    if suffix == ".webp":
        return "libwebp", "bgra", {"lossless": "1", "compression_level": "1", "quality": "20"}
    if suffix == ".bmp":
        return "bmp", "bgr24", {}
    wide = layout.depth > 8
    if suffix == ".png":
        name = ("gray16be" if wide else "gray") if layout.family == "gray" else "rgb48be" if wide else "rgb24"
        return "png", name, {"pred": "paeth", "compression_level": "3"}
    name = ("gray16le" if wide else "gray") if layout.family == "gray" else "rgb48le" if wide else "rgb24"
    return "tiff", name, {"compression_algo": "deflate"}
