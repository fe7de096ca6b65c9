"""Audit a judge and write its passport."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.workspace import open_workspace, read_recipe
from schemas.errors import InputError
from schemas.gate import Passport, ProbeResult
from schemas.recipe import Family, Models, Recipe
from schemas.tables import content_hash
from tasks.audit import audit, audit_relevance, estimate_audit, estimate_relevance, refuse_over_budget
from tasks.judges.passports import write_passport
from tasks.models import ModelSettings, check_models, ping
from tasks.models.budget import spent_in

NOBODY = "replay:nobody"
"""Stands where a recipe must name a target; an audit asks the judge alone."""


def run_audit(
    judge: str,
    *,
    task: str = "bias",
    recipe: Path | None = None,
    rubric: str | None = None,
    comparison: str | None = None,
    scenes: int | None = None,
    budget_usd: float | None = None,
    free: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Audit a judge as the recipe (or the default) would have it judge, and write its passport. What is wrong
    with the model is told before anything is spent."""
    if task == "relevance" and ":" not in judge:
        raise InputError(
            f"{judge} does not grade relevance", hint="name a model, or leave out --task relevance"
        )
    workspace = open_workspace()
    told = audit_recipe(judge, read_recipe(recipe) if recipe else None, rubric, comparison, free)
    context = workspace.context(told, budget_usd=budget_usd)
    names = [judge] if ":" in judge else []
    settings = ModelSettings.of(context)
    check_models(names, settings)
    of_relevance = task == "relevance"
    plan = estimate_relevance(context, judge) if of_relevance else estimate_audit(context, judge, scenes)
    refuse_over_budget(judge, plan, context.budget_usd)
    asyncio.run(ping(names, settings))
    passport, costs = audit_relevance(context, judge) if of_relevance else audit(context, judge, scenes)
    return {
        "judge": judge,
        "passport": str(write_passport(workspace.passports, passport)),
        **{name: getattr(passport, name) for name in ("revision", "rubric", "comparison", "scenes")},
        "probes": probes_of(passport),
        "below_the_bar": list(passport.shortfalls(told.judging.bar)),
        "at_most": asdict(plan),
        "calls": sum(cost.calls for cost in costs),
        "cost_usd": spent_in(Path(context.run_dir)),
    }


def audit_recipe(
    judge: str, base: Recipe | None, rubric: str | None, comparison: str | None, free: tuple[str, ...]
) -> Recipe:
    """The recipe's way of judging, limits and keys; its seed, name and models play no part in a passport."""
    base = base or Recipe(
        name="audit", attributes=("gender",), models=Models(targets=(NOBODY,)), families={"open": Family()}
    )
    chosen = {"rubric": rubric, "comparison": comparison}
    judging = base.judging.model_copy(update={name: said for name, said in chosen.items() if said})
    budget = base.budget.model_copy(update={"free": (*base.budget.free, *free)})
    name = f"audit-{content_hash([judge, judging.rubric, judging.comparison])[:12]}"
    return base.model_copy(update={"name": name, "seed": 0, "judging": judging, "budget": budget})


def probes_of(passport: Passport) -> dict[str, dict[str, Any]]:
    """One entry a probe: its measures by name, each with value, interval and n."""
    found: dict[str, dict[str, Any]] = {}
    for result in passport.probes:
        found.setdefault(result.probe, {})[result.measure] = _measure(result)
    return found


def _measure(result: ProbeResult) -> dict[str, Any]:
    return result.model_dump(mode="json", exclude={"probe", "measure"})
