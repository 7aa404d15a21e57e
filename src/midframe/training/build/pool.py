"""Worker processes for the jobs of a build: one job at a time each, replaced if they die or hang.

    with local_pool(2) as run_jobs:
        for job, result in run_jobs(jobs): ...

Workers are spawned, not forked. A job whose worker dies or hangs is tried again; after `MAX_CRASHES` crashes the job's
`crash_result` stands for its result, and after `MAX_KILLS` kills from outside the build ends with `WorkerLostError`.
If this process dies, even by SIGKILL, the workers find their pipes closed and end.
"""

from __future__ import annotations

import multiprocessing as mp
import signal
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from multiprocessing.connection import Connection, wait
from typing import Any

from midframe.errors import MidframeError
from midframe.training.build.jobs import Job

MAX_CRASHES = 2
"""Crashes of its worker after which a job is given up: the film is at fault."""

MAX_KILLS = 4
"""Kills of its worker from outside after which the build ends: probably the memory is too small."""

HANG_SECONDS = 600.0
"""Seconds without a heartbeat after which a worker counts as hanging."""


class WorkerLostError(MidframeError):
    """Workers were killed from outside again and again, or could not be started."""

    code = "worker"


JobResults = Generator[tuple[Job, bytes], None, None]
"""Each job with its result, in the order in which jobs end."""


@contextmanager
def local_pool(workers: int, hang_seconds: float = HANG_SECONDS) -> Iterator[Callable[[Iterable[Job]], JobResults]]:
    """Start up to `workers` processes and yield a function that runs jobs in them.

    The function yields each job with its result, in no particular order. It raises what a job raises, and
    `WorkerLostError`. The workers end when the block ends.
    """
    pool: list[_Worker] = []
    try:
        yield lambda jobs: _run_jobs(pool, workers, deque(jobs), hang_seconds)
    finally:
        for worker in pool:
            worker.end()


def _run_jobs(pool: list[_Worker], workers: int, waiting: deque[Job], hang_seconds: float) -> JobResults:
    losses: dict[Job, list[_WorkerLoss]] = defaultdict(list)
    while True:
        _assign_jobs(pool, workers, waiting)
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
                    result = worker.receive()
                else:
                    worker.check_heartbeat(hang_seconds)
            except _WorkerLoss as loss:
                pool.remove(worker)
                losses[job].append(loss)
                result = _result_after_losses(job, losses[job])
                if result is None:
                    waiting.appendleft(job)
            if result is not None:
                yield job, result


def _assign_jobs(pool: list[_Worker], workers: int, waiting: deque[Job]) -> None:
    """Give waiting jobs to idle workers; start new workers up to the limit."""
    while waiting:
        idle = next((worker for worker in pool if worker.job is None), None)
        if idle is None:
            if len(pool) >= workers:
                return
            pool.append(idle := _Worker())
        idle.start_job(waiting.popleft())


def _result_after_losses(job: Job, losses: list[_WorkerLoss]) -> bytes | None:
    """Return the result of a job that is given up, or None if it is to be tried again.

    Raises `WorkerLostError` after `MAX_KILLS` kills.
    """
    crashes = sum(loss.is_crash for loss in losses)
    if crashes >= MAX_CRASHES:
        return job.crash_result(f"the process that read it {losses[-1]}, {crashes} times")
    if len(losses) - crashes >= MAX_KILLS:
        raise WorkerLostError(
            f"the worker on {job.description} {losses[-1]}, and so did {len(losses) - 1} before it; is there enough "
            "memory? What is done is kept: the same command goes on, with fewer --workers if need be, or without that "
            "film (--exclude)"
        )
    return None


class _WorkerLoss(Exception):  # noqa: N818 - control flow within this module, never shown
    """A worker died or hangs; the text is a predicate, such as "was killed (SIGKILL)"."""

    def __init__(self, predicate: str, *, is_crash: bool) -> None:
        super().__init__(predicate)
        self.is_crash = is_crash
        """Whether the worker failed by itself, not by a kill from outside."""


class _Message(Enum):
    """The kinds of messages from a worker; each is sent as a pair of kind and content."""

    HEARTBEAT = "heartbeat"
    """The job is still running; the content is None."""
    RESULT = "result"
    """The job is done; the content is its result."""
    ERROR = "error"
    """The job raised; the content is the exception."""


class _Worker:
    """A process and the pipe to it."""

    def __init__(self) -> None:
        spawn = mp.get_context("spawn")
        self.pipe, worker_end = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(worker_end,), daemon=True)
        self.process.start()
        worker_end.close()
        self.job: Job | None = None
        self.last_message = time.monotonic()

    def start_job(self, job: Job) -> None:
        """Send a job to the worker."""
        self.job, self.last_message = job, time.monotonic()
        with suppress(OSError):  # if the worker is gone, `receive` finds the pipe closed
            self.pipe.send(job)

    def receive(self) -> bytes | None:
        """Read one message: return the job's result, or None for a heartbeat.

        Raises `_WorkerLoss` if the worker is gone, and what the job raised.
        """
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            raise self._loss() from None
        self.last_message = time.monotonic()
        if kind is _Message.ERROR:
            raise content
        if kind is _Message.HEARTBEAT:
            return None
        self.job = None
        result: bytes = content
        return result

    def check_heartbeat(self, hang_seconds: float) -> None:
        """Kill the worker and raise `_WorkerLoss` if its last message is too long ago."""
        if time.monotonic() - self.last_message > hang_seconds:
            self.end()
            raise _WorkerLoss(f"said nothing for {hang_seconds:g} s", is_crash=True)

    def _loss(self) -> _WorkerLoss:
        """Return how the process ended, by its exit code."""
        self.process.join(5)
        code = self.process.exitcode
        self.end()
        if code is not None and (-code in _CRASH_SIGNALS or code > 1 << 31):
            return _WorkerLoss(f"crashed ({_exit_code_name(code)})", is_crash=True)
        predicate = "ended" if code is None else f"was killed ({_exit_code_name(code)})"
        return _WorkerLoss(predicate, is_crash=False)

    def end(self) -> None:
        """Kill the process if it runs, and close the pipe."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()


_CRASH_SIGNALS = {int(getattr(signal, name, 0)) for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")} - {0}
"""Signals that a process brings on itself; on Windows exit codes above 2^31 (NTSTATUS errors) count likewise."""


def _exit_code_name(code: int) -> str:
    """Return the name of the signal that ended a process, or its exit code in words."""
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"


def _serve(pipe: Connection) -> None:
    """Run jobs in a worker process, one after the other, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    while True:
        try:
            job: Job = pipe.recv()
        except (EOFError, OSError):
            return
        message: tuple[_Message, Any]
        try:
            message = (_Message.RESULT, job.run(lambda: pipe.send((_Message.HEARTBEAT, None))))
        except ConnectionError:
            return
        except MidframeError as error:
            message = (_Message.ERROR, error)
        except Exception:
            fault = RuntimeError(f"a fault in {job.description}:\n{traceback.format_exc()}")
            message = (_Message.ERROR, fault)
        try:
            pipe.send(message)
        except OSError:
            return
