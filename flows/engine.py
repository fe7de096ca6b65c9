"""Run stages, in this process or as Prefect tasks, and show artifacts on the page of a run.

Inside a Prefect flow every stage is a task. Without a flow the same functions run the stages directly, and
no Prefect server is started. Prefect's result cache is off: the key of a stage (see `tasks.run.store`)
decides whether it runs again.
"""

from __future__ import annotations

import os
import platform
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import tasks.carry_over
import tasks.continuation
import tasks.deduplicate
import tasks.evolve
import tasks.evolve.select
import tasks.expand
import tasks.gate
import tasks.gate.quarantine
import tasks.hold_back
import tasks.judge
import tasks.material
import tasks.measure
import tasks.mend
import tasks.package
import tasks.package.assemble
import tasks.package.compare
import tasks.relabel
import tasks.report
import tasks.respond
import tasks.review
import tasks.vary
from flows.lazy_flow import TAG
from flows.releases_server import report_url
from flows.task_runs import CRASH_RETRIES, TaskFuture, log_progress, wait_for_task
from schemas.answers import EFFECTS
from schemas.labels import StageCounts
from schemas.recipe import Limits, Recipe
from schemas.release import RefreshDecision
from tasks.files.bounded import MemoryBudget
from tasks.models import CALLS
from tasks.models.budget import spent_in
from tasks.models.limits import divide_limits, most_processes
from tasks.package.card import escape_markdown
from tasks.release import ReleaseDirectory, config_file, open_release
from tasks.release.recipe_changes import RecipeChange
from tasks.report.coverage import describe_coverage, release_coverage
from tasks.run.journal import note_step
from tasks.run.progress import current_stage
from tasks.run.store import RunContext, Stage, Step, TableRef, read_table, run_stage
from tasks.text.model_names import short_names

P = TypeVar("P")
R = TypeVar("R")


def take_step(stage: Stage, context: RunContext, inputs: dict[str, Any]) -> Step:
    """Run a stage, or find its finished step, and append it to the journal. Workers import this function."""
    divide_limits(1)
    before = CALLS.sent
    done = run_stage(stage, context, **inputs)
    note_step(context, done, sent=CALLS.sent - before)
    return done


def on_prefect() -> bool:
    """Return whether the caller runs in a Prefect flow."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None


def as_prefect_task(function: Callable[..., R], name: str, **options: Any) -> Any:
    """Return a Prefect task. Prefect's own cache and stored results are off."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    return task(name=name, cache_policy=NO_CACHE, persist_result=False, **options)(function)


def as_task(stage: Stage) -> Callable[..., Step]:
    """Return a function that runs a stage: as a task inside a flow, directly without one."""

    def run(context: RunContext, **inputs: Any) -> Step:
        if not on_prefect():
            return take_step(stage, context, inputs)
        name, tags = run_name(stage, inputs), [TAG, context.recipe.name]
        named = as_prefect_task(take_step, stage.name, task_run_name=name, tags=tags, **CRASH_RETRIES)
        step: Step = wait_for_task(lambda: named.submit(stage, context, inputs), name, Path(context.run_dir))
        log_step(name, step, context)
        return step

    return run


def run_name(stage: Stage, inputs: Mapping[str, Any]) -> str:
    """Return the name of a task run, such as `respond · search · round 2`.

    The round is an input of the stage, or that of the subflow that calls it.
    """
    details = [str(inputs["phase"])] if "phase" in inputs else []
    number = inputs.get("round", _round.get())
    details += [f"round {number}"] if number is not None else []
    return " · ".join([stage.name, *details])


def run_round(function: Callable[[], R], context: RunContext, number: int) -> R:
    """Run one round of the search: as a subflow inside a flow, directly without one.

    The tasks of the subflow run on the task runner of the calling flow.
    """
    if not on_prefect():
        return function()
    from prefect import flow, tags
    from prefect.context import FlowRunContext

    caller = FlowRunContext.get()
    assert caller is not None

    def run(recipe: str, round: int) -> R:
        return function()

    token = _round.set(number)
    try:
        subflow = flow(
            name="round",
            flow_run_name=f"search · {context.recipe.name} · round {number}",
            persist_result=False,
            task_runner=_share_runner(caller.task_runner),
        )(run)
        with tags(TAG, context.recipe.name):
            return subflow(recipe=context.recipe.name, round=number)
    finally:
        _round.reset(token)


_round: ContextVar[int | None] = ContextVar("round", default=None)
"""Number of the running round."""


def _share_runner(runner: Any) -> Any:
    """Return the started task runner of another flow, in the form in which a flow takes its own."""
    from prefect.task_runners import TaskRunner

    class SharedRunner(TaskRunner[Any]):
        name = "shared"

        def duplicate(self) -> Any:
            """Return a context that neither starts nor stops the runner."""
            return nullcontext(runner)

        def submit(self, *arguments: Any, **options: Any) -> Any:
            return runner.submit(*arguments, **options)

        def map(self, *arguments: Any, **options: Any) -> Any:
            return runner.map(*arguments, **options)

    return SharedRunner()  # type: ignore[no-untyped-call]


