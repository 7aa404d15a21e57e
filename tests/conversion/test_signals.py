"""SIGINT and SIGTERM stop the real command within seconds, in whatever stage it is, and nothing stays behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from films import AudioTrack, Film
from process import expect_one_line, parse_json_object, start_midframe, wait_for_file, wait_for_marker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

SECONDS = 3.0
"""Within which the process must end after a signal."""

QUICK = ("--network", "average", "--no-cuts", "--preset", "ultrafast")


def block(function: str, call: int = 1) -> str:
    """A patch that stops a stage at its `call`-th call of a function, in a sleep that does not notice signals.

    function: `module:name` or `module:Class.name`.
    """
    module, _, name = function.partition(":")
    owner = ".".join([module, *name.split(".")[:-1]])
    name = name.split(".")[-1]
    return f"""
import {module}
original, calls = {owner}.{name}, 0
def blocked(*arguments, **named):
    global calls
    calls += 1
    if calls == {call}:
        reached()
        time.sleep(60)
    return original(*arguments, **named)
{owner}.{name} = blocked
"""


BLOCKED_STAGES = {
    "probe": block("midframe.video.probe:scan"),
    "decode": block("midframe.video.ffmpeg:_decode_packet", call=6),
    "render": block("midframe.conversion.render:Renderer._interpolate", call=4),
    "open output": block("midframe.conversion.job:open_sink"),
    "encode": block("midframe.video.writer:FilmWriter.write", call=8),
    "verify": block("midframe.conversion.job:verify"),
}


def send_signal(process: subprocess.Popen[Any], number: int) -> tuple[float, str, str]:
    """Send a signal; return the seconds until the process ended, and its standard output and error from then on."""
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return time.monotonic() - began, out, err


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        pytest.param(stage, number, id=f"{number.name} in {stage}")
        for stage, number in zip(BLOCKED_STAGES, itertools.cycle((signal.SIGINT, signal.SIGTERM)), strict=False)
    ],
)
def test_a_signal_in_any_stage_ends_it(
    stage: str, number: signal.Signals, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    film = film_factory(Film(audio=(AudioTrack(),)))
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    process = start_midframe(
        "convert", film, target, "--overwrite", "--json", "--quiet", *QUICK, patch=BLOCKED_STAGES[stage]
    )
    wait_for_marker(process)
    seconds, out, err = send_signal(process, number)
    assert process.returncode == 128 + number
    assert seconds < SECONDS
    assert "interrupted" in expect_one_line(err)
    assert parse_json_object(out)["error"] == {
        "code": "interrupted",
        "message": "interrupted; nothing was left behind",
        "exit_code": 128 + number,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert target.read_bytes() == b"old"


def test_a_signal_half_way_through_a_conversion_at_work(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = film_factory(Film(width=320, height=192, frames=48, scene="noise"))
    options = ("--factor", "64", "--network", "average", "--no-cuts", "--quiet")
    process = start_midframe("convert", film, tmp_path / "out.mp4", *options)
    wait_for_file(tmp_path, "*.part", process)
    seconds, _, err = send_signal(process, signal.SIGTERM)
    assert process.returncode == 143
    assert seconds < SECONDS
    expect_one_line(err)
    assert not list(tmp_path.iterdir())


def test_a_signal_while_an_encoder_empties_itself(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """x265 holds back dozens of frames and gives them in one long call at the end."""
    film = film_factory(Film(width=320, height=192, frames=24, scene="noise"))
    patch = """
import midframe.video.writer
original = midframe.video.writer.FilmWriter.finish
def finish(self):
    reached()
    original(self)
    time.sleep(60)  # so that it does not end before the signal comes
midframe.video.writer.FilmWriter.finish = finish
"""
    options = ("--encoder", "libx265", "--preset", "slower", "--network", "average", "--no-cuts")
    process = start_midframe("convert", film, tmp_path / "out.mp4", *options, patch=patch)
    wait_for_marker(process)
    seconds, _, _ = send_signal(process, signal.SIGINT)
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
            process = start_midframe(
                "convert", pipe, tmp_path / "out.mkv", "--encoder", "ffv1", "--network", "average", "--quiet"
            )
            time.sleep(3.0)
            assert process.poll() is None
            seconds, _, err = send_signal(process, signal.SIGTERM)
        finally:
            os.close(keep)
            pipe.unlink()
        assert process.returncode == 143
        assert seconds < SECONDS
        expect_one_line(err)
        assert not list(tmp_path.iterdir())


def test_a_signal_while_a_single_picture_is_interpolated(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 48), "red" if name == "a.png" else "blue").save(tmp_path / name)
    process = start_midframe(
        "frame",
        tmp_path / "a.png",
        tmp_path / "b.png",
        tmp_path / "out.png",
        "--network",
        "average",
        patch=block("midframe.conversion.render:Renderer._interpolate"),
    )
    wait_for_marker(process)
    seconds, _, err = send_signal(process, signal.SIGINT)
    assert process.returncode == 130
    assert seconds < SECONDS
    expect_one_line(err)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]
