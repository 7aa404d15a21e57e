"""SIGINT and SIGTERM stop the real command within seconds, in whatever stage it is, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from films import AudioTrack, Film
from process import one_line, one_object, start, wait_for_file, wait_for_place

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

SECONDS = 3.0
QUICK = ("--network", "average", "--no-cuts", "--preset", "ultrafast")

# Each patch makes one stage stand still, in a call that does not notice signals, once it has been reached.
SLEEP = "here(); time.sleep(60)"
PATCHES = {
    "plan": f"""
import midframe.video.probe as m
old = m.scan
def scan(*a, **k):
    {SLEEP}
m.scan = scan
""",
    "decode": f"""
import midframe.video.reader as m
old = m._Reading.decode
count = 0
def decode(self, packet):
    global count
    count += 1
    if count == 6:
        {SLEEP}
    return old(self, packet)
m._Reading.decode = decode
""",
    "network": f"""
import midframe.conversion.render as m
old = m.Renderer._interpolate
count = 0
def made(self, pair):
    global count
    count += 1
    if count == 4:
        {SLEEP}
    return old(self, pair)
m.Renderer._interpolate = made
""",
    "open": f"""
import midframe.conversion.job as m
def open_sink(plan, settings):
    {SLEEP}
m.open_sink = open_sink
""",
    "encode": f"""
import midframe.video.writer as m
old = m.FilmWriter.write
count = 0
def write(self, frame):
    global count
    count += 1
    if count == 8:
        {SLEEP}
    old(self, frame)
m.FilmWriter.write = write
""",
    "verify": f"""
import midframe.conversion.job as m
def verify(*a):
    {SLEEP}
m.verify = verify
""",
}


def stopped(process, number: int) -> tuple[float, str, str]:
    """Send a signal; seconds until the process ended, its standard output and error from then on."""
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return time.monotonic() - began, out, err


@pytest.mark.parametrize(
    ("stage", "number"),
    [(stage, (signal.SIGINT, signal.SIGTERM)[k % 2]) for k, stage in enumerate(PATCHES)],
)
def test_a_signal_in_any_stage_ends_it(
    stage: str, number: int, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    film = film_factory(Film(audio=(AudioTrack(),)))
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    process = start("convert", film, target, "--overwrite", "--json", *QUICK, patch=PATCHES[stage])
    wait_for_place(process)
    seconds, out, err = stopped(process, number)
    assert process.returncode == 128 + number
    assert seconds < SECONDS
    assert "interrupted" in one_line(err)
    assert one_object(out)["error"] == {
        "code": "interrupted",
        "message": "interrupted; nothing was left behind",
        "exit_code": 128 + number,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert target.read_bytes() == b"old"


def test_a_signal_half_way_through_a_conversion_at_work(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = film_factory(Film(width=320, height=192, frames=48, scene="noise"))
    options = ("--factor", "64", "--network", "average", "--no-cuts")
    process = start("convert", film, tmp_path / "out.mp4", *options)
    wait_for_file(tmp_path, "*.part", process)
    seconds, _, err = stopped(process, signal.SIGTERM)
    assert process.returncode == 143
    assert seconds < SECONDS
    one_line(err)
    assert not list(tmp_path.iterdir())


def test_a_signal_while_an_encoder_empties_itself(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """x265 holds back dozens of frames and gives them in one long call at the end."""
    film = film_factory(Film(width=320, height=192, frames=24, scene="noise"))
    patch = """
import midframe.video.writer as m
old = m.FilmWriter.finish
def finish(self):
    here()
    old(self)
    time.sleep(60)  # were it quicker than the signal
m.FilmWriter.finish = finish
"""
    options = ("--encoder", "libx265", "--preset", "slower", "--network", "average", "--no-cuts")
    process = start("convert", film, tmp_path / "out.mp4", *options, patch=patch)
    wait_for_place(process)
    seconds, _, _ = stopped(process, signal.SIGINT)
    assert process.returncode == 130
    assert seconds < SECONDS
    assert not list(tmp_path.iterdir())


def test_a_signal_while_a_pipe_gives_nothing(tmp_path: Path) -> None:
    """Before the header has come, and between frames."""
    header = b"YUV4MPEG2 W64 H48 F25:1 Ip C420jpeg\n"
    for given in (b"", header + 3 * (b"FRAME\n" + bytes(64 * 48 * 3 // 2))):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        keep = os.open(pipe, os.O_RDWR)
        try:
            os.write(keep, given)
            process = start("convert", pipe, tmp_path / "out.mkv", "--encoder", "ffv1", "--network", "average")
            time.sleep(3.0)
            assert process.poll() is None
            seconds, _, err = stopped(process, signal.SIGTERM)
        finally:
            os.close(keep)
            pipe.unlink()
        assert process.returncode == 143
        assert seconds < SECONDS
        one_line(err)
        assert not list(tmp_path.iterdir())


def test_a_signal_while_one_picture_is_interpolate(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 48), "red" if name == "a.png" else "blue").save(tmp_path / name)
    process = start(
        "frame",
        tmp_path / "a.png",
        tmp_path / "b.png",
        tmp_path / "out.png",
        "--network",
        "average",
        patch=PATCHES["network"].replace("4", "1"),
    )
    wait_for_place(process)
    seconds, _, err = stopped(process, signal.SIGINT)
    assert process.returncode == 130
    assert seconds < SECONDS
    one_line(err)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]