def name_flow_run(version: str) -> None:
    """Add the version of the release to the name of the flow run, as soon as it is known."""
    if not on_prefect():
        return
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext

    caller = FlowRunContext.get()
    if caller is None or caller.flow_run is None or caller.flow_run.name.endswith(f" · {version}"):
        return
    name = f"{caller.flow_run.name} · {version}"
    with get_client(sync_client=True) as client:
        client.update_flow_run(caller.flow_run.id, name=name)


def in_parts(
    stage: Stage, models: Callable[[Recipe], Sequence[str]] = lambda recipe: ()
) -> Callable[..., Step]:
    """Return a function that runs a stage in the flow itself, with the parts of its work as tasks.

    Args:
        stage: The stage.
        models: Returns the models that the parts ask.
    """

    def run(context: RunContext, **inputs: Any) -> Step:
        if not on_prefect():
            return take_step(stage, context, inputs)
        from prefect import get_run_logger

        name = run_name(stage, inputs)
        recipe = context.recipe
        asked = [model for model in models(recipe) if model]
        limits = [recipe.limits_of(model) for model in asked]
        submit = partial(submit_each, name=name, tags=[TAG, recipe.name], models=asked, limits=limits)
        own = replace(stage, run=partial(stage.run, run_parts=submit))
        with log_progress(get_run_logger(), name, Path(context.run_dir)):
            step = take_step(own, context, inputs)
        log_step(name, step, context)
        return step

    return run


MOST_OUTSTANDING = 64
"""Parts that are submitted before the first of them has ended."""


def submit_each(
    job: Callable[[P], R],
    parts: Iterable[P],
    /,
    *,
    name: str = "",
    tags: Sequence[str] = (TAG,),
    models: Sequence[str] = (),
    limits: Sequence[Limits] = (),
) -> Iterator[R]:
    """Run a job on every part as Prefect tasks on the task runner of the calling flow.

    A part whose worker was lost is submitted again. The limits of the models hold for all workers together:
    each gets an equal part of them. If that is less than one request, fewer parts run at the same time.

    Args:
        job: A function that workers can import.
        parts: Its arguments.
        name: Name of the stage.
        tags: Tags of the task runs.
        models: Models that the parts ask. On a Ray cluster with GPUs, a part that runs an engine in its
            process gets a GPU of its own.
        limits: Limits of these models.
    """
    allowed = most_processes(limits)
    kind = job.__name__.replace("_", " ").strip()
    total = f" of {len(parts)}" if isinstance(parts, Sized) else ""
    is_single = isinstance(parts, Sized) and len(parts) == 1

    def submit(number: int, part: P) -> TaskFuture[tuple[R, str, int]]:
        run_name = name or kind if is_single else f"{name or kind} · part {number}{total}"
        named = as_prefect_task(_do, kind, task_run_name=run_name, tags=list(tags), **CRASH_RETRIES)

        def submit_part() -> Any:
            with _gpu_for(models):
                return named.submit(job, part, min(worker_processes(), allowed or MOST_OUTSTANDING))

        return TaskFuture(submit_part, run_name)

    outstanding: deque[TaskFuture[tuple[R, str, int]]] = deque()
    most = allowed if allowed and allowed < worker_processes() else MOST_OUTSTANDING
    for number, part in enumerate(parts, start=1):
        if len(outstanding) >= most:
            yield _result(outstanding.popleft())
        outstanding.append(submit(number, part))
    while outstanding:
        yield _result(outstanding.popleft())


def _gpu_for(models: Sequence[str]) -> AbstractContextManager[Any]:
    """Return a context in which Ray gives each task a GPU, if a model needs one and the cluster has some."""
    if "prefect_ray" in sys.modules and any(name.startswith("vllm:") for name in models):
        import ray
        from prefect_ray.context import remote_options

        resources: Any = ray.cluster_resources  # untyped
        if ray.is_initialized() and resources().get("GPU", 0) >= 1:
            context: AbstractContextManager[Any] = remote_options(num_gpus=1)
            return context
    return nullcontext()


def worker_processes() -> int:
    """Return the number of processes of the flow's task runner that may ask models at the same time."""
    from prefect.context import FlowRunContext

    caller = FlowRunContext.get()
    runner = caller.task_runner if caller else None
    if "prefect_dask" in sys.modules:
        from prefect_dask.task_runners import DaskTaskRunner

        if isinstance(runner, DaskTaskRunner):
            client: Any = runner.client  # untyped
            return max(1, len(client.ncores()))
    if "prefect_ray" in sys.modules:
        import ray
        from prefect_ray.task_runners import RayTaskRunner

        resources: Any = ray.cluster_resources  # untyped
        if isinstance(runner, RayTaskRunner) and ray.is_initialized():
            return max(1, int(resources().get("CPU", 1)))
    return 1


