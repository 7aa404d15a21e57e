"""Reading and writing of image sequences: order, exactness, damaged files, and what is refused."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import films
from films import draw_pictures
from midframe.errors import Cancelled, InputError, OutputError, SettingError
from midframe.video.colour import Colour, ColourTags
from midframe.video.frame import Frame, Layout
from midframe.video.image_names import is_image_sequence, list_images
from midframe.video.images.headers import read_image_header
from midframe.video.images.reader import decode_image, probe_images, read_images
from midframe.video.images.writer import ImageWriter, count_frames, decode_frames, image_colour, image_layout
from midframe.video.reader import ReadOptions, ReadReport

RGB8, RGB16, GRAY8, GRAY16 = Layout("rgb", 8), Layout("rgb", 16), Layout("gray", 8), Layout("gray", 16)
RATE = Fraction(24000, 1001)


def noisy_planes(layout: Layout, width: int = 61, height: int = 37, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Draw planes with a noisy horizontal ramp over all code values of a layout."""
    generator = np.random.default_rng(seed)
    planes = []
    for size in layout.sizes(width, height):
        ramp = np.linspace(0, layout.peak, size[1])[None] + generator.normal(0, layout.peak / 50, size)
        planes.append(np.clip(np.round(ramp), 0, layout.peak).astype(layout.dtype))
    return tuple(planes)


def noisy_frame(layout: Layout, seed: int = 0, width: int = 61, height: int = 37) -> Frame:
    return Frame(noisy_planes(layout, width, height, seed), layout, Fraction(seed, 25))


def default_colour(layout: Layout) -> Colour:
    name = "bt601" if layout.family == "yuv" else layout.family
    return image_colour(layout, Colour(name, full_range=True))


def write(target: str, frames: list[Frame], *, overwrite: bool = False, commit: bool = True) -> ImageWriter:
    first = frames[0]
    writer = ImageWriter(
        target, first.layout, default_colour(first.layout), width=first.width, height=first.height, overwrite=overwrite
    )
    for each in frames:
        writer.write(each)
    writer.finish()
    if commit:
        writer.commit()
    return writer


def read(path: str, **options: Any) -> list[Frame]:
    return list(read_images(probe_images(path, RATE), ReadReport(), ReadOptions(**options)))


def save_single_colour(
    path: Path, colour: tuple[int, ...] = (200, 30, 90), size: tuple[int, int] = (20, 10), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if mode.startswith("RGB") else colour[0]).save(path)


def test_names_of_image_sequences(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "100%d.png").write_bytes(b"a file of just that name")
    yes = ["folder", "new/", "a%d.png", "a%05d.JPG", "*.tif", "shot_?.webp", "x%03d_y.bmp"]
    no = ["film.mp4", "-", "a.png", "a%d.mp4", "*.mkv", "100%d.png", "a%d%d.png", "a%x.png", "new"]
    assert [name for name in yes if not is_image_sequence(str(tmp_path / name) + "/" * name.endswith("/"))] == []
    assert [name for name in no if is_image_sequence("-" if name == "-" else str(tmp_path / name))] == []


def test_folder_is_read_in_natural_order_at_exact_times(tmp_path: Path) -> None:
    drawn = films.Film(frames=12, width=32, height=18)
    folder = draw_pictures(drawn, tmp_path / "with spaces and ümläuts")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "inner.png").mkdir()
    film = probe_images(str(folder), RATE)
    frames = read(str(folder))
    assert (film.container, film.codec, film.layout, film.rate) == ("images", "png", RGB8, RATE)
    assert list(film.ticks or ()) == list(range(12))
    assert film.last_duration == 1 / RATE
    assert [f.time for f in frames] == [k / RATE for k in range(12)]
    for k, each in enumerate(frames):
        assert np.array_equal(np.stack(each.planes, -1), np.asarray(Image.open(folder / f"frame{k}.png")))


