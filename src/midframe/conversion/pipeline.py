"""Stages that run side by side, each in a thread of its own, with bounded queues between them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from midframe.errors import Cancelled

T = TypeVar("T")

DEPTH = 4
"""How many items wait between two stages at most."""


@dataclass(frozen=True)
class Stage:
    """One stage: what comes in becomes what goes out. The first stage ignores its (empty) input."""

    name: str
    work: Callable[[Iterator[Any]], Iterator[Any]]


class Pipeline:
    """Runs stages one after the other, all at the same time.

    `run()` returns when the last stage has taken everything, or raises the first error of any stage. What the last
    stage gives out is dropped. `busy` holds the seconds each stage has worked, waiting not counted.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.busy = {stage.name: 0.0 for stage in stages}
        self.stop = threading.Event()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._guard = threading.Lock()
        self._queues: list[queue.Queue[Any]] = [queue.Queue(DEPTH) for _ in stages]
        self._threads = [
            threading.Thread(target=self._run, args=(k,), name=f"midframe-{stage.name}", daemon=True)
            for k, stage in enumerate(stages)
        ]

    def run(self, tick: Callable[[], None], cancelled: Callable[[], bool]) -> None:
        """Run to the end. `tick` is called some ten times a second from this thread, which does nothing else."""
        for thread in self._threads:
            thread.start()
        try:
            _wait_for(self._done, tick, cancelled)
        finally:
            self.stop.set()
        if self._error is not None:
            raise self._error
        tick()

    def join(self, timeout: float | None) -> bool:
        """Wait for the last stage, which holds the output, to end, with None however long; whether it did.

        The others end by themselves as soon as they look up from what they do.
        """
        last = self._threads[-1]
        if last.ident is not None:
            last.join(timeout)
        return not last.is_alive()

    def _run(self, k: int) -> None:
        waited = [0.0]
        began = time.monotonic()
        name = self.stages[k].name
        produced: Iterator[Any] | None = None
        try:
            produced = self.stages[k].work(self._taken(k, waited))
            for item in produced:
                if k + 1 < len(self.stages):
                    self._put(k, item, waited)
                self.busy[name] = time.monotonic() - began - waited[0]
            if k + 1 < len(self.stages):
                self._put(k, _END, waited)
            else:
                self._done.set()
        except _Stopped:
            pass
        except BaseException as error:
            with self._guard:
                self._error = self._error or error
            self.stop.set()
            self._done.set()
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()
            self.busy[name] = time.monotonic() - began - waited[0]

    def _taken(self, k: int, waited: list[float]) -> Iterator[Any]:
        if k == 0:
            return
        while True:
            item = self._wait(lambda: self._queues[k - 1].get(timeout=0.1), queue.Empty, waited)
            if item is _END:
                return
            yield item

    def _put(self, k: int, item: Any, waited: list[float]) -> None:
        self._wait(lambda: self._queues[k].put(item, timeout=0.1), queue.Full, waited)

    def _wait(self, attempt: Callable[[], Any], refusal: type[Exception], waited: list[float]) -> Any:
        began = time.monotonic()
        try:
            while True:
                if self.stop.is_set():
                    raise _Stopped
                try:
                    return attempt()
                except refusal:
                    continue
        finally:
            waited[0] += time.monotonic() - began


def aside(work: Callable[[Callable[[], bool]], T], tick: Callable[[], None], cancelled: Callable[[], bool]) -> T:
    """What `work` gives, done in a thread of its own, so that this one stays free for signals and `tick`.

    `work` is given a function that says whether it should stop. Raises what `work` raises, or `Cancelled`.
    """
    done, left = threading.Event(), threading.Event()
    result: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work(lambda: left.is_set() or cancelled()))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="midframe-aside", daemon=True).start()
    try:
        _wait_for(done, tick, cancelled)
    finally:
        left.set()
    if errors:
        raise errors[0]
    return result[0]


def _wait_for(done: threading.Event, tick: Callable[[], None], cancelled: Callable[[], bool]) -> None:
    while not done.wait(0.1):
        tick()
        if cancelled():
            raise Cancelled("the conversion was stopped; nothing was left behind")


_END = object()


class _Stopped(Exception):  # noqa: N818 - not an error, a way out of a stage
    pass
