"""Worker processes for the jobs of a build: spawned, one job each at a time, replaced when they die.

    with local_pool(2) as run:
        for job, result in run(jobs): ...

A worker that dies, or says nothing for long, is replaced and its job done again. Where it crashes again by itself, that
is the film's fault, and the job's result is that of its `crashed`. Where it is killed from outside again and again, the
build ends with an error. Should this process die, even by SIGKILL, the workers find their pipes closed and end.
"""

from __future__ import annotations

import multiprocessing as mp
import signal
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait

from midframe.errors import MidframeError
from midframe.training.build.clips import Job

CRASHES, KILLS = 2, 4
"""Of how many crashes of its workers a job is given up, and of how many kills the build is."""

SILENCE = 600.0
"""Seconds without a sign of life after which a worker counts as hanging (it gives one after each clip)."""


class WorkerLostError(MidframeError):
    """Workers were killed from outside again and again, or could not be started."""

    code = "worker"


Results = Generator[tuple[Job, bytes], None, None]
"""Jobs with their results, as they are done."""


@contextmanager
def local_pool(workers: int, silence: float = SILENCE) -> Iterator[Callable[[Iterable[Job]], Results]]:
    """So many processes; what this gives does jobs in them and yields each with its result, in no certain order.

    It raises what a job raises, and `WorkerLostError`. At the end, and on any error, the workers end.
    """
    pool: list[_Worker] = []
    try:
        yield lambda jobs: _run(pool, workers, deque(jobs), silence)
    finally:
        for worker in pool:
            worker.end()


def _run(pool: list[_Worker], workers: int, waiting: deque[Job], silence: float) -> Results:
    lost: dict[Job, list[_Loss]] = defaultdict(list)
    while True:
        while waiting:
            idle = next((worker for worker in pool if worker.job is None), None)
            if idle is None:
                if len(pool) >= workers:
                    break
                pool.append(idle := _Worker())
            idle.give(waiting.popleft())
        busy = [worker for worker in pool if worker.job is not None]
        if not busy:
            return
        ready = wait([worker.pipe for worker in busy], timeout=1.0)
        for worker in busy:
            job = worker.job
            assert job is not None
            result = None
            try:
                if worker.pipe in ready:
                    result = worker.answer()
                else:
                    worker.check(silence)
            except _Loss as loss:
                pool.remove(worker)
                lost[job].append(loss)
                result = _given_up(job, lost[job])
                if result is None:
                    waiting.appendleft(job)
            if result is not None:
                yield job, result


class _Loss(Exception):  # noqa: N818 - part of a protocol, never seen by anyone
    """A worker is gone; says how."""

    def __init__(self, how: str, *, crashed: bool) -> None:
        super().__init__(how)
        self.crashed = crashed


def _given_up(job: Job, losses: list[_Loss]) -> bytes | None:
    """The result of a job that crashed too often; None where it is to be tried again."""
    crashes = sum(loss.crashed for loss in losses)
    if crashes >= CRASHES:
        return job.crashed(f"the process that read it {losses[-1]}, {crashes} times")
    if len(losses) - crashes >= KILLS:
        raise WorkerLostError(
            f"the worker on {job.about} {losses[-1]}, and so did {len(losses) - 1} before it; is there enough memory? "
            "What is done is kept: the same command goes on, with fewer --workers if need be, or without that film "
            "(--exclude)"
        )
    return None


class _Worker:
    """A process and the pipe to it."""

    def __init__(self) -> None:
        spawn = mp.get_context("spawn")
        self.pipe, there = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(there,), daemon=True)
        self.process.start()
        there.close()
        self.job: Job | None = None
        self.heard = time.monotonic()

    def give(self, job: Job) -> None:
        self.job, self.heard = job, time.monotonic()
        with suppress(OSError):  # of one that is gone the pipe's end will tell
            self.pipe.send(job)

    def answer(self) -> bytes | None:
        """What has come: the result of the job, or None for a sign of life. Raises `_Loss`, and what the job raised."""
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            raise self._loss() from None
        self.heard = time.monotonic()
        if kind == "failed":
            raise content
        if kind == "alive":
            return None
        self.job = None
        result: bytes = content
        return result

    def check(self, silence: float) -> None:
        """Raise `_Loss` where nothing came for too long."""
        if time.monotonic() - self.heard > silence:
            self.end()
            raise _Loss(f"said nothing for {silence:g} s", crashed=True)

    def _loss(self) -> _Loss:
        self.process.join(5)
        code = self.process.exitcode
        self.end()
        if code is not None and (-code in _CRASH_SIGNALS or code > 1 << 31):
            return _Loss(f"crashed ({_name(code)})", crashed=True)
        return _Loss("ended" if code is None else f"was killed ({_name(code)})", crashed=False)

    def end(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()


_CRASH_SIGNALS = {int(getattr(signal, name, 0)) for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")} - {0}


def _name(code: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"


def _serve(pipe: Connection) -> None:
    """What a worker does: one job after the other, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    while True:
        try:
            job: Job = pipe.recv()
        except (EOFError, OSError):
            return
        answer: tuple[str, object]
        try:
            answer = ("done", job.do(lambda: pipe.send(("alive", None))))
        except ConnectionError:
            return
        except MidframeError as error:
            answer = ("failed", error)
        except Exception:
            answer = ("failed", RuntimeError(f"a fault in {job.about}:\n{traceback.format_exc()}"))
        try:
            pipe.send(answer)
        except OSError:
            return
