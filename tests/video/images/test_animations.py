"""Reading and writing of GIF and animated WebP: exact pictures, exact times, and damaged files."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from midframe.errors import InputError, OutputError
from midframe.video.frame import Frame
from midframe.video.gif_blocks import gif_is_truncated
from midframe.video.images import gif, webp_writer
from midframe.video.images.animation import ANIMATION_LAYOUT, loop_count
from midframe.video.images.gif import GifWriter
from midframe.video.images.webp_reader import probe_webp, read_webp
from midframe.video.images.webp_writer import WebpWriter
from midframe.video.probe import Film, probe
from midframe.video.reader import ReadOptions, ReadReport, read_frames

SIZE = (47, 31)


def few_colours(seed: int, colours: int = 60) -> np.ndarray:
    """Draw random pixels `[H, W, 3]` of a random palette."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (colours, 3)).astype(np.uint8)[generator.integers(0, colours, SIZE[::-1])]


def many_colours(seed: int) -> np.ndarray:
    """Draw a picture `[H, W, 3]` of far more than 256 colours, smooth enough to be shown with 256."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    ramp = np.stack([x * 5, y * 8, (x + y) * 3], -1)
    return np.clip(ramp + np.random.default_rng(seed).integers(0, 8, ramp.shape), 0, 255).astype(np.uint8)


def frames_of(pictures: list[np.ndarray], durations: list[Fraction], start: Fraction = Fraction(0)) -> list[Frame]:
    times = itertools.accumulate(durations[:-1], initial=start)
    return [
        Frame(tuple(np.moveaxis(picture, -1, 0)), ANIMATION_LAYOUT, time, duration)
        for picture, time, duration in zip(pictures, times, durations, strict=True)
    ]


def pixels_of(frame: Frame) -> np.ndarray:
    return np.stack(frame.planes, -1)


def save_with_pillow(path: Path, pictures: list[np.ndarray], durations: list[int], **options: object) -> Path:
    first, *rest = (Image.fromarray(picture) for picture in pictures)
    first.save(path, save_all=True, append_images=rest, duration=durations, **options)
    return path


def write(writer: GifWriter | WebpWriter, frames: list[Frame]) -> Path:
    for frame in frames:
        writer.write(frame)
    writer.finish()
    return writer.part


def frame_times(path: Path) -> list[Fraction]:
    return (webp_writer if is_webp(path) else gif).frame_times(path)


def decode(path: Path, index: int) -> Frame:
    return next((webp_writer if is_webp(path) else gif).decode_frames(path, [index]))


def is_webp(path: Path) -> bool:
    return path.read_bytes().startswith(b"RIFF")


def read(path: Path, **options: Any) -> tuple[Film, list[Frame], ReadReport]:
    report = ReadReport()
    if path.suffix == ".webp":
        film = probe_webp(str(path))
        return film, list(read_webp(film, report, ReadOptions(**options))), report
    film = probe(path)
    return film, list(read_frames(film, report, ReadOptions(**options))), report


DURATIONS = [40, 40, 100, 50, 70, 250]
PICTURES = [
    few_colours(0),
    few_colours(1),
    few_colours(1),
    few_colours(2),
    few_colours(0),
    few_colours(5),
]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animation_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    pictures = [few_colours(k) for k in range(6)]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save_with_pillow(tmp_path / f"a{suffix}", pictures, DURATIONS, loop=0, **options)
    film, frames, report = read(path)
    assert film.layout == ANIMATION_LAYOUT
    assert (film.width, film.height) == SIZE
    times = [Fraction(t, 1000) for t in itertools.accumulate(DURATIONS[:-1], initial=0)]
    assert [k * film.time_base for k in film.ticks or ()] == times
    assert film.last_duration == Fraction(1, 4)
    assert [f.time for f in frames] == times
    assert [f.duration for f in frames] == [Fraction(d, 1000) for d in DURATIONS]
    assert all(np.array_equal(pixels_of(f), p) for f, p in zip(frames, pictures, strict=True))
    assert (report.frames, report.lost, report.dropped) == (6, 0, 0)
    assert loop_count(path) == 0


def test_webp_is_trimmed(tmp_path: Path) -> None:
    path = save_with_pillow(tmp_path / "a.webp", [few_colours(k) for k in range(6)], DURATIONS, lossless=True)
    _, frames, _ = read(path, start=Fraction(1, 25), end=Fraction(23, 100))
    assert [f.time for f in frames] == [Fraction(1, 25), Fraction(2, 25), Fraction(18, 100)]
    assert np.array_equal(pixels_of(frames[0]), few_colours(1))


def test_webp_of_a_single_picture_is_one_frame(tmp_path: Path) -> None:
    Image.fromarray(few_colours(0)).save(tmp_path / "a.webp", lossless=True)
    film, frames, _ = read(tmp_path / "a.webp")
    assert list(film.ticks or ()) == [0]
    assert film.last_duration == Fraction(1, 25)
    assert np.array_equal(pixels_of(frames[0]), few_colours(0))
    assert loop_count(tmp_path / "a.webp") == 1


def test_webp_frames_without_duration_are_dropped_and_counted(tmp_path: Path) -> None:
    path = save_with_pillow(tmp_path / "a.webp", [few_colours(k) for k in range(4)], [40, 0, 40, 40], lossless=True)
    film, frames, report = read(path)
    assert [f.time for f in frames] == [0, Fraction(1, 25), Fraction(2, 25)]
    assert [np.array_equal(pixels_of(f), few_colours(k)) for f, k in zip(frames, (0, 1, 3), strict=True)] == [True] * 3
    assert (film.duplicate_frames, report.dropped) == (1, 1)


def test_transparent_webp_is_refused_unless_alpha_is_dropped(tmp_path: Path) -> None:
    clear = np.dstack([few_colours(0), np.full(SIZE[::-1], 255, np.uint8)])
    clear[3, 4, 3] = 0
    path = tmp_path / "a.webp"
    first, second = (
        Image.fromarray(np.dstack([few_colours(1), np.full(SIZE[::-1], 255, np.uint8)])),
        Image.fromarray(clear),
    )
    first.save(path, save_all=True, append_images=[second], duration=40, lossless=True, exact=True)
    with pytest.raises(InputError, match=r"picture 2 is transparent.*--drop-alpha"):
        read(path)
    _, frames, _ = read(path, drop_alpha=True)
    assert np.array_equal(pixels_of(frames[1])[10:], few_colours(0)[10:])


@pytest.mark.parametrize("writer", [GifWriter, WebpWriter])
def test_frames_of_few_colours_are_written_exactly_and_none_are_merged(
    tmp_path: Path, writer: type[GifWriter] | type[WebpWriter]
) -> None:
    """Palettes change and come back, and one frame repeats the one before it."""
    changed = PICTURES[4].copy()
    changed[3:9, 4:20] = 7
    pictures = [*PICTURES, PICTURES[0], changed, few_colours(9, 256), np.zeros_like(changed)]
    frames = frames_of(pictures, [Fraction(d, 100) for d in (4, 4, 10, 5, 7, 25, 4, 2, 3, 12)])
    target = tmp_path / ("a.gif" if writer is GifWriter else "a.webp")
    sink = writer(str(target), *SIZE)
    part = write(sink, frames)
    assert frame_times(part) == [f.time for f in frames]
    for k in (0, 2, 7, 9):
        assert decode(part, k).same_picture(frames[k])
    sink.commit()
    film, found, _ = read(target)
    assert film.last_duration == Fraction(12, 100)
    assert [f.time for f in found] == [f.time for f in frames]
    assert all(a.same_picture(b) for a, b in zip(found, frames, strict=True))
    assert [p.name for p in tmp_path.iterdir()] == [target.name]
    with Image.open(target) as image:
        assert image.n_frames == len(frames)  # type: ignore[attr-defined]


def test_webp_is_lossless(tmp_path: Path) -> None:
    frames = frames_of([many_colours(k) for k in range(3)], [Fraction(1, 30)] * 3)
    part = write(WebpWriter(str(tmp_path / "a.webp"), *SIZE), frames)
    assert all(decode(part, k).same_picture(frame) for k, frame in enumerate(frames))


def test_gif_of_many_colours_is_dithered(tmp_path: Path) -> None:
    (frame,) = frames_of([many_colours(0)], [Fraction(1, 25)])
    part = write(GifWriter(str(tmp_path / "a.gif"), *SIZE), [frame])
    shown = pixels_of(decode(part, 0)).astype(int)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 256
    error = shown - many_colours(0)
    assert np.abs(error).mean() < 6
    assert np.abs(error.mean(axis=(0, 1))).max() < 1.5  # dithering keeps the mean


@pytest.mark.parametrize(
    ("writer", "rate", "ticks_per_second"),
    [
        pytest.param(GifWriter, Fraction(24000, 1001), 100, id="gif at 23.976"),
        pytest.param(GifWriter, Fraction(50), 100, id="gif at 50"),
        pytest.param(GifWriter, Fraction(48), 100, id="gif at 48"),
        pytest.param(WebpWriter, Fraction(60000, 1001), 1000, id="webp at 59.94"),
        pytest.param(WebpWriter, Fraction(144), 1000, id="webp at 144"),
    ],
)
def test_rounding_of_times_does_not_accumulate(
    tmp_path: Path, writer: type[GifWriter] | type[WebpWriter], rate: Fraction, ticks_per_second: int
) -> None:
    count = 100
    frames = frames_of([np.zeros((*SIZE[::-1], 3), np.uint8)] * count, [1 / rate] * count, start=Fraction(7, 3))
    part = write(writer(str(tmp_path / "a"), *SIZE), frames)
    found = frame_times(part)
    assert len(found) == count
    assert max(abs(a - k / rate) for k, a in enumerate(found)) <= Fraction(1, 2 * ticks_per_second)
    if writer is WebpWriter:
        with Image.open(part) as image:
            image.seek(count - 1)
            image.load()
            end = Fraction(image.info["timestamp"] + image.info["duration"], 1000)
        assert abs(end - count / rate) <= Fraction(1, 2 * ticks_per_second)


def test_gif_above_50_frames_a_second_is_refused(tmp_path: Path) -> None:
    sink = GifWriter(str(tmp_path / "a.gif"), *SIZE)
    with pytest.raises(OutputError, match=r"too short.*at most 50 frames a second"):
        write(sink, frames_of([few_colours(0)] * 9, [Fraction(1, 60)] * 9))
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plays", [0, 1, 3])
def test_loop_count_is_written(tmp_path: Path, plays: int) -> None:
    frames = frames_of([few_colours(0), few_colours(1)], [Fraction(1, 10)] * 2)
    assert loop_count(write(GifWriter(str(tmp_path / "a.gif"), *SIZE, plays=plays), frames)) == plays
    assert loop_count(write(WebpWriter(str(tmp_path / "a.webp"), *SIZE, plays=plays), frames)) == plays
    (tmp_path / "text").write_text("neither")
    assert loop_count(tmp_path / "text") is None


@pytest.mark.parametrize("writer", [GifWriter, WebpWriter])
def test_target_is_replaced_only_by_commit(tmp_path: Path, writer: type[GifWriter] | type[WebpWriter]) -> None:
    target, frames = (
        tmp_path / "a",
        frames_of([few_colours(0), few_colours(1)], [Fraction(1, 10)] * 2),
    )
    for sink in (writer(str(target), *SIZE), writer(str(target), *SIZE)):
        sink.write(frames[0])
        sink.abort()
        assert list(tmp_path.iterdir()) == []
    target.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"exists.*--overwrite"):
        writer(str(target), *SIZE)
    assert target.read_bytes() == b"mine"
    sink = writer(str(target), *SIZE, overwrite=True)
    write(sink, frames)
    assert target.read_bytes() == b"mine"
    sink.commit()
    sink.abort()
    assert len(frame_times(target)) == 2
    with pytest.raises(OutputError, match="no folder"):
        writer(str(tmp_path / "missing" / "a"), *SIZE)
    with pytest.raises(OutputError, match="at most"):
        writer(str(tmp_path / "b"), 70000, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def frame_starts(data: bytes) -> list[int]:
    starts, at = [], 12
    while at < len(data):
        starts += [at] * (data[at : at + 4] == b"ANMF")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + (length & 1)
    return starts


def test_truncated_webp_is_refused_or_read_to_its_last_whole_frame(tmp_path: Path) -> None:
    data = save_with_pillow(
        tmp_path / "a.webp", [few_colours(k) for k in range(6)], DURATIONS, lossless=True
    ).read_bytes()
    starts = frame_starts(data)
    for cut, whole in ((starts[3], 3), (starts[3] + 5, 3), (starts[4] + 100, 4), (len(data) - 2, 5)):
        (tmp_path / "cut.webp").write_bytes(data[:cut])
        film = probe_webp(str(tmp_path / "cut.webp"))
        assert film.ends_early
        assert len(film.ticks or ()) == whole
        with pytest.raises(InputError, match=rf"ends before.*after {whole} whole frames.*--keep-going"):
            read(tmp_path / "cut.webp")
        _, frames, _ = read(tmp_path / "cut.webp", keep_going=True)
        assert all(np.array_equal(pixels_of(f), few_colours(k)) for k, f in enumerate(frames))
        assert len(frames) == whole


def test_damaged_webp_frame_is_refused_or_replaced(tmp_path: Path) -> None:
    data = bytearray(
        save_with_pillow(tmp_path / "a.webp", [few_colours(k) for k in range(6)], DURATIONS, lossless=True).read_bytes()
    )
    at = frame_starts(bytes(data))[2] + 24 + 8  # behind the headers of the frame and of its picture
    data[at + 8 : at + 60] = np.random.default_rng(0).integers(0, 256, 52, np.uint8).tobytes()
    (tmp_path / "a.webp").write_bytes(data)
    with pytest.raises(InputError, match=r"frame 3 cannot be decoded.*2 of 6.*--keep-going"):
        read(tmp_path / "a.webp")
    _, frames, report = read(tmp_path / "a.webp", keep_going=True)
    assert [f.lost for f in frames] == [False, False, True, True, True, True]
    assert (report.frames, report.lost) == (2, 4)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"RIFF", id="signature alone"),
        pytest.param(b"RIFF\4\0\0\0WEBP", id="no chunks"),
        pytest.param(b"text, and a lot of it\n" * 30, id="text"),
        pytest.param(
            b"RIFF\xff\xff\0\0WEBPVP8X\x0a\0\0\0" + bytes(10) + b"ANMF\xff\xff\xff\xff" + bytes(300),
            id="frame longer than the file",
        ),
        pytest.param(b"RIFF\xff\xff\0\0WEBPANMF\x20\0\0\0" + bytes(200), id="frame of zeros"),
        pytest.param(b"RIFF\xff\xff\0\0WEBPVP8L\x20\0\0\0" + bytes(range(200)), id="invalid bitstream"),
    ],
)
def test_invalid_webp_is_an_input_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.webp").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.webp"):
        probe_webp(str(tmp_path / "a.webp"))


def test_missing_webp_and_folder_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        probe_webp(str(tmp_path / "a.webp"))
    with pytest.raises(InputError, match="cannot be read"):
        probe_webp(str(tmp_path))


def test_random_damage_to_webp_raises_input_errors_only(tmp_path: Path) -> None:
    data = save_with_pillow(tmp_path / "a.webp", [few_colours(k) for k in range(4)], [40] * 4).read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        broken = bytearray(data)
        for place in generator.integers(0, len(data), 8):
            broken[place] ^= 1 << int(generator.integers(8))
        (tmp_path / "b.webp").write_bytes(broken)
        try:
            _, frames, _ = read(tmp_path / "b.webp", drop_alpha=True)
        except InputError:
            refused += 1
        else:
            assert len(frames) <= 4
    assert refused > 0


def test_gif_truncated_anywhere_is_detected(tmp_path: Path) -> None:
    """FFmpeg reports no error for nine of ten such files."""
    for path in (
        save_with_pillow(tmp_path / "a.gif", [few_colours(k) for k in range(3)], [40] * 3, loop=0),
        write(
            GifWriter(str(tmp_path / "b.gif"), *SIZE),
            frames_of([many_colours(0), few_colours(1)], [Fraction(1, 25)] * 2),
        ),
    ):
        data = path.read_bytes()
        assert not gif_is_truncated(path)
        for length in range(0, len(data), 13):
            path.write_bytes(data[:length])
            assert gif_is_truncated(path)
        path.write_bytes(data[:-1])
        assert gif_is_truncated(path)
        path.write_bytes(data + b"\0\0 padding")
        assert not gif_is_truncated(path)
