"""Flows that create their Prefect object when a run needs it, so that other runs never import Prefect."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from schemas.errors import CounterfoilError

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

        explain_errors()
        named = flow(
            name=self.name, flow_run_name=self._run_name, persist_result=False, on_running=[add_tags]
        )
        return named(self.fn)

    def _run_name(self) -> str:
        from prefect.runtime import flow_run

        return f"{self.name} · {subject(flow_run.parameters)}"


def lazy_flow(name: str) -> Callable[[Callable[P, R]], LazyFlow[P, R]]:
    """Decorate the function of a flow."""
    return lambda fn: LazyFlow(fn, name)


def add_tags(flow: Any, flow_run: Any, state: Any) -> None:
    """Tag a flow run with its subject. Runs of a deployment may have other recipes than its default."""
    from prefect.client.orchestration import get_client

    missing = {TAG, subject(flow_run.parameters)} - {"", *flow_run.tags}
    if missing:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, tags=[*flow_run.tags, *sorted(missing)])


class _Explanation(logging.Filter):
    """Log our own errors as the command line prints them, without a traceback, and once per run."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record if it has such an error. Return False if its run has logged the same error."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CounterfoilError):
            run = (record.name, getattr(record, "flow_run_id", None), getattr(record, "task_run_id", None))
            logged_by = error.__dict__.setdefault("logged_by", set())
            if run in logged_by:
                return False
            logged_by.add(run)
            record.msg, record.args, record.exc_info, record.exc_text = f"error: {error}", (), None, None
        elif (message := record.getMessage()).startswith("Finished in state Failed("):
            record.msg, record.args = message.partition("\\n")[0], ()  # the error is logged before
        return True


EXPLANATION = _Explanation()


def explain_errors() -> None:
    """Log errors of flow and task runs in words for people."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(EXPLANATION)  # adding it twice has no effect


def subject(parameters: Mapping[str, Any]) -> str:
    """Return the subject of a flow run: `everyday-advice`, `quickstart 0.1.0`, or the name of a file."""
    if release := parameters.get("release"):
        return " ".join(Path(str(release)).parts[-2:])
    place = parameters.get("recipe") or parameters.get("input") or ""
    return Path(str(place)).stem
