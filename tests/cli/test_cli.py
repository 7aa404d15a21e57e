"""The `midframe` command as a whole: exit codes, JSON output, help, standard streams and time of import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

import midframe.cli
from converted import convert_quickly
from films import AudioTrack, Chapter, Film, SubtitleTrack, read_times, truncated, undecodable
from midframe.errors import InputError
from midframe.video.reader import ReadReport, read_pipe
from process import InProcessCommand, environment, expect_one_line, parse_json_object, run_midframe, start_midframe

QUICK = ("--network", "average", "--no-cuts")
"""Options that make a conversion cheap."""


def read_schema(name: str) -> dict[str, Any]:
    """Return a JSON Schema of the package, checked against the standard."""
    schema = json.loads(files("midframe").joinpath("schemas", f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return dict(schema)


def validated(data: dict[str, Any], schema: str = "convert") -> dict[str, Any]:
    """Return JSON data after checking them against a schema."""
    jsonschema.validate(data, read_schema(schema))
    return data


def test_json_of_a_conversion(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = film_factory(
        Film(
            audio=(AudioTrack(language="deu"),),
            subtitles=(SubtitleTrack(),),
            chapters=(Chapter(Fraction(0), Fraction(1), "Ä"),),
            attachments=(("a.txt", "text/plain", b"x"),),
        ),
        ".mkv",
    )
    out = tmp_path / "out.mkv"
    result = run_midframe(
        "convert", film, out, "--json", "--json-file", tmp_path / "out.json", "--encoder", "ffv1", *QUICK
    )
    assert result.returncode == 0, result.stderr
    data = validated(parse_json_object(result.stdout))
    assert data == json.loads((tmp_path / "out.json").read_text())
    assert data["complete"] is True
    assert data["frames"]["written"] == 47 == len(read_times(out))
    assert {stream["action"] for stream in data["streams"]} == {"encode", "copy", "attach"}
    assert set(data["seconds"]) >= {"plan", "decode", "pair", "render", "encode", "verify", "total"}
    assert result.stderr.count("47 frames from 24") == 1


def test_json_of_other_conversions(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """A dry run, damaged films, slow motion, an image sequence and a frame rate: `Summary.json` fits its schema."""
    film = film_factory(Film(frames=8, audio=(AudioTrack(),)))
    broken = undecodable(film_factory(Film(frames=8, codec="ffv1", gop=1), ".mkv"), {3}, tmp_path / "broken.mkv")
    dry = validated(convert_quickly(film, tmp_path / "a.mp4", dry_run=True).json())
    assert dry["output"]["dry_run"]
    assert dry["plan"]["frames"] == 15
    assert not (tmp_path / "a.mp4").exists()
    damaged = validated(convert_quickly(broken, tmp_path / "b.mkv", keep_going=True).json())
    assert (damaged["complete"], damaged["damage"]["lost"]) == (False, 1)
    cut = truncated(film_factory(Film(), ".mkv"), 0.7, tmp_path / "cut.mkv")
    assert validated(convert_quickly(cut, tmp_path / "c.mkv", keep_going=True).json())["damage"]["problems"]
    assert (
        validated(convert_quickly(film, tmp_path / "d.mp4", slow_motion=True).json())["streams"][1]["action"] == "drop"
    )
    (tmp_path / "pictures").mkdir()
    validated(convert_quickly(film, Path(f"{tmp_path}/pictures/%03d.png")).json())
    validated(convert_quickly(film, tmp_path / "e.mkv", fps=Fraction(60000, 1001)).json())


def test_json_of_a_single_frame(run_in_process: InProcessCommand, tmp_path: Path) -> None:
    for name, level in (("a.png", 0), ("b.png", 200)):
        Image.fromarray(np.full((48, 64, 3), level, np.uint8)).save(tmp_path / name)
    arguments = [
        "frame",
        tmp_path / "a.png",
        tmp_path / "b.png",
        tmp_path / "out.png",
        "--network",
        "average",
        "--json",
    ]
    result = run_in_process(*arguments)
    assert result.returncode == 0, result.stderr
    data = validated(parse_json_object(result.stdout), "frame")
    assert data["time"] == "1/2"
    assert abs(int(np.asarray(Image.open(tmp_path / "out.png"))[0, 0, 0]) - 100) <= 1
    result = run_in_process(*arguments)
    assert result.returncode == 4
    assert validated(parse_json_object(result.stdout), "frame")["error"]["code"] == "output"
    assert "--overwrite" in expect_one_line(result.stderr)


FILM_TO_FILM = ("convert", "film.mp4", "out.mp4")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(("convert", "missing.mp4", "out.mp4"), 3, "does not exist", id="missing film"),
        pytest.param(("convert", "film.mp4", "nowhere/out.mp4"), 4, "nowhere", id="missing folder"),
        pytest.param(("convert", "film.mp4"), 2, "Missing argument 'OUT'", id="missing argument"),
        pytest.param((*FILM_TO_FILM, "--factr", "3"), 2, "--factr", id="unknown option"),
        pytest.param((*FILM_TO_FILM, "--factor", "two"), 2, "--factor", id="factor is no number"),
        pytest.param((*FILM_TO_FILM, "--fps", "fast"), 2, "frame rate", id="rate is no number"),
        pytest.param((*FILM_TO_FILM, "--factor", "2", "--fps", "60"), 2, "--factor or --fps", id="contradiction"),
        pytest.param((*FILM_TO_FILM, "--start", "1:x"), 2, "not a time", id="invalid time"),
        pytest.param((*FILM_TO_FILM, "--odd", "maybe"), 2, "pad or error", id="invalid choice"),
        pytest.param((*FILM_TO_FILM, "--device", "abacus"), 5, "abacus", id="unknown device"),
        pytest.param(("frame", "a.png", "b.png", "c.png", "--time", "7"), 2, "above 0 and below 1", id="time outside"),
        pytest.param(("frame", "a.png", "b.png", "c.png"), 3, "a.png", id="missing picture"),
        pytest.param(("convrt",), 2, "No such command", id="unknown command"),
    ],
)
def test_exit_codes(
    run_in_process: InProcessCommand,
    arguments: tuple[str, ...],
    code: int,
    message: str,
    film_factory: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure has the documented code, one line on standard error, one JSON object, and nothing is written."""
    (tmp_path / "film.mp4").write_bytes(film_factory(Film(frames=4)).read_bytes())
    monkeypatch.chdir(tmp_path)
    result = run_in_process(*arguments, "--json", "--quiet")
    assert result.returncode == code
    out, err = result.stdout, result.stderr
    assert message in expect_one_line(err)
    data = validated(parse_json_object(out), "frame" if arguments[0] == "frame" else "convert")
    assert data["error"]["exit_code"] == code
    assert data["error"]["message"] in expect_one_line(err)
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_exit_code_of_the_process(tmp_path: Path) -> None:
    result = run_midframe("convert", "missing.mp4", "out.mp4", "--json", cwd=tmp_path)
    assert result.returncode == 3
    assert "missing.mp4 does not exist" in expect_one_line(result.stderr)
    assert validated(parse_json_object(result.stdout))["error"]["exit_code"] == 3


