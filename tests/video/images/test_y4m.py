"""The y4m writer: every layout that y4m can name, read back by FFmpeg and by hand; files, pipes, broken pipes."""

from __future__ import annotations

import errno
import io
import itertools
import os
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import av
import numpy as np
import pytest

from midframe.errors import OutputError, SettingError
from midframe.video.colour import Colour
from midframe.video.frame import Frame, Layout
from midframe.video.images.y4m import Y4mHeader, Y4mWriter, decode_frames, frame_times, y4m_layout
from midframe.video.pixels import planes_of

RATE = Fraction(48000, 1001)
YUV = [Layout("yuv", depth, x, y) for depth in (8, 9, 10, 12, 14, 16) for x, y in ((1, 1), (1, 0), (0, 0))]
GRAY = [Layout("gray", depth) for depth in (8, 9, 10, 12, 16)]
LAYOUTS = [*YUV, Layout("yuv", 8, 2, 0), *GRAY]
LEFT = Colour("bt601", full_range=False)


def noisy_frame(layout: Layout, k: int = 0, width: int = 37, height: int = 21) -> Frame:
    generator = np.random.default_rng(k)
    planes = tuple(
        generator.integers(0, layout.peak + 1, size).astype(layout.dtype) for size in layout.sizes(width, height)
    )
    return Frame(planes, layout, k / RATE, 1 / RATE)


def write(
    target: Path | str,
    frames: list[Frame],
    colour: Colour = LEFT,
    *,
    aspect: Fraction | None = None,
    overwrite: bool = False,
) -> Y4mWriter:
    form = Y4mHeader(frames[0].layout, colour, frames[0].width, frames[0].height, RATE, aspect)
    writer = Y4mWriter(str(target), form, overwrite=overwrite)
    for each in frames:
        writer.write(each)
    writer.finish()
    return writer


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_frames_are_read_back_bit_identical_by_ffmpeg(tmp_path: Path, layout: Layout) -> None:
    assert y4m_layout(layout) == layout
    frames = [noisy_frame(layout, k) for k in range(3)]
    writer = write(tmp_path / "film.y4m", frames)
    writer.commit()
    with av.open(str(tmp_path / "film.y4m")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == RATE
        found = list(container.decode(stream))
    assert [f.pts * f.time_base for f in found if f.pts is not None and f.time_base] == [f.time for f in frames]
    for wanted, got in zip(frames, found, strict=True):
        planes, seen, _ = planes_of(got)
        assert seen == layout
        assert all(np.array_equal(a, b) for a, b in zip(wanted.planes, planes, strict=True))


def test_layout_without_a_name_gets_a_larger_one() -> None:
    every = [
        Layout(family, depth, x, y)
        for family, shifts in (("yuv", [(1, 1), (1, 0), (0, 0), (0, 1), (2, 0), (2, 2)]), ("gray", [(0, 0)]))
        for depth in (8, 9, 10, 12, 14, 16)
        for x, y in shifts
    ]
    for layout in [*every, Layout("rgb", 8), Layout("rgb", 12)]:  # type: ignore[arg-type]
        stored = y4m_layout(layout)
        assert stored in LAYOUTS
        assert stored.depth >= layout.depth
        assert stored.shift_x <= layout.shift_x
        assert stored.shift_y <= layout.shift_y


def test_writer_refuses_a_layout_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="y4m has no name for RGB"):
        Y4mWriter(str(tmp_path / "a.y4m"), Y4mHeader(Layout("rgb", 8), LEFT, 37, 21, RATE))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("siting", "tag"), [("left", b"C420mpeg2"), ("centre", b"C420jpeg"), ("topleft", b"C420paldv")]
)
def test_header_describes_the_frames(tmp_path: Path, full: bool, siting: str, tag: bytes) -> None:
    colour = Colour("bt601", full, siting)  # type: ignore[arg-type]
    part = write(tmp_path / "a.y4m", [noisy_frame(Layout("yuv", 8, 1, 1))], colour, aspect=Fraction(16, 11)).part
    assert part is not None
    header = part.read_bytes().split(b"\n")[0].split()
    assert header[0] == b"YUV4MPEG2"
    assert set(header[1:]) == {
        b"W37",
        b"H21",
        b"F48000:1001",
        b"Ip",
        b"A16:11",
        tag,
        b"XCOLORRANGE=FULL" if full else b"XCOLORRANGE=LIMITED",
    }
    with av.open(str(part), format="yuv4mpegpipe") as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)
        assert next(container.decode(video=0)).color_range == (2 if full else 1)


def test_bytes_of_a_file_follow_the_format(tmp_path: Path) -> None:
    """A header line, a FRAME line, and planes without padding, whose 16-bit samples are little-endian."""
    planes = (np.array([[1, 258], [772, 1023]], np.uint16),)
    part = write(tmp_path / "a.y4m", [Frame(planes, Layout("gray", 10), Fraction(0))]).part
    assert part is not None
    assert part.read_bytes().partition(b"\n")[2] == b"FRAME\n" + bytes([1, 0, 2, 1, 4, 3, 255, 3])


