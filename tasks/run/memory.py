"""Hold less memory: free records one by one, and return freed memory to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

import pyarrow as pa

T = TypeVar("T")


def drain(items: list[T]) -> Iterator[T]:
    """Yield the items of a list in their order, and remove each of them, so that it can be freed."""
    items.reverse()
    while items:
        yield items.pop()


def release_memory() -> None:
    """Return freed memory to the system.

    The C library keeps what was freed between records that are still used. Without this, a process would hold
    the peak of its largest stage until it ends. Systems without `malloc_trim` (macOS, musl) return memory by
    themselves, or keep it.
    """
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