def test_an_impossible_json_file_is_refused_before_the_work(
    run_in_process: InProcessCommand, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    result = run_in_process(
        "convert", film_factory(), tmp_path / "out.mkv", "--json-file", tmp_path / "nowhere" / "x.json"
    )
    assert result.returncode == 4
    assert "JSON" in expect_one_line(result.stderr)
    assert not list(tmp_path.iterdir())


def test_frames_on_standard_output(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = film_factory(Film(frames=4))
    json_file = tmp_path / "summary.json"
    result = run_midframe("convert", film, "-", "--json-file", json_file, *QUICK, text=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"YUV4MPEG2 W160 H96 F48:1 ")
    assert result.stdout.count(b"FRAME\n") == 7
    assert validated(json.loads(json_file.read_text()))["output"]["path"] == "-"
    refused = run_midframe("convert", film, "-", "--json", *QUICK)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "--json-file" in expect_one_line(refused.stderr)


def test_from_standard_input_to_standard_output(film_factory: Callable[..., Path]) -> None:
    first = start_midframe("convert", film_factory(Film(frames=4)), "-", "--quiet", *QUICK, stderr=subprocess.DEVNULL)
    second = run_midframe("convert", "-", "-", "--quiet", *QUICK, stdin=first.stdout, text=False)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count(b"FRAME\n") == 13
    assert first.wait() == 0


def test_a_pipe_that_ends_within_a_frame(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("named pipes")
    header, length = b"YUV4MPEG2 W64 H48 F25:1 Ip C420jpeg\n", 64 * 48 * 3 // 2
    for mark in (b"FRAME\n", b"FRAME Ippp\n"):
        stream = header + 4 * (mark + bytes(length))
        for cut, whole in ((0, 4), (1000, 3), (length, 3), (length + len(mark), 3)):
            pipe = tmp_path / "pipe"
            os.mkfifo(pipe)
            writer = threading.Thread(target=pipe.write_bytes, args=(stream[: len(stream) - cut],))
            writer.start()
            film, frames = read_pipe(str(pipe))
            seen = []
            if cut in (0, length + len(mark)):
                seen.extend(frames(ReadReport(), lambda: False))
            else:
                with pytest.raises(InputError, match="ends within a frame, after 3 complete ones"):
                    seen.extend(frames(ReadReport(), lambda: False))
            writer.join()
            pipe.unlink()
            assert [frame.time for frame in seen] == [Fraction(k, 25) for k in range(whole)]
            assert film.ticks is None


def test_the_reader_of_standard_output_ends_early(film_factory: Callable[..., Path]) -> None:
    film = film_factory(Film(width=320, height=192, frames=48, scene="noise"))
    process = start_midframe("convert", film, "-", "--quiet", *QUICK, text=False)
    assert process.stdout is not None
    assert process.stdout.read(10).startswith(b"YUV4MPEG2")
    process.stdout.close()
    assert process.stderr is not None
    error = process.stderr.read()
    assert process.wait(30) == 4
    assert "has ended" in expect_one_line(error.decode())


def test_standard_output_is_closed_before_the_json_is_written(
    film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    """The conversion is complete, but the command fails because the JSON was not delivered."""
    process = start_midframe("convert", film_factory(Film(frames=4)), tmp_path / "out.mkv", "--json", "--quiet", *QUICK)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    error = process.stderr.read()
    assert process.wait(30) == 4
    assert "JSON" in expect_one_line(error)


def test_quiet_prints_nothing(
    run_in_process: InProcessCommand, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    result = run_in_process("convert", film_factory(Film(frames=4)), tmp_path / "out.mp4", "--quiet", *QUICK)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_progress_in_plain_lines(
    run_in_process: InProcessCommand, film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If standard error is no terminal: whole lines with frames, speed and time left, without control characters."""
    monkeypatch.setattr("midframe.cli.progress.LINE_INTERVAL", 0.0)
    film = film_factory(Film(width=320, height=192, frames=24, scene="noise"))
    result = run_in_process("convert", film, tmp_path / "out.mp4", "--factor", "8", *QUICK)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if "a second, " in line or "left" in line]
    assert any(line.startswith("midframe: convert: ") and " of 185 frames, " in line for line in lines)
    assert "\r" not in result.stderr
    assert "\x1b" not in result.stderr


def test_a_bar_on_a_terminal(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="needs pseudo terminals")
    ours, theirs = pty.openpty()
    process = start_midframe(
        "convert",
        film_factory(Film(width=320, height=192, frames=24, scene="noise")),
        tmp_path / "out.mp4",
        "--factor",
        "8",
        *QUICK,
        stderr=theirs,
        env={**environment(), "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        shown += piece
        if not piece:
            break
    os.close(ours)
    assert process.wait(30) == 0
    assert b"of 185 frames" in shown
    assert shown.count(b"185 frames from 24") == 1


def test_dry_run_prints_the_plan(
    run_in_process: InProcessCommand, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    film = film_factory(Film(audio=(AudioTrack(language="deu"),), rotation=90))
    result = run_in_process("convert", film, tmp_path / "out.mp4", "--dry-run", "--fps", "60", "--network", "average")
    assert result.returncode == 0
    for words in ("24 frames from 0.000 s", "60 frames", "60.000 a second", "libx264 (crf 18, preset medium)", "copy"):
        assert words in result.stdout
    assert "rotation by" in result.stdout
    assert "averages" in result.stdout
    assert result.stderr == ""
    assert not list(tmp_path.iterdir())


def test_help_version_and_completion() -> None:
    assert run_midframe("--version").stdout == f"midframe {midframe.__version__}\n"
    bare = run_midframe()
    assert bare.returncode == 0
    assert bare.stdout == run_midframe("--help").stdout
    assert "convert" in bare.stdout
    shown = run_midframe("convert", "--help").stdout
    assert "midframe convert holiday.mp4 smooth.mp4" in shown
    for option in ("--factor", "--fps", "--slow-motion", "--keep-going", "--overwrite", "--json", "--dry-run"):
        assert option in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("midframe")
    if not command.exists():
        pytest.skip("the command is not installed beside this Python")
    home = {**environment(), "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run([command, "--show-completion", shell], capture_output=True, text=True, env=home, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "_MIDFRAME_COMPLETE" in shown.stdout
    made = subprocess.run(
        [command, "--install-completion", shell], capture_output=True, text=True, env=home, check=False
    )
    assert made.returncode == 0, made.stderr
    assert any(file.is_file() for file in tmp_path.rglob("*"))


def test_completing_a_command_line() -> None:
    environ = {**environment(), "_MIDFRAME_COMPLETE": "complete_bash", "COMP_WORDS": "midframe con", "COMP_CWORD": "1"}
    command = Path(sys.executable).with_name("midframe")
    if not command.exists():
        pytest.skip("the command is not installed beside this Python")
    done = subprocess.run([command], capture_output=True, text=True, env=environ, check=False)
    assert done.stdout.split() == ["convert"]


BLOCKED = "import sys\nsys.modules |= dict.fromkeys({names!r})\n"
"""A patch after which these packages seem not to be installed."""


def test_import_needs_no_large_package() -> None:
    program = BLOCKED.format(names=("torch", "av", "halide", "triton", "numpy", "PIL", "rich")) + (
        "import midframe, midframe.errors\nprint(midframe.__version__, sorted(dir(midframe))[-1])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_conversion_works_without_halide_and_triton(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    patch = BLOCKED.format(names=("halide", "triton"))
    film = film_factory(Film(64, 48, frames=2))
    result = run_midframe(
        "convert", film, tmp_path / "out.mkv", "--encoder", "ffv1", "--device", "cpu", "--json", patch=patch
    )
    assert result.returncode == 0, result.stderr
    summary = parse_json_object(result.stdout)
    assert (summary["network"], summary["backend"]) == ("guided", "torch")
    assert len(read_times(tmp_path / "out.mkv")) == 3


def test_help_loads_neither_torch_nor_av() -> None:
    program = (
        "import sys\nfrom midframe.cli.app import app\n"
        "app(['convert', '--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'av', 'numpy', 'halide'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


@pytest.mark.slow
def test_import_and_help_are_fast() -> None:
    """The best of ten runs counts, because other work may slow this machine down."""
    for limit, arguments in ((0.3, ["-c", "import midframe"]), (0.5, ["-m", "midframe", "--help"])):
        times = []
        for _ in range(10):
            began = time.monotonic()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            times.append(time.monotonic() - began)
        assert min(times) < limit, times
