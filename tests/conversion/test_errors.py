"""Refused films and targets: the documented error with a one-line message, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from converted import convert_quickly
from films import AudioTrack, Film, audio_only, draw, empty, moov_missing, size_change, text, truncated
from midframe.conversion import Settings, convert
from midframe.errors import InputError, MidframeError, OutputError, SettingError
from process import expect_one_line, run_midframe


def expect_refusal(source: Path, target: Path, kind: type[MidframeError], message: str, **settings: object) -> None:
    """Check that a conversion fails with an error of that kind and leaves the target's folder unchanged."""
    before = snapshot(target.parent)
    with pytest.raises(kind, match=message) as caught:
        convert_quickly(source, target, **settings)
    assert "\n" not in str(caught.value)
    assert snapshot(target.parent) == before


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name, with their contents if they can be read."""
    found = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        found[file.name] = b""
        with suppress(OSError):
            found[file.name] = file.read_bytes()
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "out.mkv"


def test_files_that_are_not_films(tmp_path: Path, out: Path, film_factory: Callable[..., Path]) -> None:
    expect_refusal(tmp_path / "missing.mp4", out, InputError, "does not exist")
    expect_refusal(empty(tmp_path / "empty.mp4"), out, InputError, "empty")
    for suffix in (".mp4", ".txt", ".mkv", ".h264"):
        expect_refusal(text(tmp_path / f"letter{suffix}"), out, InputError, "is text, not a film|is not a film")
    expect_refusal(audio_only(tmp_path / "sound.mp4"), out, InputError, "no video stream.*audio")
    expect_refusal(audio_only(tmp_path / "cover.mp4", with_cover=True), out, InputError, "cover art")
    expect_refusal(moov_missing(film_factory(), tmp_path / "moov.mp4"), out, InputError, "cannot be read|not a film")
    expect_refusal(tmp_path / "out", out.with_name("x.mkv"), InputError, "has no pictures")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can read, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as a user who is not root, because root may read and write everything."""
    if sys.platform == "win32":
        pytest.skip("POSIX permissions")
    import midframe.conversion.render  # another user might not be able to import it later

    assert midframe.conversion.render
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


def test_input_without_permission(film_factory: Callable[..., Path], open_folder: Path) -> None:
    locked = open_folder / "locked.mp4"
    locked.write_bytes(film_factory().read_bytes())
    locked.chmod(0)
    with unprivileged():
        expect_refusal(locked, open_folder / "out.mkv", InputError, "permission denied")


def test_target_folder_without_permission(film_factory: Callable[..., Path], open_folder: Path) -> None:
    film = open_folder / "film.mp4"
    film.write_bytes(film_factory().read_bytes())
    open_folder.chmod(0o555)
    with unprivileged():
        expect_refusal(film, open_folder / "out.mkv", OutputError, "[Pp]ermission denied")


def test_impossible_targets(film_factory: Callable[..., Path], tmp_path: Path, out: Path) -> None:
    film = film_factory()
    expect_refusal(film, tmp_path / "nowhere" / "out.mkv", OutputError, "folder.*does not exist")
    expect_refusal(film, out.with_suffix(".xyz"), SettingError, r"\.mkv")
    out.write_bytes(b"precious")
    expect_refusal(film, out, OutputError, "--overwrite")
    assert convert_quickly(film, out, overwrite=True).complete
    assert out.read_bytes() != b"precious"