def test_planes_with_strides_are_written(tmp_path: Path) -> None:
    whole = noisy_frame(Layout("yuv", 8), width=80, height=42)
    views = Frame(tuple(plane[::2, ::-2] for plane in whole.planes), whole.layout, Fraction(0))
    part = write(tmp_path / "a.y4m", [views]).part
    assert part is not None
    assert next(decode_frames(part, [0])).same_picture(views)


def test_written_file_is_read_back_and_truncation_detected(tmp_path: Path) -> None:
    frames = [noisy_frame(Layout("yuv", 10, 1, 0), k) for k in range(4)]
    part = write(tmp_path / "a.y4m", frames).part
    assert part is not None
    assert frame_times(part) == [f.time for f in frames]
    last = next(decode_frames(part, [3]))
    assert last.same_picture(frames[3])
    assert last.time == frames[3].time
    with pytest.raises(OutputError, match="no frame 4"):
        next(decode_frames(part, [4]))
    os.truncate(part, part.stat().st_size - 1)
    with pytest.raises(OutputError, match="not come out whole"):
        frame_times(part)


def test_target_is_replaced_only_by_commit(tmp_path: Path) -> None:
    target = tmp_path / "a.y4m"
    frames = [noisy_frame(Layout("gray", 8))]
    write(target, frames).abort()
    assert list(tmp_path.iterdir()) == []
    first = write(target, frames)
    assert not target.exists()
    first.commit()
    first.abort()
    before = target.read_bytes()
    with pytest.raises(OutputError, match=r"exists.*--overwrite"):
        write(target, [noisy_frame(Layout("gray", 8), 1)])
    assert target.read_bytes() == before
    write(target, [noisy_frame(Layout("gray", 8), 1)], overwrite=True).commit()
    assert target.read_bytes() != before
    with pytest.raises(OutputError, match="no folder"):
        write(tmp_path / "missing" / "a.y4m", frames)
    assert [p.name for p in tmp_path.iterdir()] == ["a.y4m"]


class FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_is_an_output_error(tmp_path: Path) -> None:
    writer = Y4mWriter(str(tmp_path / "a.y4m"), Y4mHeader(Layout("gray", 8), LEFT, 37, 21, RATE))
    writer.file.close()
    writer.file = FullDisk()
    with pytest.raises(OutputError, match=r"a\.y4m cannot be written: no space left on the disk$"):
        writer.write(noisy_frame(Layout("gray", 8)))
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    """Make standard output a pipe; returns the descriptor of the end that is read, and the output."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as output:
        monkeypatch.setattr("midframe.video.images.y4m.sys", SimpleNamespace(stdout=output))
        yield read_end, output


def test_film_is_written_to_standard_output(pipe: tuple[int, TextIO]) -> None:
    frames = [noisy_frame(Layout("yuv", 8, 1, 1), k) for k in range(200)]  # more than a pipe holds at once
    received: list[bytes] = []

    def receive() -> None:
        with os.fdopen(pipe[0], "rb") as source:
            received.append(source.read())

    reader = threading.Thread(target=receive, daemon=True)
    reader.start()
    writer = write("-", frames)
    assert writer.part is None
    writer.commit()
    pipe[1].close()
    reader.join(30)
    header, _, rest = received[0].partition(b"\n")
    assert header.startswith(b"YUV4MPEG2 W37 H21 F48000:1001 ")
    assert rest == b"".join(b"FRAME\n" + b"".join(p.tobytes() for p in f.planes) for f in frames)


def test_closed_pipe_is_an_output_error(pipe: tuple[int, TextIO]) -> None:
    writer = Y4mWriter("-", Y4mHeader(Layout("gray", 8), LEFT, 37, 21, RATE))
    writer.write(noisy_frame(Layout("gray", 8)))
    os.close(pipe[0])
    with pytest.raises(OutputError, match=r"^standard output cannot be written: the program that read it has ended$"):
        writer.write(noisy_frame(Layout("gray", 8)))
    writer.abort()
    pipe[1].flush()  # nothing has stayed in a buffer that would fail again at exit


def test_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pty = pytest.importorskip("pty")
    controller, terminal_end = pty.openpty()
    with os.fdopen(controller), os.fdopen(terminal_end, "w") as terminal:
        monkeypatch.setattr("midframe.video.images.y4m.sys", SimpleNamespace(stdout=terminal))
        with pytest.raises(SettingError, match="not for a terminal"):
            Y4mWriter("-", Y4mHeader(Layout("gray", 8), LEFT, 37, 21, RATE))


def test_frame_of_another_layout_is_a_value_error(tmp_path: Path) -> None:
    kinds = [noisy_frame(Layout("gray", 8)), noisy_frame(Layout("yuv", 8)), noisy_frame(Layout("gray", 10))]
    for good, bad in itertools.permutations(kinds, 2):
        writer = write(tmp_path / "a.y4m", [good])
        with pytest.raises(ValueError, match="the frames are"):
            writer.write(bad)
        writer.abort()
