"""Audit a judge and write its passport."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.workspace import open_workspace, read_recipe
from schemas.errors import GateError, InputError
from schemas.gate import Passport, ProbeResult
from schemas.options import AuditJudgeOptions
from schemas.recipe import Family, Models, Recipe
from schemas.tables import content_hash
from tasks.audit import audit, audit_relevance, check_audit_budget, estimate_audit, estimate_relevance
from tasks.judges.passports import write_passport
from tasks.models import ModelSettings, run_async
from tasks.models.budget import spent_in
from tasks.models.capabilities import changes_of
from tasks.models.preflight import check_models, ping
from tasks.models.settings import keys_by_server, options_by_model

NO_TARGET = "replay:nobody"
"""Target in the default recipe of an audit, which asks the judge alone."""


def run_audit(options: AuditJudgeOptions) -> dict[str, Any]:
    """Audit a judge, write its passport and return the fields of `audit-judge --json`.

    The judge works as in the recipe, or with the defaults.

    Raises:
        InputError: If the judge cannot be used.
        ModelError: If its server cannot be reached or refuses.
        BudgetError: If the audit may cost more than the limit.
    """
    judge, relevance = options.judge, options.task == "relevance"
    if relevance and ":" not in judge:
        raise InputError(
            f"{judge} does not grade relevance", hint="name a model, or leave out --task relevance"
        )
    workspace = open_workspace()
    recipe = audit_recipe(options)
    context = workspace.context(recipe, budget_usd=options.budget_usd)
    models = [judge] if ":" in judge else []
    settings = ModelSettings.of(context)
    check_models(models, settings)
    plan = estimate_relevance(context, judge) if relevance else estimate_audit(context, judge, options.scenes)
    check_audit_budget(judge, plan, context.budget_usd)
    run_async(ping(models, settings))
    passport, costs = audit_relevance(context, judge) if relevance else audit(context, judge, options.scenes)
    return {
        "judge": judge,
        "passport": str(write_passport(workspace.passports, passport)),
        **{name: getattr(passport, name) for name in ("revision", "rubric", "comparison", "scenes")},
        "probes": probes_of(passport),
        "below_the_bar": list(passport.shortfalls(recipe.judging.bar)),
        "at_most": asdict(plan),
        "calls": sum(cost.calls for cost in costs),
        "cost_usd": spent_in(context.spending_path),
        **changes_of(Path(context.run_dir), models),
    }


def require_above_bar(options: AuditJudgeOptions, result: dict[str, Any]) -> None:
    """Raise `GateError` if a recipe is given and the judge is below its bar."""
    if options.recipe and result["below_the_bar"]:
        raise GateError(
            f"{options.judge} is below the bar of {options.recipe}: {'; '.join(result['below_the_bar'])}",
            place="judging.bar",
            hint="take another judge, or lower the bar",
        )


def audit_recipe(options: AuditJudgeOptions) -> Recipe:
    """Return a recipe with the judging settings, limits and keys of the given recipe.

    Seed, name and models have no effect on a passport.
    """
    base = (
        read_recipe(options.recipe)
        if options.recipe
        else Recipe(
            name="audit",
            attributes=("gender",),
            models=Models(targets=(NO_TARGET,)),
            families={"open": Family()},
        )
    )
    chosen = {"rubric": options.rubric, "comparison": options.comparison}
    judging = base.judging.model_copy(update={name: value for name, value in chosen.items() if value})
    budget = base.budget.model_copy(update={"free": (*base.budget.free, *options.free)})
    name = f"audit-{content_hash([options.judge, judging.rubric, judging.comparison])[:12]}"
    judges = [options.judge] if ":" in options.judge else []
    given = options_by_model(judges, options.extra_body, options.max_tokens)
    return base.model_copy(
        update={
            "name": name,
            "seed": 0,
            "judging": judging,
            "budget": budget,
            "models": base.models.model_copy(update={"options": {**base.models.options, **given}}),
            "api_keys": {**base.api_keys, **keys_by_server(judges, options.api_key_env)},
        }
    )


def probes_of(passport: Passport) -> dict[str, dict[str, Any]]:
    """Return the measures by probe and name, each with value, interval and n."""
    probes: dict[str, dict[str, Any]] = {}
    for result in passport.probes:
        probes.setdefault(result.probe, {})[result.measure] = _measure(result)
    return probes


def _measure(result: ProbeResult) -> dict[str, Any]:
    return result.model_dump(mode="json", exclude={"probe", "measure"})
