"""Run the parts of a job, in this process or wherever a `PartRunner` sends them.

A part is a small record of its work. Its inputs and outputs are files that every worker sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

P = TypeVar("P")
R = TypeVar("R")


class PartRunner(Protocol):
    """Runs a job for every part and yields the results in the order of the parts.

    Parts are drawn when there is room for them. A caller that stops reading stops the remaining parts.
    """

    def __call__(self, job: Callable[[P], R], parts: Iterable[P], /) -> Iterable[R]:
        """Run `job` for every part."""
        ...


def run_sequentially(job: Callable[[P], R], parts: Iterable[P], /) -> Iterator[R]:
    """Run the parts one after the other in this process. This is a `PartRunner`."""
    return map(job, parts)
