"""Running flows from the command line: Prefect kept quiet, errors kept whole, a result to print."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from flows.workspace import open_workspace, quiet_prefect, read_recipe
from schemas.errors import InputError
from tasks.journal import funnel, read_journal, total_costs

RUNNERS = {"threads": None, "dask": "prefect_dask", "ray": "prefect_ray"}


def run_build(
    recipe: Path, *, out: Path | None, runner: str, budget_usd: float | None, fresh: bool
) -> dict[str, Any]:
    """Build a recipe and describe the result with the fields that `build --json` promises."""
    workspace = open_workspace()
    run_dir = workspace.runs / read_recipe(recipe).name
    if fresh and run_dir.exists():
        shutil.rmtree(run_dir)
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
    sent, spent = calls_made(run_dir)
    calls = sum(c.calls for c in costs)
    return {
        "release": str(release),
        "version": release.name,
        "run": str(run_dir),
        "counts": {
            c.stage: {"in": c.rows, "kept": c.kept, "dropped": c.dropped, "failed": c.failed}
            for c in funnel(steps)
        },
        "calls": {"sent": sent, "cached": max(0, calls - sent)},
        "cost_usd": spent,
    }
