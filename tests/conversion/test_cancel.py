"""`convert` as a library: stopping it, its errors, and several conversions in one process."""

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


def threads() -> set[str]:
    """The threads of conversions that are still there."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("midframe-")}


def soon_none(limit: float = 5.0) -> bool:
    until = time.monotonic() + limit
    while threads() and time.monotonic() < until:
        time.sleep(0.02)
    return not threads()


@pytest.mark.parametrize("stage", ["plan", "convert", "verify"])
def test_the_token_stops_it(
    stage: str, film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = threading.Event()
    if stage != "convert":  # these are over at once for a short film
        from midframe.conversion import job

        name = {"plan": "make_plan", "verify": "verify"}[stage]
        whole = getattr(job, name)
        monkeypatch.setattr(job, name, lambda *a: (time.sleep(0.5), whole(*a))[1])

    def progress(now: Progress) -> None:
        if now.stage == stage and (now.written > 3 or stage == "plan"):
            cancel.set()

    began = time.monotonic()
    with pytest.raises(Cancelled):
        convert_quickly(
            film_factory(LONG),
            tmp_path / "out.mp4",
            factor=64 if stage == "convert" else 2,
            progress=progress,
            cancel=cancel,
        )
    assert time.monotonic() - began < 20
    assert soon_none()
    assert not list(tmp_path.iterdir())


def test_a_token_that_is_set_already(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        convert_quickly(film_factory(LONG), tmp_path / "out.mkv", cancel=cancel)
    assert soon_none()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("no such bar")])
def test_an_error_in_the_callers_thread(
    error: BaseException | type[BaseException], film_factory: Callable[..., Path], tmp_path: Path
) -> None:
    """Control-C in the calling program, or a progress callback that throws: the error comes out, nothing stays."""

    def progress(now: Progress) -> None:
        if now.written > 3:
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        convert_quickly(film_factory(LONG), tmp_path / "out.mp4", factor=32, progress=progress)
    assert soon_none()
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_cannot_be_interrupted(
    film_factory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call returns before the encoder does; the file is gone then, and does not come back afterwards.

    Nor does the old encoder, when it is done at last, delete the file of a new conversion to the same target: until
    then that is refused.
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
    with pytest.raises(Cancelled):
        convert_quickly(film, out, cancel=cancel)
    assert time.monotonic() - began < 10
    assert threads()
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="another conversion"):
        convert_quickly(film, out)
    release.set()
    assert soon_none()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(FilmWriter, "write", write)
    time.sleep(0.1)
    assert convert_quickly(film, out).complete


def test_several_at_once(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """Each gives what it gives alone, and a damaged film's errors are not another film's."""
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


def test_two_to_one_target(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """They would share an unfinished file: the second is refused, the first is whole."""
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


def test_progress(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    seen: list[Progress] = []
    summary = convert_quickly(film_factory(LONG), tmp_path / "out.mkv", factor=8, progress=seen.append)
    written = [now.written for now in seen]
    assert written == sorted(written)
    assert written[-1] == summary.counts.written == 47 * 8 + 1
    assert {now.total for now in seen if now.stage != "plan"} == {summary.counts.written}
    assert list(dict.fromkeys(now.stage for now in seen))[-2:] == ["convert", "verify"]
    assert all(now.seconds_left is None or now.seconds_left >= 0 for now in seen)


@pytest.mark.slow
def test_damaged_films_stopped_in_the_middle_do_not_lock_up(film_factory: Callable[..., Path], tmp_path: Path) -> None:
    """FFmpeg's threads log through the interpreter while its decoders are closed: many times, and it must end."""
    whole = film_factory(Film(width=320, height=192, frames=24, gop=12, scene="noise"))
    for seed in range(60):
        broken = bit_flips(whole, 400, seed, tmp_path / "broken.mp4", first=0.05)
        cancel = threading.Event()
        timer = threading.Timer(0.02 * (seed % 12), cancel.set)
        timer.start()
        with contextlib.suppress(MidframeError):
            convert_quickly(broken, tmp_path / "out.mkv", overwrite=True, keep_going=bool(seed % 2), cancel=cancel)
        timer.cancel()
    assert soon_none(20)
