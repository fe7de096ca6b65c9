"""A runner of parts that sends them as bytes, like a cluster does, but stays in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle  # type: ignore[import-untyped]


def send_to_workers(job: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
    """Send the job and every part as bytes, as Dask and Ray do, and run two at a time, the last one first."""
    sent = [cloudpickle.dumps((job, part)) for part in parts]

    def run(message: bytes) -> Any:
        loaded, part = cloudpickle.loads(message)
        return cloudpickle.loads(cloudpickle.dumps(loaded(part)))

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(run, message) for message in reversed(sent)]
        yield from (future.result() for future in reversed(futures))
