"""The jobs of a build on a Ray cluster: the same jobs and results as in local processes, on several machines.

Every machine needs Midframe and the films under the same paths. Results come back over the network; only the machine
that runs the build writes the data set.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from midframe.errors import DeviceError, MidframeError
from midframe.training.build.jobs import Job
from midframe.training.build.pool import JobResults, WorkerLostError

JOBS_PER_WORKER = 2
"""Jobs submitted for each processor, so that none waits for the network."""


@contextmanager
def ray_pool(address: str, workers: int | None = None) -> Iterator[Callable[[Iterable[Job]], JobResults]]:
    """Connect to a Ray cluster and yield a function that runs jobs on it, used like that of `local_pool`.

    address: of the cluster; "local" starts one on this machine. workers: processors to use; None uses all. Ray replaces
    a worker that dies and runs its job once more. Raises `DeviceError` if Ray or the cluster is missing.
    """
    ray = _connect(address, workers)
    try:
        processors = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield lambda jobs: _run_jobs(ray, processors, deque(jobs))
    finally:
        ray.shutdown()


def _run_jobs(ray: Any, processors: int, waiting: deque[Job]) -> JobResults:
    remote_function = ray.remote(max_retries=1, num_cpus=1)(_run_remotely)
    submitted: dict[Any, Job] = {}
    while waiting or submitted:
        while waiting and len(submitted) < JOBS_PER_WORKER * processors:
            job = waiting.popleft()
            submitted[remote_function.remote(job)] = job
        done, _ = ray.wait(list(submitted), num_returns=1)
        for reference in done:
            job = submitted.pop(reference)
            yield job, _fetch_result(ray, reference, job)


def _run_remotely(job: Job) -> bytes | MidframeError:
    """Run a job on a machine of the cluster; a `MidframeError` is returned, since Ray would wrap a raised one."""
    try:
        return job.run(lambda: None)
    except MidframeError as error:
        return error


def _fetch_result(ray: Any, reference: Any, job: Job) -> bytes:
    """Return a job's result, or raise its error as `local_pool` would."""
    try:
        answer: bytes | MidframeError = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise RuntimeError(f"a fault in {job.description}:\n{error}") from None
    except ray.exceptions.RayError as error:
        raise WorkerLostError(
            f"Ray lost {job.description} twice ({type(error).__name__}); what is done is kept: the same command goes "
            "on, without that film (--exclude) if need be"
        ) from None
    if isinstance(answer, MidframeError):
        raise answer
    return answer


def _connect(address: str, workers: int | None) -> Any:
    """Connect to the cluster and return the module `ray`."""
    try:
        import ray
    except ImportError:
        raise DeviceError("--ray needs Ray; install midframe[ray]") from None
    local_options = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, **local_options}
    try:
        ray.init(address=address, **options)
    except Exception as error:
        raise DeviceError(f"there is no Ray cluster at '{address}': {' '.join(str(error).split())}") from None
    return ray
