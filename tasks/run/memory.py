"""Hold less memory: free records one by one, and return freed memory to the system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import pyarrow as pa

T = TypeVar("T")


def drain(items: list[T]) -> Iterator[T]:
    """Yield the items of a list in their order, and remove each of them, so that it can be freed."""
    items.reverse()
    while items:
        yield items.pop()


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Let the garbage collector look at new objects only, so that it is fast beside many old ones."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release_memory() -> None:
    """Return freed memory to the system.

    The C library keeps what was freed between records that are still used. Without this, a process would hold
    the peak of its largest stage until it ends. Systems without `malloc_trim` (macOS, musl) return memory by
    themselves, or keep it.
    """
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
