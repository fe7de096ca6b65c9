"""Prefect: stages as tasks, task runners, deployments, and artifacts on the page of a run.

Prefect's result cache is off. The key of a stage (see `tasks.run.store`) decides whether it runs again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import URLError
from urllib.request import urlopen

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

import tasks.deduplicate
import tasks.evolve
import tasks.evolve.select
import tasks.expand
import tasks.gate
import tasks.gate.quarantine
import tasks.hold_back
import tasks.judge
import tasks.measure
import tasks.mend
import tasks.package
import tasks.package.assemble
import tasks.package.compare
import tasks.relabel
import tasks.respond
import tasks.review
from flows.workspace import PROJECT, Workspace, quiet_prefect
from schemas.answers import EFFECTS
from schemas.errors import InputError
from schemas.labels import StageCounts
from schemas.release import RefreshDecision
from tasks.models import CALLS
from tasks.package.card import escape_markdown
from tasks.release import config_file
from tasks.run.journal import note_step
from tasks.run.store import RunContext, Stage, Step, TableRef, read_table, run_stage

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

P = TypeVar("P")
R = TypeVar("R")


def take_step(stage: Stage, context: RunContext, inputs: dict[str, Any]) -> Step:
    """Run a stage, or find its finished step, and append it to the journal. Workers import this function."""
    before = CALLS.sent
    done = run_stage(stage, context, **inputs)
    note_step(context, done, sent=CALLS.sent - before)
    return done


def as_task(stage: Stage) -> Callable[..., Step]:
    """Return a function that runs a stage as a Prefect task on the task runner of the flow."""

    @task(name=stage.name, cache_policy=NO_CACHE, persist_result=False)
    def step(context: RunContext, inputs: dict[str, Any]) -> Step:
        return take_step(stage, context, inputs)

    def run(context: RunContext, **inputs: Any) -> Step:
        return step.submit(context, inputs).result()

    return run


def in_parts(stage: Stage) -> Callable[..., Step]:
    """Return a function that runs a stage in the flow itself, with the parts of its work as tasks."""
    own = replace(stage, run=partial(stage.run, run_parts=submit_each))

    def run(context: RunContext, **inputs: Any) -> Step:
        return take_step(own, context, inputs)

    return run


def submit_each(job: Callable[[P], R], parts: Sequence[P], /) -> list[R]:
    """Run a job on every part as Prefect tasks on the task runner of the calling flow."""
    named = task(name=job.__name__, cache_policy=NO_CACHE, persist_result=False)(_do)
    futures = [named.submit(job, part) for part in parts]
    return [future.result() for future in futures]


def _do(job: Callable[[Any], Any], part: Any) -> Any:
    return job(part)


STAGES = (
    tasks.expand.STAGE,
    tasks.evolve.STAGE,
    tasks.respond.STAGE,
    tasks.judge.STAGE,
    tasks.evolve.select.STAGE,
    tasks.relabel.STAGE,
    tasks.relabel.STAGE_RETRIEVAL,
    tasks.deduplicate.STAGE,
    tasks.measure.STAGE,
    tasks.gate.STAGE,
)
PAGES = ("canary.md", "card.md", "card_sentences.yaml", "evals", "report")
"""Files and folders under data/ that the pages of a release are written from."""
VOCABULARY = tuple(sorted({name for stage in STAGES for name in stage.vocabulary} | set(PAGES)))
"""Files and folders under data/ that a build depends on."""

adopt = as_task(tasks.mend.ADOPT_STAGE)
mend = as_task(tasks.mend.MEND_STAGE)
reopen = as_task(tasks.mend.REOPEN_STAGE)
expand = as_task(tasks.expand.STAGE)
mutate = as_task(tasks.evolve.STAGE)
respond = as_task(tasks.respond.STAGE)
judge = as_task(tasks.judge.STAGE)
select = as_task(tasks.evolve.select.STAGE)
gather = as_task(tasks.package.assemble.STAGE_GATHER)
relabel = as_task(tasks.relabel.STAGE)
relabel_retrieval = as_task(tasks.relabel.STAGE_RETRIEVAL)
review = as_task(tasks.review.STAGE)
review_retrieval = as_task(tasks.review.STAGE_RETRIEVAL)
deduplicate = in_parts(tasks.deduplicate.STAGE)
hold_back = as_task(tasks.hold_back.STAGE)
quarantine = as_task(tasks.gate.quarantine.STAGE)
measure = as_task(tasks.measure.STAGE)
assemble = as_task(tasks.package.assemble.STAGE)
validate = as_task(tasks.gate.STAGE)
compare = as_task(tasks.package.compare.STAGE)
package = task(name="package", cache_policy=NO_CACHE, persist_result=False)(tasks.package.package)


# Task runners: threads of this process, or a Dask or Ray cluster.
#
# The workers of Dask and Ray call a Prefect server. Without `PREFECT_API_URL`, one is started for the run.
# A cluster is started, too, unless `DASK_SCHEDULER_ADDRESS` or `RAY_ADDRESS` names one. Workers must see the
# same folders.

RAY_OBJECT_STORE_BYTES = 256 << 20
"""Small, because tasks pass references to files."""


@contextmanager
def task_runner(name: str, workspace: Workspace) -> Iterator[Any]:
    """Yield a Prefect task runner.

    Args:
        name: `threads`, `dask` or `ray`.
        workspace: The workspace.

    Raises:
        InputError: If the extra of the runner is not installed.
    """
    if name != "threads" and find_spec(f"prefect_{name}") is None:
        raise InputError(
            f"--runner {name} needs the extra [{name}]",
            hint=f"uv pip install --python .venv/bin/python -e '.[{name}]'",
        )
    make = {"threads": _threads, "dask": _dask, "ray": _ray}[name]
    quiet_prefect(workspace)
    with nullcontext() if name == "threads" else _server(workspace):
        yield make()


@contextmanager
def _server(workspace: Workspace) -> Iterator[None]:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    before = signal.signal(signal.SIGTERM, _leave)  # otherwise the server would outlive a terminated run
    try:
        with prefect_server(workspace, port):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _threads() -> Any:
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner()


def _dask() -> Any:
    from prefect_dask.task_runners import DaskTaskRunner

    if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
        return DaskTaskRunner(address=address)
    workers = {"n_workers": _cores(), "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=workers)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray.task_runners import RayTaskRunner

    if os.environ.get("RAY_ADDRESS"):
        return RayTaskRunner()
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    return RayTaskRunner(
        init_kwargs={"num_cpus": _cores(), "object_store_memory": RAY_OBJECT_STORE_BYTES, **quiet}
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


# Deployments: run those of prefect.yaml on this computer until stopped.

DEPLOYMENTS = PROJECT / "prefect.yaml"
START_S = 180.0
"""Seconds to wait for a Prefect server to start."""
LOOPBACK = "127.0.0.1"


def serve(
    workspace: Workspace, *, port: int, limit: int, only: Sequence[str] = (), parameters: dict[str, Any]
) -> None:
    """Serve deployments until interrupted.

    Args:
        workspace: The workspace.
        port: Port of the local Prefect server, if `PREFECT_API_URL` names none.
        limit: Number of concurrent runs.
        only: Names of deployments. The default is all.
        parameters: By deployment, parameters that replace those of prefect.yaml.
    """
    with prefect_server(workspace, port):
        from prefect import serve as serve_deployments

        chosen = read_deployments(DEPLOYMENTS, only, parameters)
        serve_deployments(*chosen, limit=limit, print_starting_message=False)


def read_deployments(path: Path, only: Sequence[str], parameters: dict[str, Any]) -> list[RunnerDeployment]:
    """Return the deployments of prefect.yaml for this process.

    Raises:
        InputError: If a name is unknown.
    """
    import yaml
    from prefect.flows import load_flow_from_entrypoint

    entries = {e["name"]: e for e in yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]}
    if unknown := [name for name in (*only, *parameters) if name not in entries]:
        raise InputError(
            f"there is no deployment {unknown[0]!r}",
            place=str(path),
            hint=f"the deployments are {', '.join(entries)}",
        )
    made: list[Any] = [
        load_flow_from_entrypoint(entry["entrypoint"]).to_deployment(
            name=name,
            description=entry["description"],
            tags=entry["tags"],
            parameters=entry["parameters"] | parameters.get(name, {}),
            concurrency_limit=_limit_of(entry),
            cron=_cron_of(entry),
        )
        for name, entry in entries.items()
        if not only or name in only
    ]
    return made


def _limit_of(entry: dict[str, Any]) -> Any:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    limit = entry.get("concurrency_limit")
    return ConcurrencyLimitConfig.model_validate(limit) if isinstance(limit, dict) else limit


def _cron_of(entry: dict[str, Any]) -> list[str] | None:
    crons = [s["cron"] for s in entry.get("schedules", ()) if s.get("active", True)]
    return crons or None


@contextmanager
def prefect_server(workspace: Workspace, port: int) -> Iterator[str]:
    """Yield the address of `PREFECT_API_URL`, or of a server that runs as long as the block."""
    if address := os.environ.get("PREFECT_API_URL"):
        yield address
        return
    home = workspace.home / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    own = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        os.environ.update(own | {"PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api"})
        _wait_until_it_answers(f"http://{LOOPBACK}:{port}/api/health", process, home / "server.log")
        yield os.environ["PREFECT_API_URL"]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(address, timeout=5):  # noqa: S310 - our own loopback address
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise InputError(
        "the Prefect server did not start",
        place=str(log),
        hint="check whether another program uses the --port",
    )


# Artifacts on the page of a run. They are summaries of the run directory and of the release.

MOST_EFFECTS = 60
"""Effects in the table of a run."""
MOST_REVIEWED = 100
"""Items to review in the artifact of a refresh."""
_KEY = "counterfoil"


def show_funnel(counts: Sequence[StageCounts]) -> None:
    """Show the funnel as a table."""
    create_table_artifact(
        key=f"{_KEY}-funnel",
        table=[c.model_dump() for c in counts],
        description="Rows of each stage: in, kept, dropped, failed",
    )


def show_effects(effects: TableRef, release: Path) -> None:
    """Show the effects of attributes and families, and a link to the report."""
    shown = [e for e in read_table(effects, EFFECTS) if e.level in ("attribute", "family")]
    rows = [
        {
            "family": e.family,
            "slice": e.name,
            "metric": e.metric,
            "model": e.model,
            "value": None if e.value is None else round(e.value, 4),
            "low": e.low,
            "high": e.high,
            "q": e.q_value,
        }
        for e in shown[:MOST_EFFECTS]
    ]
    more = (
        f" ({len(shown) - MOST_EFFECTS} more in {config_file('effects')})"
        if len(shown) > MOST_EFFECTS
        else ""
    )
    create_table_artifact(key=f"{_KEY}-effects", table=rows, description=f"Effects{more}")
    create_markdown_artifact(
        key=f"{_KEY}-release",
        markdown=f"Release `{release.name}` of `{release.parent.name}`: "
        f"[report]({(release / 'report.html').resolve().as_uri()})",
    )


def show_review(done: int, needed: int, accepted: int, *, command: str) -> None:
    """Show how many of the required questions are reviewed, and the next command."""
    lines = [f"**{done:,} of {needed:,} reviewed** ({accepted:,} accepted questions in all)", ""]
    if done < needed:
        lines += [
            "The build waits for reviews:",
            "",
            f"    {command}",
            "",
            "It resumes when enough questions are reviewed.",
        ]
    create_markdown_artifact(key=f"{_KEY}-review", markdown="\n".join(lines))


def show_decision(decision: RefreshDecision, release: str) -> None:
    """Show the decision of a refresh, its reasons, and the items to review."""
    lines = [f"**{decision.verdict}**: {escape_markdown(release)}", ""]
    lines += [f"- {escape_markdown(reason)}" for reason in decision.reasons]
    if decision.review:
        lines += ["", "| item | reason |", "|---|---|"]
        lines += [
            f"| {escape_markdown(r.subject)} | {escape_markdown(r.why)} |"
            for r in decision.review[:MOST_REVIEWED]
        ]
    create_markdown_artifact(key=f"{_KEY}-refresh", markdown="\n".join(lines))
