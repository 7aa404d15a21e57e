"""Run the stages of a conversion side by side, each in a thread of its own, with bounded queues between them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from midframe.errors import Cancelled

T = TypeVar("T")

QUEUE_SIZE = 4
"""How many items wait at most between two stages; it bounds the memory of a conversion."""

POLL_SECONDS = 0.1
"""How often a waiting thread checks whether it should stop, and how often progress is reported."""


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline."""

    name: str
    process: Callable[[Iterator[Any]], Iterator[Any]]
    """Yields output items for the input items it is given. The first stage is given no items."""


class Pipeline:
    """Runs a sequence of stages, each fed with the output of the one before, all at the same time.

    The items that the last stage yields are discarded. A pipeline can be run once.

    busy: for each stage, by name, the seconds it has worked; time spent waiting for other stages is not counted.
    stop: set when the pipeline ends, by an error or not. Stages that read for long should check it.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.busy = {stage.name: 0.0 for stage in stages}
        self.stop = threading.Event()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        self._queues: list[queue.Queue[Any]] = [queue.Queue(QUEUE_SIZE) for _ in stages]
        self._threads = [
            threading.Thread(target=self._run_stage, args=(index,), name=f"midframe-{stage.name}", daemon=True)
            for index, stage in enumerate(stages)
        ]

    def run(self, tick: Callable[[], None], cancelled: Callable[[], bool]) -> None:
        """Run all stages; return when the last one has processed everything.

        Meanwhile call `tick` and `cancelled` about ten times a second from this thread. Raises the first error of any
        stage, and `Cancelled` once `cancelled` returns True.
        """
        for thread in self._threads:
            thread.start()
        try:
            _wait(self._done, tick, cancelled)
        finally:
            self.stop.set()
        if self._error is not None:
            raise self._error
        tick()

    def join(self, timeout: float | None) -> bool:
        """Wait for the last stage, which owns the output, to end; return whether it has ended.

        timeout: seconds to wait at most; None waits without limit. The other stages are not waited for: they end when
        they next read from or write to a queue.
        """
        last = self._threads[-1]
        if last.ident is not None:  # it was started
            last.join(timeout)
        return not last.is_alive()

    def _run_stage(self, index: int) -> None:
        """Run one stage to its end. This is the body of its thread."""
        is_last = index + 1 == len(self.stages)
        clock = _BusyClock()
        name = self.stages[index].name
        outputs: Iterator[Any] | None = None
        try:
            outputs = self.stages[index].process(self._inputs(index, clock))
            for item in outputs:
                if not is_last:
                    self._put(index, item, clock)
                self.busy[name] = clock.seconds
            if is_last:
                self._done.set()
            else:
                self._put(index, _END, clock)
        except _Stopped:
            pass
        except BaseException as error:
            with self._error_lock:
                self._error = self._error or error
            self.stop.set()
            self._done.set()
        finally:
            close = getattr(outputs, "close", None)
            if close is not None:
                close()
            self.busy[name] = clock.seconds

    def _inputs(self, index: int, clock: _BusyClock) -> Iterator[Any]:
        """Yield the items that the stage before stage `index` has yielded."""
        if index == 0:
            return
        while True:
            item = self._retry(lambda: self._queues[index - 1].get(timeout=POLL_SECONDS), queue.Empty, clock)
            if item is _END:
                return
            yield item

    def _put(self, index: int, item: Any, clock: _BusyClock) -> None:
        """Pass an item of stage `index` to the next stage, waiting for room in its queue."""
        self._retry(lambda: self._queues[index].put(item, timeout=POLL_SECONDS), queue.Full, clock)

    def _retry(self, attempt: Callable[[], Any], failure: type[Exception], clock: _BusyClock) -> Any:
        """Call `attempt` until it no longer raises `failure`. Raises `_Stopped` if the pipeline stops meanwhile."""
        with clock.paused():
            while True:
                if self.stop.is_set():
                    raise _Stopped
                try:
                    return attempt()
                except failure:
                    continue


def run_in_thread(
    work: Callable[[Callable[[], bool]], T], tick: Callable[[], None], cancelled: Callable[[], bool]
) -> T:
    """Run `work` in a thread of its own and return its result, so that this thread can react to signals.

    work: takes a function that returns whether it should stop. Meanwhile `tick` and `cancelled` are called about ten
    times a second from this thread. Raises what `work` raises, and `Cancelled` once `cancelled` returns True.
    """
    done, abandoned = threading.Event(), threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(lambda: abandoned.is_set() or cancelled()))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="midframe-work", daemon=True).start()
    try:
        _wait(done, tick, cancelled)
    finally:
        abandoned.set()
    if errors:
        raise errors[0]
    return results[0]


def _wait(done: threading.Event, tick: Callable[[], None], cancelled: Callable[[], bool]) -> None:
    """Wait until `done` is set. Raises `Cancelled` once `cancelled` returns True."""
    while not done.wait(POLL_SECONDS):
        tick()
        if cancelled():
            raise Cancelled("the conversion was stopped; nothing was left behind")


class _BusyClock:
    """Counts the seconds since it was made, except those within `paused`."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started - self._waited

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - began


_END = object()
"""The last item in a queue: the stage before has ended."""


class _Stopped(Exception):  # noqa: N818 - not an error: it leads out of a stage when the pipeline stops
    pass