def test_patterns_with_numbers_and_wildcards(tmp_path: Path) -> None:
    for number in (7, 8, 9, 10, 11):
        save_single_colour(tmp_path / f"a{number}.png", (number, 0, 0))
        save_single_colour(tmp_path / f"b{number:03d}.png", (number, 0, 0))
    save_single_colour(tmp_path / "a008.png")
    assert [f.name for f in list_images(str(tmp_path / "a%d.png"))] == [f"a{k}.png" for k in (7, 8, 9, 10, 11)]
    assert [int(f.planes[0][0, 0]) for f in read(str(tmp_path / "b%03d.png"))] == [7, 8, 9, 10, 11]
    assert [f.name for f in list_images(str(tmp_path / "b01?.png"))] == ["b010.png", "b011.png"]
    assert len(list_images(str(tmp_path / "*.png"))) == 11
    assert probe_images(str(tmp_path / "b%03d.png"), RATE).problems == ()
    (tmp_path / "b009.png").unlink()
    assert "1 pictures are missing" in probe_images(str(tmp_path / "b%03d.png"), RATE).problems[0]


def test_sequence_is_trimmed_and_cancelled(tmp_path: Path) -> None:
    folder = str(draw_pictures(films.Film(frames=8, width=16, height=16), tmp_path / "p"))
    times = [f.time for f in read(folder, start=2 / RATE, end=5 / RATE)]
    assert times == [k / RATE for k in (2, 3, 4)]
    with pytest.raises(Cancelled, match="stopped"):
        list(read_images(probe_images(folder, RATE), ReadReport(), cancelled=lambda: True))


@pytest.mark.parametrize(
    ("mode", "size", "named"),
    [
        ("RGB", (21, 10), "21x10"),
        ("L", (20, 10), "gray"),
        ("P", (20, 10), "palette"),
        ("RGBA", (20, 10), "alpha"),
        ("I;16", (20, 10), "16 bit"),
    ],
    ids=["size", "gray", "palette", "alpha", "depth"],
)
def test_image_unlike_the_first_is_named(tmp_path: Path, mode: str, size: tuple[int, int], named: str) -> None:
    for k in range(6):
        save_single_colour(tmp_path / f"{k}.png")
    Image.new(mode, size).save(tmp_path / "4.png")
    with pytest.raises(InputError, match=rf"4\.png is .*{named}.*20x10, PNG RGB, 8 bit"):
        probe_images(str(tmp_path), RATE)


def test_mixed_image_types_are_refused(tmp_path: Path) -> None:
    save_single_colour(tmp_path / "1.png")
    save_single_colour(tmp_path / "2.jpg")
    with pytest.raises(InputError, match=r"2\.jpg is .*JPEG"):
        probe_images(str(tmp_path), RATE)


@pytest.mark.parametrize("name", ["", "none%d.png", "*.jpg"])
def test_names_without_images_are_input_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match=r"has no picture.*1 other"):
        probe_images(f"{tmp_path}/{name}", RATE)
    with pytest.raises(InputError, match="does not exist"):
        probe_images(f"{tmp_path}/missing/", RATE)


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def one_byte_short(data: bytes) -> bytes:
    return data[:-1] if data.startswith((b"RIFF", b"II", b"BM")) else data[:-3]


def emptied(_data: bytes) -> bytes:
    return b""


def text(_data: bytes) -> bytes:
    return b"not a picture at all\n" * 20


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("damage", [truncated, one_byte_short, emptied, text])
def test_damaged_image_is_refused_or_replaced(tmp_path: Path, suffix: str, damage: object) -> None:
    draw_pictures(films.Film(frames=5, width=40, height=30), tmp_path, suffix)
    broken = tmp_path / f"frame2{suffix}"
    broken.write_bytes(damage(broken.read_bytes()))  # type: ignore[operator]
    film = probe_images(str(tmp_path), RATE)
    with pytest.raises(InputError, match=rf"frame2\{suffix}.*2 of 5.*--keep-going"):
        list(read_images(film, ReadReport()))
    report = ReadReport()
    frames = list(read_images(film, report, ReadOptions(keep_going=True)))
    assert [f.lost for f in frames] == [False, False, True, False, False]
    assert [f.time for f in frames] == [k / RATE for k in range(5)]
    assert frames[2].same_picture(frames[1])
    assert not frames[3].same_picture(frames[1])
    assert (report.frames, report.lost) == (4, 1)
    assert any("frame2" in message for message in report.messages)


