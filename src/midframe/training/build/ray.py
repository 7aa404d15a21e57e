"""The jobs of a build on a Ray cluster: the same jobs, the same results, on more than one machine.

Every machine needs Midframe and the films under the same names; what they find comes back over the network, and only
the machine that builds writes to the data set.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from midframe.errors import DeviceError, MidframeError
from midframe.training.build.clips import Job
from midframe.training.build.pool import Results, WorkerLostError

AHEAD = 2
"""Jobs given out for each processor, so that none waits for the network."""


@contextmanager
def ray_pool(address: str, workers: int | None = None) -> Iterator[Callable[[Iterable[Job]], Results]]:
    """The cluster at `address` ("local" starts one on this machine), used as `local_pool` is.

    workers: processors to use, all of the cluster's where None. A worker that dies is replaced by Ray and its job done
    once more. Raises `DeviceError` where there is no Ray or no such cluster.
    """
    ray = _connect(address, workers)
    try:
        places = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield lambda jobs: _run(ray, places, deque(jobs))
    finally:
        ray.shutdown()


def _run(ray: Any, places: int, waiting: deque[Job]) -> Results:
    do = ray.remote(max_retries=1, num_cpus=1)(_do)
    under_way: dict[Any, Job] = {}
    while waiting or under_way:
        while waiting and len(under_way) < AHEAD * places:
            job = waiting.popleft()
            under_way[do.remote(job)] = job
        done, _ = ray.wait(list(under_way), num_returns=1)
        for reference in done:
            job = under_way.pop(reference)
            yield job, _result(ray, reference, job)


def _do(job: Job) -> bytes | MidframeError:
    """One job, on a machine of the cluster. An error that was foreseen is its result."""
    try:
        return job.do(lambda: None)
    except MidframeError as error:
        return error


def _result(ray: Any, reference: Any, job: Job) -> bytes:
    try:
        answer: bytes | MidframeError = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise RuntimeError(f"a fault in {job.about}:\n{error}") from None
    except ray.exceptions.RayError as error:
        raise WorkerLostError(
            f"Ray lost {job.about} twice ({type(error).__name__}); what is done is kept: the same command goes on, "
            "without that film (--exclude) if need be"
        ) from None
    if isinstance(answer, MidframeError):
        raise answer
    return answer


def _connect(address: str, workers: int | None) -> Any:
    try:
        import ray
    except ImportError:
        raise DeviceError("--ray needs Ray; install midframe[ray]") from None
    local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:
        raise DeviceError(f"there is no Ray cluster at '{address}': {' '.join(str(error).split())}") from None
    return ray
