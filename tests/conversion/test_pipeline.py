"""`Pipeline` and `run_in_thread`: order, errors in each stage, cancelling, and slow consumers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from midframe.conversion.pipeline import QUEUE_SIZE, Pipeline, Stage, run_in_thread
from midframe.errors import Cancelled

LIMIT = 10.0
"""Seconds within which a pipeline must end."""


def never() -> bool:
    return False


def nothing() -> None:
    pass


def count_to(last: int) -> Callable[[Iterator[Any]], Iterator[int]]:
    """A first stage that yields 0, 1, ... `last` - 1."""
    return lambda _: iter(range(last))


def double(items: Iterator[int]) -> Iterator[int]:
    return (2 * item for item in items)


def collect_into(target: list[int]) -> Callable[[Iterator[int]], Iterator[None]]:
    """A last stage that appends what it is given to a list."""

    def collect(items: Iterator[int]) -> Iterator[None]:
        for item in items:
            target.append(item)
            yield

    return collect


def assert_threads_end() -> None:
    until = time.monotonic() + LIMIT
    while any(thread.name.startswith("midframe-") for thread in threading.enumerate()):
        assert time.monotonic() < until, "a stage is still running"
        time.sleep(0.01)


def test_items_pass_all_stages_in_order() -> None:
    received: list[int] = []
    ticks: list[None] = []
    pipeline = Pipeline(
        [Stage("count", count_to(100)), Stage("double", double), Stage("collect", collect_into(received))]
    )
    pipeline.run(lambda: ticks.append(None), never)
    assert received == [2 * k for k in range(100)]
    assert ticks  # at least once, at the end
    assert pipeline.join(LIMIT)
    assert_threads_end()


def test_a_stage_may_yield_more_or_fewer_items_than_it_is_given() -> None:
    received: list[int] = []

    def repeat_odd_items(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item % 2:
                yield from (item, item)

    stages = [Stage("count", count_to(5)), Stage("repeat", repeat_odd_items), Stage("collect", collect_into(received))]
    Pipeline(stages).run(nothing, never)
    assert received == [1, 1, 3, 3]


@pytest.mark.parametrize("when", ["at once", "after items", "at the end"])
@pytest.mark.parametrize("failing", [0, 1, 2], ids=["first stage", "middle stage", "last stage"])
def test_an_error_in_any_stage_is_raised_and_ends_all_stages(failing: int, when: str) -> None:
    def fail(items: Iterator[Any]) -> Iterator[Any]:
        if when == "at once":
            raise ArithmeticError("the stage broke")
        for number, item in enumerate(items):
            if when == "after items" and number == 3:
                raise ArithmeticError("the stage broke")
            yield item
        raise ArithmeticError("the stage broke")

    functions = [count_to(1000 if when == "after items" else 20), double, collect_into([])]
    working = functions[failing]
    functions[failing] = lambda items: fail(working(items))
    pipeline = Pipeline([Stage(str(number), function) for number, function in enumerate(functions)])
    with pytest.raises(ArithmeticError, match="the stage broke"):
        pipeline.run(nothing, never)
    assert pipeline.stop.is_set()
    assert_threads_end()


def test_the_first_of_two_errors_is_raised() -> None:
    second_may_fail = threading.Event()

    def fail_first(items: Iterator[int]) -> Iterator[int]:
        next(items)
        raise ArithmeticError("first")
        yield

    def fail_second(items: Iterator[int]) -> Iterator[int]:
        try:
            yield from items
        finally:
            second_may_fail.wait(LIMIT)
            raise ValueError("second")

    pipeline = Pipeline([Stage("count", count_to(9)), Stage("first", fail_first), Stage("second", fail_second)])
    with pytest.raises(ArithmeticError, match="first"):
        pipeline.run(nothing, never)
    second_may_fail.set()
    assert_threads_end()


def test_a_generator_is_closed_when_another_stage_fails() -> None:
    closed = threading.Event()

    def open_resource(items: Iterator[int]) -> Iterator[int]:
        try:
            yield from items
        finally:
            closed.set()

    def fail(items: Iterator[int]) -> Iterator[int]:
        next(items)
        raise ArithmeticError("the stage broke")
        yield

    pipeline = Pipeline([Stage("count", count_to(1000)), Stage("resource", open_resource), Stage("fail", fail)])
    with pytest.raises(ArithmeticError, match="the stage broke"):
        pipeline.run(nothing, never)
    assert closed.wait(LIMIT)


def test_cancelling_ends_all_stages() -> None:
    received: list[int] = []

    def count_for_ever(_: Iterator[Any]) -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    pipeline = Pipeline([Stage("count", count_for_ever), Stage("collect", collect_into(received))])
    began = time.monotonic()
    with pytest.raises(Cancelled, match="nothing was left behind"):
        pipeline.run(nothing, lambda: len(received) > 10)
    assert time.monotonic() - began < LIMIT
    assert pipeline.join(LIMIT)
    assert_threads_end()


def test_an_error_of_the_callers_callback_ends_all_stages() -> None:
    started = threading.Event()

    def wait_for_stop(items: Iterator[int]) -> Iterator[int]:
        started.set()
        pipeline.stop.wait(LIMIT)
        yield from items

    def tick() -> None:
        if started.is_set():
            raise KeyboardInterrupt("stop")

    pipeline = Pipeline([Stage("count", count_to(1000)), Stage("wait", wait_for_stop)])
    with pytest.raises(KeyboardInterrupt, match="stop"):
        pipeline.run(tick, never)
    assert_threads_end()


def test_a_slow_consumer_bounds_what_is_produced() -> None:
    """A producer never gets further ahead than its queue, and the item in each hand, allow."""
    produced, consumed, leads = [0], [0], []

    def count(_: Iterator[Any]) -> Iterator[int]:
        for number in range(40):
            produced[0] = number + 1
            leads.append(produced[0] - consumed[0])
            yield number

    def consume_slowly(items: Iterator[int]) -> Iterator[None]:
        for _ in items:
            time.sleep(0.005)
            consumed[0] += 1
            yield

    pipeline = Pipeline([Stage("count", count), Stage("consume", consume_slowly)])
    pipeline.run(nothing, never)
    assert consumed == [40]
    assert max(leads) <= QUEUE_SIZE + 2
    assert pipeline.busy["consume"] >= 40 * 0.005
    assert pipeline.busy["count"] < pipeline.busy["consume"]  # waiting for room in the queue is not work


def test_join_does_not_wait_longer_than_it_may() -> None:
    release = threading.Event()

    def block(items: Iterator[int]) -> Iterator[int]:
        next(items)
        release.wait(LIMIT)
        yield 0

    began, seen = time.monotonic(), [0]
    pipeline = Pipeline([Stage("count", count_to(3)), Stage("block", block)])
    with pytest.raises(Cancelled, match="was stopped"):
        pipeline.run(lambda: seen.__setitem__(0, seen[0] + 1), lambda: seen[0] > 2)
    assert not pipeline.join(0.05)
    assert time.monotonic() - began < LIMIT / 2
    release.set()
    assert pipeline.join(LIMIT)


def test_run_in_thread_returns_the_result_and_raises_the_error() -> None:
    caller = threading.current_thread()
    assert run_in_thread(lambda _: threading.current_thread(), nothing, never) is not caller

    def fail(_: Callable[[], bool]) -> None:
        raise ArithmeticError("the work broke")

    with pytest.raises(ArithmeticError, match="the work broke"):
        run_in_thread(fail, nothing, never)


def test_run_in_thread_tells_its_work_that_it_was_cancelled() -> None:
    release, stopped = threading.Event(), threading.Event()

    def work(is_stopped: Callable[[], bool]) -> None:
        while not is_stopped():
            time.sleep(0.01)
        release.wait(LIMIT)  # it takes a while to stop
        stopped.set()

    with pytest.raises(Cancelled, match="was stopped"):
        run_in_thread(work, nothing, lambda: True)
    release.set()
    assert stopped.wait(LIMIT)