def test_input_as_output(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(film_factory(Film(frames=4), ".mkv").read_bytes())
    (tmp_path / "soft.mkv").symlink_to(film)
    os.link(film, tmp_path / "hard.mkv")
    for target in ("film.mkv", "soft.mkv", "hard.mkv"):
        expect_refusal(film, tmp_path / target, OutputError, "input itself", overwrite=True)
    expect_refusal(tmp_path / "soft.mkv", film, OutputError, "input itself", overwrite=True)


def test_a_failed_conversion_keeps_the_old_target(film_factory: Callable[..., Path], tmp_path: Path, out: Path) -> None:
    out.write_bytes(b"precious")
    film = truncated(film_factory(Film(), ".mkv"), 0.6, tmp_path / "cut.mkv")
    expect_refusal(film, out, InputError, "not complete", overwrite=True)


def test_a_film_of_one_frame(film_factory: Callable[..., Path], out: Path) -> None:
    summary = convert_quickly(film_factory(Film(frames=1), ".mkv"), out)
    assert (summary.counts.read, summary.counts.written, summary.complete) == (1, 1, True)


@pytest.mark.parametrize("suffix", [".ts", ".h264"])
def test_a_change_of_size_within_the_film(suffix: str, tmp_path: Path, out: Path) -> None:
    film = size_change(Film(frames=10, gop=5), tmp_path / f"film{suffix}", 192, 112)
    words = "changes from 160x96 yuv420p to 192x112 yuv420p at"
    expect_refusal(film, out, InputError, words)
    summary = convert_quickly(film, out, keep_going=True)
    assert (summary.counts.read, summary.counts.written, summary.complete) == (10, 19, False)
    assert any("changes from 160x96" in warning for warning in summary.warnings)


def test_invalid_settings(film_factory: Callable[..., Path], out: Path) -> None:
    film = film_factory()
    expect_refusal(film, out, SettingError, "factor", factor=1)
    expect_refusal(film, out, SettingError, "no frame lies", start=100)
    expect_refusal(film, out, SettingError, "encoder", encoder="no-such-encoder")
    with pytest.raises(SettingError, match="--factor or --fps, not both"):
        Settings(factor=2, fps=60)  # type: ignore[arg-type]


NOISE = Film(width=320, height=192, frames=16, scene="noise", audio=(AudioTrack(),))


def test_a_limit_on_the_size_of_files(film_factory: Callable[..., Path], out: Path) -> None:
    """Like a full disk, but it can be tested without mounting one."""
    if sys.platform == "win32":
        pytest.skip("POSIX limits")
    film = film_factory(NOISE)
    patch = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))"
    options = ("--encoder", "ffv1", "--network", "average", "--no-cuts", "--quiet")
    result = run_midframe("convert", film, out, *options, patch=patch)
    assert result.returncode == 4
    assert "cannot be written" in expect_one_line(result.stderr)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("fraction", [0.3, 0.97])
def test_a_full_disk(fraction: float, film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """The disk is full half way, or only at the end, when the encoder returns its delayed packets."""
    film = film_factory(NOISE)
    whole = tmp_path / "whole.mkv"
    convert_quickly(film, whole)
    disk = tmp_path / "disk"
    disk.mkdir()
    size = int(whole.stat().st_size * fraction) // 4096 * 4096
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        expect_refusal(film, disk / "out.mkv", OutputError, "no space left|MB are free")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("place", ["write", "finish", "commit"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("a fault")], ids=["full", "bug"]
)
def test_an_error_of_the_writer(
    place: str, error: Exception, film_factory: Callable[..., Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from midframe.files import write_error
    from midframe.video.writer import FilmWriter

    def throw(*_: object) -> None:
        raise write_error(out, error) if isinstance(error, OSError) else error

    monkeypatch.setattr(FilmWriter, place, throw)
    kind, message = (OutputError, "no space left") if isinstance(error, OSError) else (RuntimeError, "a fault")
    with pytest.raises(kind, match=message):
        convert_quickly(film_factory(), out)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    "function",
    [
        pytest.param("midframe.conversion.job.frame_pairs", id="pair"),
        pytest.param("midframe.conversion.render.Renderer.frames", id="render"),
        pytest.param("midframe.conversion.verify.verify_film", id="verify"),
    ],
)
def test_an_unforeseen_error_in_a_stage(
    function: str, film_factory: Callable[..., Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throw(*_: object, **__: object) -> None:
        raise ArithmeticError("the stage broke")

    monkeypatch.setattr(function, throw)
    with pytest.raises(ArithmeticError, match="the stage broke"):
        convert_quickly(film_factory(), out)
    assert not list(out.parent.iterdir())


def test_a_fault_of_midframe_itself(film_factory: Callable[..., Path], out: Path) -> None:
    """An unforeseen error: exit code 1, and one line that names a file with the traceback; --debug prints it."""
    patch = """
import midframe.conversion.render as m
def broken(self, pair):
    raise ArithmeticError("two and two")
m.Renderer._interpolate = broken
"""
    film = film_factory()
    result = run_midframe("convert", film, out, "--network", "average", patch=patch)
    assert result.returncode == 1
    line = expect_one_line(result.stderr)
    assert "two and two" in line
    log = Path(line.rsplit(" ", 1)[-1].rstrip(")"))
    assert "Traceback" in log.read_text()
    assert "in broken" in log.read_text()
    log.unlink()
    assert not list(out.parent.iterdir())
    result = run_midframe("convert", film, out, "--network", "average", "--debug", patch=patch)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_an_unknown_network_is_refused(film_factory: Callable[..., Path], out: Path) -> None:
    before = snapshot(out.parent)
    with pytest.raises(MidframeError, match="no-such-network"):
        convert(film_factory(), out, network="no-such-network")
    assert snapshot(out.parent) == before


def test_an_intact_film_gives_no_warning_of_damage(tmp_path: Path, out: Path) -> None:
    """The films of these tests are refused for their defects, not for the way they were drawn."""
    film = draw(Film(frames=6, audio=(AudioTrack(),)), tmp_path / "film.ts")
    summary = convert_quickly(film, out)
    assert summary.complete
    assert not summary.report.messages
    assert not summary.plan.film.problems