def _do(job: Callable[[P], R], part: P, processes: int) -> tuple[R, str, int]:
    """Return the result of a part, the process that ran it, and the number of requests that it sent.

    Args:
        job: The job.
        part: Its argument.
        processes: Number of processes that ask the same models.
    """
    divide_limits(processes)
    before = CALLS.sent
    result = job(part)
    return result, process_name(), CALLS.sent - before


def process_name() -> str:
    """Return the name of this process among those of all machines."""
    return f"{platform.node()}/{os.getpid()}"


def _result(future: TaskFuture[tuple[R, str, int]]) -> R:
    """Return the result of a part, and count the requests that another process sent for it."""
    result, process, sent = future.result()
    if process != process_name():
        CALLS.add(sent)
    return result


STAGES = (
    tasks.expand.STAGE,
    tasks.evolve.STAGE,
    tasks.respond.STAGE,
    tasks.judge.STAGE,
    tasks.evolve.select.STAGE,
    tasks.relabel.STAGE,
    tasks.relabel.STAGE_RETRIEVAL,
    tasks.deduplicate.STAGE,
    tasks.vary.STAGE,
    tasks.measure.STAGE,
    tasks.gate.STAGE,
)
PAGES = ("canary.md", "card.md", "card_sentences.yaml", "evals", "report")
"""Files and folders under data/ that the pages of a release are written from."""
VOCABULARY = tuple(sorted({name for stage in STAGES for name in stage.vocabulary} | set(PAGES)))
"""Files and folders under data/ that a build depends on."""

carry_over = as_task(tasks.carry_over.STAGE)
material = as_task(tasks.material.STAGE)
make_room = as_task(tasks.carry_over.STAGE_ROOM)
adopt = as_task(tasks.mend.ADOPT_STAGE)
mend = as_task(tasks.mend.MEND_STAGE)
reopen = as_task(tasks.mend.REOPEN_STAGE)
expand = as_task(tasks.expand.STAGE)
continuation = as_task(tasks.continuation.STAGE)
mutate = as_task(tasks.evolve.STAGE)
respond = in_parts(
    tasks.respond.STAGE, lambda recipe: (*recipe.models.targets, *recipe.models.holdout_targets)
)
judge = in_parts(tasks.judge.STAGE, lambda recipe: (*recipe.models.judges, recipe.models.adjudicator or ""))
select = as_task(tasks.evolve.select.STAGE)
gather = as_task(tasks.package.assemble.STAGE_GATHER)
relabel = in_parts(tasks.relabel.STAGE, lambda recipe: recipe.models.relabel_judges)
relabel_retrieval = as_task(tasks.relabel.STAGE_RETRIEVAL)
review = as_task(tasks.review.STAGE)
review_retrieval = as_task(tasks.review.STAGE_RETRIEVAL)
deduplicate = in_parts(tasks.deduplicate.STAGE)
vary = as_task(tasks.vary.STAGE)
hold_back = as_task(tasks.hold_back.STAGE)
quarantine = as_task(tasks.gate.quarantine.STAGE)
measure = in_parts(tasks.measure.STAGE)
assemble = as_task(tasks.package.assemble.STAGE)
validate = as_task(tasks.gate.STAGE)
compare = as_task(tasks.package.compare.STAGE)


def package(
    context: RunContext,
    assembled: Sequence[TableRef],
    provenance: tasks.package.Provenance,
    findings: tasks.package.Findings,
    **options: Any,
) -> Path:
    """Write the release, as a task inside a flow."""
    if not on_prefect():
        return tasks.package.package(context, assembled, provenance, findings, **options)
    name = f"package · {provenance.comparison.new_version}"
    tags = [TAG, context.recipe.name]
    named = as_prefect_task(tasks.package.package, "package", task_run_name=name, tags=tags, **CRASH_RETRIES)
    return Path(named(context, assembled, provenance, findings, **options))


# Artifacts on the page of a run. They are summaries of the run directory and of the release.

MOST_EFFECTS = 60
"""Effects in the table of a run."""
MOST_REVIEWED = 100
"""Items to review in the artifact of a refresh."""


