"""`convert` as a library: cancelling, errors of callbacks, and several conversions in one process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import midframe
from converted import convert_quickly
from films import AudioTrack, Film, bit_flips, read_planes
from midframe.conversion import Progress
from midframe.errors import Cancelled, MidframeError, OutputError
from midframe.video.writer import FilmWriter

LONG = Film(frames=48, scene="noise")


def conversion_threads() -> set[str]:
    """Return the names of the threads of conversions that are still running."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("midframe-")}


def all_threads_end(limit: float = 5.0) -> bool:
    """Wait up to `limit` seconds for the threads of conversions; return whether all have ended."""
    deadline = time.monotonic() + limit
    while conversion_threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not conversion_threads()


@pytest.mark.parametrize("stage", ["plan", "convert", "verify"])
def test_cancel_event_ends_any_stage(
    stage: str, film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = threading.Event()
    if stage != "convert":  # planning and verifying a short film take no time
        from midframe.conversion import job

        name = {"plan": "make_plan", "verify": "verify"}[stage]
        original = getattr(job, name)
        monkeypatch.setattr(job, name, lambda *a: (time.sleep(0.5), original(*a))[1])

    def progress(now: Progress) -> None:
        if now.stage == stage and (now.written > 3 or stage == "plan"):
            cancel.set()

    began = time.monotonic()
    with pytest.raises(Cancelled, match="the conversion was stopped"):
        convert_quickly(
            film_factory(LONG),
            tmp_path / "out.mp4",
            factor=64 if stage == "convert" else 2,
            progress=progress,
            cancel=cancel,
        )
    assert time.monotonic() - began < 20
    assert all_threads_end()
    assert not list(tmp_path.iterdir())


def test_cancel_event_that_is_set_beforehand(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled, match="stopped"):
        convert_quickly(film_factory(LONG), tmp_path / "out.mkv", cancel=cancel)
    assert all_threads_end()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), ValueError("no such bar")], ids=["interrupt", "error"])
def test_an_exception_of_the_progress_callback_ends_the_conversion(
    error: BaseException, film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    """The exception is raised by `convert`, also control-C in the calling program, and nothing is left behind."""

    def progress(now: Progress) -> None:
        if now.written > 3:
            raise error

    with pytest.raises(type(error), match=str(error)):
        convert_quickly(film_factory(LONG), tmp_path / "out.mp4", factor=32, progress=progress)
    assert all_threads_end()
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_cannot_be_interrupted(
    film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call returns before the encoder does. The file is deleted by then, and does not reappear.

    Until the encoder has ended, another conversion to the same target is refused, because the encoder would delete
    its file.
    """
    film, out = film_factory(LONG), tmp_path / "out.mkv"
    cancel, busy, release = threading.Event(), threading.Event(), threading.Event()
    write = FilmWriter.write

    def slow(self: FilmWriter, frame: object) -> None:
        busy.set()
        release.wait(20)
        write(self, frame)

    monkeypatch.setattr(FilmWriter, "write", slow)
    threading.Thread(target=lambda: (busy.wait(20), cancel.set())).start()
    began = time.monotonic()
    with pytest.raises(Cancelled, match="stopped"):
        convert_quickly(film, out, cancel=cancel)
    assert time.monotonic() - began < 10
    assert conversion_threads()
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="another conversion"):
        convert_quickly(film, out)
    release.set()
    assert all_threads_end()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(FilmWriter, "write", write)
    time.sleep(0.1)
    assert convert_quickly(film, out).complete


def test_several_conversions_at_once(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """Each has the same result as alone, and the errors of a damaged film do not affect the others."""
    films = [film_factory(Film(frames=10, speed=(k, 1), audio=(AudioTrack(),))) for k in range(3)]
    alone = []
    for k, film in enumerate(films):
        convert_quickly(film, tmp_path / f"alone{k}.mkv")
        alone.append(read_planes(tmp_path / f"alone{k}.mkv"))
    broken = bit_flips(films[0], 60, 1, tmp_path / "broken.mp4", first=0.2)

    def one(k: int) -> object:
        try:
            return convert_quickly([*films, broken][k], tmp_path / f"together{k}.mkv")
        except MidframeError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(4)))
    for k in range(3):
        assert isinstance(results[k], midframe.conversion.Summary), results[k]
        together = read_planes(tmp_path / f"together{k}.mkv")
        assert len(together) == len(alone[k])
        assert all((a == b).all() for x, y in zip(together, alone[k], strict=True) for a, b in zip(x, y, strict=True))
    assert not list(tmp_path.glob("*.part"))


def test_two_conversions_to_one_target(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """They would share an unfinished file, so the second one is refused."""
    film, out = film_factory(LONG), tmp_path / "out.mkv"
    refusals = []

    def progress(now: Progress) -> None:
        if now.written and not refusals:
            with pytest.raises(OutputError, match="another conversion"):
                convert_quickly(film, out)
            refusals.append(now)

    summary = convert_quickly(film, out, factor=8, progress=progress)
    assert refusals
    assert summary.complete


def test_progress_callback(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    seen: list[Progress] = []
    summary = convert_quickly(film_factory(LONG), tmp_path / "out.mkv", factor=8, progress=seen.append)
    written = [now.written for now in seen]
    assert written == sorted(written)
    assert written[-1] == summary.counts.written == 47 * 8 + 1
    assert {now.total for now in seen if now.stage != "plan"} == {summary.counts.written}
    assert list(dict.fromkeys(now.stage for now in seen))[-2:] == ["convert", "verify"]
    assert all(now.seconds_left is None or now.seconds_left >= 0 for now in seen)


@pytest.mark.slow
def test_cancelling_the_decoding_of_damaged_films_does_not_block(
    film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    """FFmpeg's threads log through the interpreter while their decoder is closed, which must not block."""
    whole = film_factory(Film(width=320, height=192, frames=24, gop=12, scene="noise"))
    for seed in range(60):
        broken = bit_flips(whole, 400, seed, tmp_path / "broken.mp4", first=0.05)
        cancel = threading.Event()
        timer = threading.Timer(0.02 * (seed % 12), cancel.set)
        timer.start()
        with contextlib.suppress(MidframeError):
            convert_quickly(broken, tmp_path / "out.mkv", overwrite=True, keep_going=bool(seed % 2), cancel=cancel)
        timer.cancel()
    assert all_threads_end(20)
