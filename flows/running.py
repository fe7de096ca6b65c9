"""Running flows from the command line: Prefect kept quiet, errors kept whole, a result to print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.runners import task_runner
from flows.showing import counts_by_stage
from flows.workspace import Workspace, open_workspace, read_recipe
from tasks.journal import calls_sent, funnel, read_journal, total_costs
from tasks.models.budget import spent_in
from tasks.store import forget_run

if TYPE_CHECKING:
    from tasks.models.settings import ModelSettings


def run_build(
    recipe: Path,
    *,
    out: Path | None,
    runner: str,
    budget_usd: float | None,
    wait: bool = False,
    fresh: bool,
) -> dict[str, Any]:
    """Build a recipe and describe the result with the fields that `build --json` promises."""
    workspace = open_workspace()
    run_dir = workspace.runs / read_recipe(recipe).name
    if fresh:
        forget_run(run_dir)
    with task_runner(runner, workspace) as chosen:
        from flows.build import build

        flow = build.with_options(task_runner=chosen)
        release = flow(str(recipe), out=str(out) if out else None, budget_usd=budget_usd, wait=wait)
    return describe_build(run_dir, Path(release))


def run_deduplicate(
    input: Path,
    *,
    runner: str | None = None,
    semantic: float | None = None,
    embedder: str = "",
    budget_usd: float = 0.0,
    free: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, Any]:
    """Deduplicate a file (options of `tasks.deduplicating.file.deduplicate_file`): in this process, without
    Prefect, or on a task runner."""
    from tasks.deduplicating.file import deduplicate_file
    from tasks.deduplicating.meaning import ByMeaning

    workspace = open_workspace()
    if semantic is not None:
        settings = _command_settings(workspace, "deduplicate", input, budget_usd, free)
        options["then"] = ByMeaning(embedder, semantic, settings)
    if runner is None:
        return deduplicate_file(input, **options)
    with task_runner(runner, workspace) as chosen:
        from flows.deduplicate import deduplicate

        return deduplicate.with_options(task_runner=chosen)(input.resolve(), options)


def _command_settings(
    workspace: Workspace, command: str, input: Path, budget_usd: float, free: tuple[str, ...]
) -> ModelSettings:
    """What the models of a command on one file need to know; what it spent is recorded by file."""
    from schemas.ids import content_hash
    from tasks.models.settings import ModelSettings

    return ModelSettings(
        data_dir=workspace.vocabulary,
        run_dir=workspace.runs / f"{command}-{content_hash(str(input.resolve()))[:12]}",
        cache_path=workspace.cache,
        budget_usd=budget_usd,
        free=frozenset(free),
    )


def describe_build(run_dir: Path, release: Path) -> dict[str, Any]:
    """What came out of a finished build."""
    steps, _ = read_journal(run_dir)
    costs = total_costs(steps)
    sent = calls_sent(run_dir)
    calls = sum(c.calls for c in costs)
    return {
        "release": str(release),
        "version": release.name,
        "run": str(run_dir),
        "counts": counts_by_stage(funnel(steps)),
        "calls": {"sent": sent, "cached": max(0, calls - sent)},
        "cost_usd": spent_in(run_dir),
    }


def run_relabel(
    input: Path,
    *,
    judges: tuple[str, ...] = (),
    verdicts: Path | None = None,
    budget_usd: float = 0.0,
    free: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, Any]:
    """Clean a retrieval set (options of `tasks.relabelling.file.relabel_file`); what is wrong with the models
    is told before anything is spent. Prefect is left out of it: its start takes longer than most files."""
    import asyncio

    from tasks.models.connect import check_models, ping
    from tasks.relabelling.file import relabel_file

    settings = _command_settings(open_workspace(), "relabel", input, budget_usd, free)
    names = [name for name in judges if ":" in name and not verdicts]
    check_models(names, settings)
    asyncio.run(ping(names, settings))
    return relabel_file(input, settings=settings, judges=judges, verdicts=verdicts, **options)


def run_reword(file: Path, *, recipe: Path, out: Path, count: int) -> dict[str, Any]:
    """Have the premises of one file reworded, and write the file with those that fool a target. Raises
    `InputError`, and `BudgetError` where it may cost more than the recipe's budget leaves."""
    import asyncio
    from collections import Counter

    import yaml

    from schemas.vocabulary import Themes
    from tasks.formats.yaml_file import read_yaml
    from tasks.models.connect import ModelSettings, check_models, ping
    from tasks.reword import reword
    from tasks.store import run_lock, write_bytes

    workspace = open_workspace()
    said = read_recipe(recipe)
    context = workspace.context(said)
    context = context.model_copy(update={"run_dir": str(workspace.runs / f"{said.name}-reword-{file.stem}")})
    settings = ModelSettings.of(context)
    names = [n for n in (said.models.generator, *said.models.targets) if ":" in n]
    themes = read_yaml(file, Themes)
    check_models(names, settings)
    asyncio.run(ping(names, settings))
    with run_lock(Path(context.run_dir)):
        found = reword(context, themes, count)
    text = yaml.safe_dump(
        found.themes.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, text.encode())
    reasons = Counter(d.reason for d in found.discarded)
    return {"out": str(out), "kept": found.kept, "discarded": dict(sorted(reasons.items()))}
