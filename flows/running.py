"""Running flows from the command line: Prefect kept quiet, errors kept whole, a result to print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.showing import counts_by_stage
from flows.workspace import open_workspace, quiet_prefect, read_recipe
from schemas.errors import InputError
from tasks.journal import calls_sent, funnel, read_journal, total_costs
from tasks.models.budget import spent_in
from tasks.store import forget_run


def run_build(
    recipe: Path, *, out: Path | None, runner: str, budget_usd: float | None, fresh: bool
) -> dict[str, Any]:
    """Build a recipe and describe the result with the fields that `build --json` promises."""
    workspace = open_workspace()
    run_dir = workspace.runs / read_recipe(recipe).name
    if fresh:
        forget_run(run_dir)
    quiet_prefect(workspace)
    from flows.build import build

    flow = build.with_options(task_runner=task_runner(runner))
    release = flow(str(recipe), out=str(out) if out else None, budget_usd=budget_usd)
    return describe_build(run_dir, Path(release))


def task_runner(name: str) -> Any:
    """Prefect's task runner of that name. Raises `InputError` naming the extra that it needs."""
    from prefect.task_runners import ThreadPoolTaskRunner

    if name == "threads":
        return ThreadPoolTaskRunner()
    try:
        if name == "dask":
            from prefect_dask import DaskTaskRunner

            return DaskTaskRunner()
        from prefect_ray import RayTaskRunner

        return RayTaskRunner()
    except ImportError:
        raise InputError(
            f"--runner {name} needs the extra [{name}]",
            hint=f"uv pip install --python .venv/bin/python -e '.[{name}]'",
        ) from None


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

    from schemas.ids import content_hash
    from tasks.models.connect import ModelSettings, check_models, ping
    from tasks.relabelling.file import relabel_file

    workspace = open_workspace()
    settings = ModelSettings(
        data_dir=workspace.vocabulary,
        run_dir=workspace.runs / f"relabel-{content_hash(str(input.resolve()))[:12]}",
        cache_path=workspace.cache,
        budget_usd=budget_usd,
        free=frozenset(free),
    )
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
