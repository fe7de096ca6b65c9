"""How the API starts: the packages it needs, and calls from a running event loop."""

from __future__ import annotations

import importlib.util
import os
import threading
from asyncio import get_running_loop
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PACKAGES = ("flows", "schemas", "tasks")


def check_packages() -> None:
    """Raise `ImportError` if another module hides one of the internal packages.

    Raises:
        ImportError: If `flows`, `schemas` or `tasks` is not the one that belongs to Counterfoil. The message
            names the file that hides it.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin != home / name / "__init__.py":
            place = origin or "nothing: the installation is incomplete"
            raise ImportError(
                f"counterfoil needs its own package `{name}`, but Python found {place}. "
                "Rename that module, or remove its folder from the import path.",
                name=name,
                path=str(origin) if origin else None,
            )


def outside_event_loop(call: Callable[[], T]) -> T:
    """Return the result of a call, made in a thread of its own if this one runs an event loop."""
    try:
        get_running_loop()
    except RuntimeError:
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


def run_command(name: str, **options: Any) -> Any:
    """Run a command with its options, also from a running event loop.

    Args:
        name: Name of the command, such as `audit-judge`.
        **options: Its options. A release may be given as a `Release`.

    Raises:
        InputError: If an option is unknown or invalid.
    """
    from flows.commands import call

    values = {
        option: os.fspath(value) if isinstance(value, os.PathLike) else value
        for option, value in options.items()
    }
    return outside_event_loop(lambda: call(name, **values))