def log_step(name: str, step: Step, context: RunContext) -> None:
    """Write the counts of a step, and the cost of the run, to the log of the flow run."""
    from prefect import get_run_logger

    spent = spent_in(context.spending_path)
    budget = f" of {context.budget_usd:.2f}" if context.budget_usd is not None else ""
    counts = "; ".join(
        f"{c.rows:,} in, {c.kept:,} kept, {c.dropped:,} dropped, {c.failed:,} failed" for c in step.counts
    )
    calls = sum(cost.calls for cost in step.costs)
    rows, failed = sum(c.rows for c in step.counts), sum(c.failed for c in step.counts)
    coverage = f"; coverage {100 * (rows - failed) / rows:.1f} %" if rows and calls else ""
    state = current_stage()
    place = f"stage {state.number} of {state.of}; " if state else ""
    get_run_logger().info(
        "%s: %s%s; %s calls%s; cost so far %.4f%s USD",
        name,
        place,
        counts or "no rows",
        f"{calls:,}",
        coverage,
        spent,
        budget,
    )


def _artifacts() -> Any:
    from prefect import artifacts

    return artifacts


def show_funnel(counts: Sequence[StageCounts]) -> None:
    """Show the funnel as a table."""
    if not on_prefect():
        return
    _artifacts().create_table_artifact(
        key=f"{TAG}-funnel",
        table=[c.model_dump() for c in counts],
        description="Rows of each stage: in, kept, dropped, failed",
    )


def show_findings(release: Path, data_dir: Path) -> None:
    """Show the findings of a release in words, and a link to its report."""
    if not on_prefect():
        return
    opened = open_release(release, MemoryBudget(sys.maxsize))  # it was in memory a moment ago
    summary = tasks.report.summarise_release(opened.manifest, opened.contents, data_dir)
    lines = [f"Release `{release.name}` of `{release.parent.name}`: [report]({report_url(release)})", ""]
    lines += [f"- {escape_markdown(sentence)}" for sentence in summary]
    _artifacts().create_markdown_artifact(
        key=f"{TAG}-findings", markdown="\n".join(lines), description="Findings, those not measured first"
    )


def show_effects(effects: TableRef) -> None:
    """Show the effects of attributes and families."""
    if not on_prefect():
        return
    shown = [e for e in read_table(effects, EFFECTS) if e.level in ("attribute", "family")]
    names = short_names(e.model for e in shown)
    rows = [
        {
            "family": e.family,
            "slice": e.name,
            "condition": e.condition,
            "framing": e.framing,
            "language": e.language,
            "metric": e.metric,
            "model": names[e.model],
            "n": e.n,
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
    _artifacts().create_table_artifact(key=f"{TAG}-effects", table=rows, description=f"Effects{more}")


def show_review(done: int, needed: int, accepted: int, *, command: str) -> None:
    """Show how many of the required questions are reviewed, and the next command."""
    if not on_prefect():
        return
    lines = [f"**{done:,} of {needed:,} reviewed** ({accepted:,} accepted questions in all)", ""]
    if done < needed:
        lines += [
            "The build waits for reviews:",
            "",
            f"    {command}",
            "",
            "It resumes when enough questions are reviewed.",
        ]
    _artifacts().create_markdown_artifact(key=f"{TAG}-review", markdown="\n".join(lines))


def describe_decision(
    decision: RefreshDecision, after: ReleaseDirectory, data_dir: Path, changes: Sequence[RecipeChange]
) -> str:
    """Return the text of a pull request: the decision, its reasons, and the first screen of the report.

    Args:
        decision: The decision.
        after: The new release.
        data_dir: The vocabulary.
        changes: Changes of the recipe since the last release.
    """
    title = escape_markdown(f"{after.manifest.name} {after.manifest.version}")
    lines = [f"**{decision.verdict}**: {title}", ""]
    lines += [f"- {escape_markdown(reason)}" for reason in decision.reasons]
    if decision.verdict != "unchanged":
        coverage = release_coverage(after.contents, after.manifest.counts).to_json()
        lines += ["", "### Coverage", "", *(f"- {escape_markdown(c)}" for c in describe_coverage(coverage))]
        findings = tasks.report.summarise_release(after.manifest, after.contents, data_dir)
        lines += ["", "### Findings", "", *(f"- {escape_markdown(sentence)}" for sentence in findings)]
    if changes:
        lines += ["", "### Changes of the recipe", ""]
        lines += [
            f"- {escape_markdown(str(change))}{' (changes the meaning of scores)' if change.meaning else ''}"
            for change in changes
        ]
    if decision.review:
        lines += ["", "### To review", "", "| item | reason |", "|---|---|"]
        lines += [
            f"| {escape_markdown(r.subject)} | {escape_markdown(r.why)} |"
            for r in decision.review[:MOST_REVIEWED]
        ]
    return "\n".join(lines)


def show_decision(
    decision: RefreshDecision, after: ReleaseDirectory, data_dir: Path, changes: Sequence[RecipeChange]
) -> None:
    """Show the decision of a refresh, its reasons, the findings, and the items to review."""
    if not on_prefect():
        return
    markdown = describe_decision(decision, after, data_dir, changes)
    _artifacts().create_markdown_artifact(key=f"{TAG}-refresh", markdown=markdown)
