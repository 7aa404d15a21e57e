"""Worker processes: all is done once, those that die are replaced, nothing hangs, none is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training.build.jobs import Task
from midframe.errors import InputError
from midframe.training.build.pool import CRASHES, KILLS, WorkerLostError, local_pool

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture
def task(tmp_path: Path) -> Callable[[str, str], Task]:
    return lambda name, what="": Task(name, what, str(tmp_path))


def workers_of(folder: Path) -> set[int]:
    return {int(file.read_text()) for file in folder.iterdir()}


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False


def gone(pids: set[int]) -> bool:
    until = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_all_is_done_once_even_where_a_worker_is_killed(task: Callable[..., Task], tmp_path: Path) -> None:
    jobs = [task(str(k), "kill once" if k == 3 else "") for k in range(8)]
    with local_pool(2) as run:
        first = list(run(jobs[:6]))
        second = list(run(jobs[6:]))  # by the same workers
    assert sorted(first + second, key=lambda done: done[0].name) == [(job, job.name.encode()) for job in jobs]
    assert len(list(tmp_path.glob("3-*"))) == 2
    assert len(workers_of(tmp_path)) <= 3
    assert gone(workers_of(tmp_path))


def test_job_that_crashes_its_worker_is_given_up(task: Callable[..., Task], tmp_path: Path) -> None:
    with local_pool(1) as run:
        done = dict(run([task("bad", "crash"), task("good")]))
    assert done[task("good")] == b"good"
    assert b"SIGSEGV" in done[task("bad", "crash")]
    assert len(list(tmp_path.glob("bad-*"))) == CRASHES


def test_job_that_hangs_is_given_up_and_a_slow_one_is_not(task: Callable[..., Task]) -> None:
    with local_pool(2, silence=2.0) as run:
        done = dict(run([task("stuck", "hang"), task("tortoise", "slow")]))
    assert b"said nothing for 2 s" in done[task("stuck", "hang")]
    assert done[task("tortoise", "slow")] == b"tortoise"


def test_workers_that_are_killed_again_and_again_end_it(task: Callable[..., Task], tmp_path: Path) -> None:
    with pytest.raises(WorkerLostError, match="task victim was killed"), local_pool(1) as run:
        list(run([task("victim", "kill")]))
    assert len(list(tmp_path.glob("victim-*"))) == KILLS
    assert gone(workers_of(tmp_path))


@pytest.mark.parametrize(("what", "error"), [("refuse", InputError), ("fault", RuntimeError)])
def test_errors_come_through(task: Callable[..., Task], what: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"is not to be done|nobody thought of this"), local_pool(1) as run:
        list(run([task("a", what)]))


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """Also where that is killed at once, with no time to say so."""
    code = (
        "import os, signal\n"
        f"from training.build.jobs import Task\n"
        "from midframe.training.build.pool import local_pool\n"
        "with local_pool(2) as run:\n"
        f"    jobs = [Task(str(k), 'slow' if k else '', {str(tmp_path)!r}) for k in range(3)]\n"
        "    for _ in run(jobs):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert workers_of(tmp_path)
    assert gone(workers_of(tmp_path))