def test_png_checksum_is_checked(tmp_path: Path) -> None:
    draw_pictures(films.Film(frames=3, width=40, height=30), tmp_path)
    data = bytearray((tmp_path / "frame1.png").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "frame1.png").write_bytes(data)
    with pytest.raises(InputError, match=r"frame1\.png"):
        read(str(tmp_path))


def test_damaged_first_image_cannot_be_replaced(tmp_path: Path) -> None:
    draw_pictures(films.Film(frames=3, width=40, height=30), tmp_path)
    (tmp_path / "frame0.png").write_bytes(b"")
    film = probe_images(str(tmp_path), RATE)
    assert any("frame0.png" in problem for problem in film.problems)
    with pytest.raises(InputError, match="no picture before it"):
        list(read_images(film, ReadReport(), ReadOptions(keep_going=True)))


def test_sequence_of_damaged_images_is_an_input_error(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(b"junk")
    with pytest.raises(InputError, match="none of the 3 pictures"):
        probe_images(str(tmp_path), RATE)
    whole_header = io.BytesIO()
    Image.new("RGB", (20, 10)).save(whole_header, "png")
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(whole_header.getvalue()[:40])
    with pytest.raises(InputError, match="none of the 3 pictures"):
        probe_images(str(tmp_path), RATE)


def test_sequence_of_headers_without_images_is_an_input_error(tmp_path: Path) -> None:
    for k in range(3):
        save_single_colour(tmp_path / f"{k}.jpg")
        (tmp_path / f"{k}.jpg").write_bytes((tmp_path / f"{k}.jpg").read_bytes()[:-2])
    with pytest.raises(InputError, match=r"none of the 3 pictures in .* can be decoded"):
        probe_images(str(tmp_path), RATE)


@pytest.mark.parametrize(
    ("mode", "layout"),
    [("RGB", RGB8), ("P", RGB8), ("L", GRAY8), ("1", GRAY8), ("I;16", GRAY16), ("RGBA", RGB8), ("LA", GRAY8)],
)
def test_png_of_each_mode_is_read_exactly(tmp_path: Path, mode: str, layout: Layout) -> None:
    picture = Image.fromarray(np.stack(noisy_planes(RGB8), -1))
    if mode == "I;16":
        picture = Image.fromarray(noisy_planes(GRAY16)[0])
    elif mode in ("RGBA", "LA"):
        picture = picture.convert(mode)
        picture.putalpha(255)
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / "1.png")
    (only,) = read(str(tmp_path))
    assert only.layout == layout
    wanted = picture if mode == "I;16" else picture.convert("L" if layout.family == "gray" else "RGB")
    assert np.array_equal(np.squeeze(np.stack(only.planes, -1)), np.asarray(wanted))


def test_transparent_image_is_refused_unless_alpha_is_dropped(tmp_path: Path) -> None:
    save_single_colour(tmp_path / "1.png", (9, 8, 7, 255), mode="RGBA")
    save_single_colour(tmp_path / "2.png", (9, 8, 7, 254), mode="RGBA")
    film = probe_images(str(tmp_path), RATE)
    assert film.has_alpha
    with pytest.raises(InputError, match=r"picture 2 is transparent.*--drop-alpha"):
        list(read_images(film, ReadReport()))
    assert [int(f.planes[2][0, 0]) for f in read_images(film, ReadReport(), ReadOptions(drop_alpha=True))] == [7, 7]


