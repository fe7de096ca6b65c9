"""Run code that may not run inside an event loop, wherever it is called from."""

from __future__ import annotations

import threading
from asyncio import get_running_loop
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def _is_inside() -> bool:
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True


def outside_event_loop(call: Callable[[], T]) -> T:
    """Return the result of a call. If this thread runs an event loop, the call gets a thread of its own."""
    if not _is_inside():
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="counterfoil")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
