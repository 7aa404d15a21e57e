"""Worker processes: each job is done once, dead workers are replaced, nothing hangs, no process is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from midframe.errors import InputError
from midframe.training.build.pool import MAX_CRASHES, MAX_KILLS, WorkerLostError, local_pool
from training.build.jobs import Task

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture
def task(tmp_path: Path) -> Callable[[str, str], Task]:
    return lambda name, behaviour="": Task(name, behaviour, str(tmp_path))


def workers_of(folder: Path) -> set[int]:
    return {int(file.read_text()) for file in folder.iterdir()}


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False


def have_ended(pids: set[int]) -> bool:
    until = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


def test_each_job_is_done_once_even_if_a_worker_is_killed(task: Callable[..., Task], tmp_path: Path) -> None:
    jobs = [task(str(k), "kill once" if k == 3 else "") for k in range(8)]
    with local_pool(2) as run_jobs:
        first = list(run_jobs(jobs[:6]))
        second = list(run_jobs(jobs[6:]))  # by the same workers
    assert sorted(first + second, key=lambda done: done[0].name) == [(job, job.name.encode()) for job in jobs]
    assert len(list(tmp_path.glob("3-*"))) == 2
    assert len(workers_of(tmp_path)) <= 3
    assert have_ended(workers_of(tmp_path))


def test_job_that_crashes_its_worker_is_given_up(task: Callable[..., Task], tmp_path: Path) -> None:
    with local_pool(1) as run_jobs:
        done = dict(run_jobs([task("bad", "crash"), task("good")]))
    assert done[task("good")] == b"good"
    assert b"SIGSEGV" in done[task("bad", "crash")]
    assert len(list(tmp_path.glob("bad-*"))) == MAX_CRASHES


def test_a_job_that_hangs_is_given_up_and_a_slow_one_is_not(task: Callable[..., Task]) -> None:
    with local_pool(2, hang_seconds=2.0) as run_jobs:
        done = dict(run_jobs([task("stuck", "hang"), task("tortoise", "slow")]))
    assert b"said nothing for 2 s" in done[task("stuck", "hang")]
    assert done[task("tortoise", "slow")] == b"tortoise"


def test_workers_killed_again_and_again_end_the_build(task: Callable[..., Task], tmp_path: Path) -> None:
    with pytest.raises(WorkerLostError, match="task victim was killed"), local_pool(1) as run_jobs:
        list(run_jobs([task("victim", "kill")]))
    assert len(list(tmp_path.glob("victim-*"))) == MAX_KILLS
    assert have_ended(workers_of(tmp_path))


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        pytest.param("refuse", InputError, "is not to be done", id="midframe_error"),
        pytest.param("fault", RuntimeError, "nobody thought of this", id="unexpected_error"),
    ],
)
def test_errors_come_through(task: Callable[..., Task], behaviour: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message), local_pool(1) as run_jobs:
        list(run_jobs([task("a", behaviour)]))


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """Even if the parent is killed by SIGKILL and cannot end them."""
    code = (
        "import os, signal\n"
        f"from training.build.jobs import Task\n"
        "from midframe.training.build.pool import local_pool\n"
        "with local_pool(2) as run_jobs:\n"
        f"    jobs = [Task(str(k), 'slow' if k else '', {str(tmp_path)!r}) for k in range(3)]\n"
        "    for _ in run_jobs(jobs):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert workers_of(tmp_path)
    assert have_ended(workers_of(tmp_path))