@pytest.mark.parametrize(
    ("suffix", "layout"),
    [
        *((".png", layout) for layout in (RGB8, RGB16, GRAY8, GRAY16)),
        *((".tiff", layout) for layout in (RGB8, RGB16, GRAY8, GRAY16)),
        (".bmp", RGB8),
        (".webp", RGB8),
    ],
)
def test_lossless_images_read_back_bit_identical(tmp_path: Path, suffix: str, layout: Layout) -> None:
    assert image_layout(f"out%05d{suffix}", layout) == layout
    frames = [noisy_frame(layout, seed) for seed in range(3)]
    writer = write(str(tmp_path / f"out%05d{suffix}"), frames, commit=False)
    assert count_frames(writer.part) == 3
    assert next(decode_frames(writer.part, [2])).same_picture(frames[2])
    writer.commit()
    again = read(str(tmp_path / f"out%05d{suffix}"))
    assert [f.layout for f in again] == [layout] * 3
    assert all(a.same_picture(b) for a, b in zip(frames, again, strict=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"out0000{k}{suffix}" for k in (1, 2, 3)]
    if layout.depth == 8:
        seen = np.asarray(Image.open(tmp_path / f"out00001{suffix}"))
        assert np.array_equal(seen, np.squeeze(np.stack(frames[0].planes, -1)))


def test_png_files_are_rewritten_bit_identical(tmp_path: Path) -> None:
    folder = draw_pictures(films.Film(frames=3, width=45, height=31, pixel_format="yuv420p10le"), tmp_path / "deep")
    frames = read(str(folder))
    assert frames[0].layout == RGB16
    write(f"{tmp_path}/out/", frames)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00001.png", "00002.png", "00003.png"]
    again = read(f"{tmp_path}/out/")
    assert all(a.same_picture(b) for a, b in zip(frames, again, strict=True))


@pytest.mark.parametrize("layout", [Layout("yuv", 8, 1, 1), Layout("yuv", 8, 1, 0), Layout("yuv", 8), GRAY8])
def test_jpeg_is_close_and_keeps_its_subsampling(tmp_path: Path, layout: Layout) -> None:
    generator = np.random.default_rng(1)
    planes = tuple(
        np.clip(np.add.outer(np.arange(h) * 2, np.arange(w) * 3) % 200 + generator.normal(0, 2, (h, w)), 0, 255).astype(
            "u1"
        )
        for h, w in layout.sizes(61, 37)
    )
    source = Frame(planes, layout, Fraction(0))
    assert image_layout("a%d.jpg", layout) == layout
    write(str(tmp_path / "a%05d.jpg"), [source] * 3)
    film = probe_images(str(tmp_path), RATE)
    assert film.colour.full_range
    last = read(str(tmp_path))[-1]
    assert (last.width, last.height) == (61, 37)
    for a, b in zip(planes, last.planes, strict=False):
        assert np.abs(a.astype(int) - b).mean() < 1
    tables = Image.open(tmp_path / "a00001.jpg").quantization  # type: ignore[attr-defined]
    reference = io.BytesIO()
    Image.new("RGB", (8, 8)).save(reference, "jpeg", quality=95)
    assert sum(tables[0]) < sum(Image.open(reference).quantization[0])  # type: ignore[attr-defined]


def test_layout_of_each_image_type() -> None:
    deep, yuv = Layout("yuv", 10, 1, 1), Layout("yuv", 8, 1, 1)
    assert image_layout("out/", yuv) == RGB8
    assert image_layout("out/", deep) == RGB16
    assert image_layout("a%d.tif", Layout("gray", 12)) == GRAY16
    assert image_layout("a%d.jpg", deep) == yuv
    assert image_layout("a%d.jpg", RGB16) == Layout("yuv", 8)
    assert image_layout("a%d.bmp", RGB16) == image_layout("a%d.webp", GRAY8) == RGB8
    with pytest.raises(SettingError, match="how to number"):
        image_layout("a*.png", yuv)


@pytest.mark.parametrize(("suffix", "layout"), [(".png", Layout("yuv", 8, 1, 1)), (".bmp", GRAY8), (".jpg", RGB8)])
def test_layout_that_an_image_type_does_not_hold_is_refused(tmp_path: Path, suffix: str, layout: Layout) -> None:
    with pytest.raises(SettingError, match=rf"type \{suffix} hold"):
        ImageWriter(f"{tmp_path}/%d{suffix}", layout, default_colour(layout), width=61, height=37)
    assert list(tmp_path.iterdir()) == []


def test_colour_tags_are_written(tmp_path: Path) -> None:
    tagged = image_colour(RGB16, Colour("bt2020", False, tags=ColourTags(matrix=9, range=1, primaries=9, transfer=16)))
    writer = ImageWriter(f"{tmp_path}/out/", RGB16, tagged, width=61, height=37)
    writer.write(noisy_frame(RGB16))
    writer.finish()
    writer.commit()
    found = probe_images(f"{tmp_path}/out", RATE).colour
    assert (found.matrix, found.tags.primaries, found.tags.transfer) == ("rgb", 9, 16)


def test_existing_images_are_replaced_only_with_overwrite(tmp_path: Path) -> None:
    target = f"{tmp_path}/out/"
    write(target, [noisy_frame(RGB8, k) for k in range(4)])
    (tmp_path / "out" / "keep.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    for again in (target, f"{tmp_path}/out/%05d.png"):
        with pytest.raises(OutputError, match="--overwrite"):
            write(again, [noisy_frame(RGB8, 9)])
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    write(target, [noisy_frame(RGB8, 9), noisy_frame(RGB8, 8)], overwrite=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00001.png", "00002.png", "keep.txt"]
    assert read(target)[0].same_picture(noisy_frame(RGB8, 9))
    write(f"{tmp_path}/out/b%d.png", [noisy_frame(RGB8, 1)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_empty_folder_and_link_to_it_are_valid_targets(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    write(str(tmp_path / "link"), [noisy_frame(RGB8)])
    assert [p.name for p in (tmp_path / "empty").iterdir()] == ["00001.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "link"]


def test_abort_deletes_everything_but_committed_images(tmp_path: Path) -> None:
    writer = write(f"{tmp_path}/out/", [noisy_frame(RGB8)], commit=False)
    assert [p.name for p in tmp_path.iterdir()] == [f"out.{os.getpid()}.part"]
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    done = write(f"{tmp_path}/out/", [noisy_frame(RGB8)])
    done.abort()
    assert (tmp_path / "out" / "00001.png").exists()


def test_folder_filled_meanwhile_is_not_touched(tmp_path: Path) -> None:
    writer = write(f"{tmp_path}/out/", [noisy_frame(RGB8)], commit=False)
    save_single_colour(tmp_path / "out" / "other.png")
    with pytest.raises(OutputError, match="not empty"):
        writer.commit()
    writer.abort()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["other.png"]


def test_invalid_targets_are_output_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target, message in (
        (f"{tmp_path}/missing/out/", "there is no folder"),
        (f"{tmp_path}/missing/a%d.png", "there is no folder"),
        (f"{tmp_path}/file/", "is a file"),
    ):
        with pytest.raises(OutputError, match=message):
            write(target, [noisy_frame(RGB8)])
    with pytest.raises(OutputError, match="at most 16383"):
        ImageWriter(f"{tmp_path}/a%d.webp", RGB8, default_colour(RGB8), width=20000, height=10)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_failing_disk_is_an_output_error(tmp_path: Path) -> None:
    writer = ImageWriter(f"{tmp_path}/out/", RGB8, default_colour(RGB8), width=61, height=37)
    writer.part.rmdir()

    def fill() -> None:
        for k in range(64):
            writer.write(noisy_frame(RGB8, k))
        writer.finish()

    with pytest.raises(OutputError, match="cannot be written"):
        fill()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_header_agrees_with_the_decoder(tmp_path: Path) -> None:
    """Size and codec read from the header are those that FFmpeg finds in the whole file."""
    picture = Image.fromarray(np.stack(noisy_planes(RGB8, 53, 29), -1))
    for name, options in (
        ("a.png", {}),
        ("a.jpg", {"subsampling": 1}),
        ("b.jpg", {"subsampling": 2, "progressive": True, "exif": b"Exif\0\0" + b"x" * 60000}),
        ("a.tif", {}),
        ("b.tif", {"compression": "tiff_lzw"}),
        ("a.bmp", {}),
        ("a.webp", {}),
        ("b.webp", {"lossless": True}),
    ):
        picture.save(tmp_path / name, **options)
        header = read_image_header(tmp_path / name)
        decoded = decode_image(tmp_path / name)
        assert (header.width, header.height) == (decoded.width, decoded.height) == (53, 29)
        assert header.codec == av.codec.Codec(header.codec, "r").name


def test_header_truncated_anywhere_is_a_value_error(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp"):
        whole = io.BytesIO()
        Image.new("RGB", (20, 10)).save(whole, {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:]))
        data = whole.getvalue()
        for length in range(0, min(len(data), 300), 5):
            file = tmp_path / f"cut{suffix}"
            file.write_bytes(data[:length])
            try:
                header = read_image_header(file)
            except ValueError:
                continue
            assert (header.width, header.height) == (20, 10)
