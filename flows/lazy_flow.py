"""Flows that create their Prefect object when a run needs it, so that other runs never import Prefect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from prefect import Flow

P = ParamSpec("P")
R = TypeVar("R")

TAG = "counterfoil"
"""Tag of every flow run and task run."""


class LazyFlow(Generic[P, R]):
    """A function that is also a Prefect flow.

    Attributes:
        fn: The function. Calling it runs the flow without Prefect.
    """

    def __init__(self, fn: Callable[P, R], name: str) -> None:
        self.fn = fn
        self.name = name
        update_wrapper(self, fn)  # type: ignore[arg-type]

    def prefect(self) -> Flow[P, R]:
        """Return the Prefect flow."""
        from prefect import flow

        return flow(name=self.name, flow_run_name=self._run_name, persist_result=False)(self.fn)

    def _run_name(self) -> str:
        from prefect.runtime import flow_run

        return f"{self.name} · {subject(flow_run.parameters)}"


def lazy_flow(name: str) -> Callable[[Callable[P, R]], LazyFlow[P, R]]:
    """Decorate the function of a flow."""
    return lambda fn: LazyFlow(fn, name)


def subject(parameters: Mapping[str, Any]) -> str:
    """Return the subject of a flow run: `everyday-advice`, `quickstart 0.1.0`, or the name of a file."""
    if release := parameters.get("release"):
        return " ".join(Path(str(release)).parts[-2:])
    place = parameters.get("recipe") or parameters.get("input") or ""
    return Path(str(place)).stem
