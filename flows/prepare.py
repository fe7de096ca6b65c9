"""Prepare a build: read the recipe, check it, estimate it. Nothing is spent here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from flows.workspace import Workspace, open_workspace, read_recipe
from schemas.errors import InputError
from schemas.gate import Passport
from schemas.recipe import Recipe
from tasks.audit.passports import collect_passports
from tasks.estimate import BuildEstimate, estimate, refuse_over_budget
from tasks.files.vocabulary import input_path
from tasks.judges.verdicts import read_judging_rubric
from tasks.models import ModelSettings
from tasks.models.model_families import refuse_shared_families
from tasks.models.preflight import check_models, ping
from tasks.publish.fetching import fetch_release
from tasks.release.references import HubRef
from tasks.run.store import RunContext


@dataclass(frozen=True)
class PreparedBuild:
    """A recipe that can be built, and what that will take."""

    workspace: Workspace
    context: RunContext
    estimate: BuildEstimate
    passports: tuple[Passport, ...]
    """Of the judges, where they were audited."""


def prepare(recipe_path: Path, *, budget_usd: float | None, reach: bool) -> PreparedBuild:
    """Read the recipe, check its models, templates and prices, estimate it.

    With `reach` also refuse an estimate over the budget and knock at every endpoint. Raises `InputError`,
    `BudgetError`, or `GateError` for a judge that may not judge; nothing has been spent then.
    """
    workspace = open_workspace()
    recipe = read_recipe(recipe_path)
    context = workspace.context(recipe, budget_usd=budget_usd)
    settings = ModelSettings.of(context)
    names = recipe.models.all_names()
    semantic = recipe.deduplicate.semantic
    check_models(names, settings, embedders=[semantic.model] if semantic else [])
    check_judges(recipe, settings.data_dir)
    check_files(recipe)
    if reach:
        fetch_earlier(context)
    passports = collect_passports(context, workspace.passports, make_own=reach)
    plan = estimate(context)
    if reach:
        refuse_over_budget(plan)
        asyncio.run(ping(names, settings))
    return PreparedBuild(workspace, context, plan, passports)


def check_judges(recipe: Recipe, data_dir: Path) -> None:
    """What judging needs before anything is spent: a rubric that yields a fitness, an adjudicator that is
    none of the judges, and nobody who judges their own family."""
    read_judging_rubric(data_dir, recipe.judging.rubric)
    if recipe.models.adjudicator in recipe.models.judges:
        raise InputError(
            f"{recipe.models.adjudicator} cannot settle what it is split on itself",
            place="models.adjudicator",
            hint="name a model that is not among `models.judges`",
        )
    refuse_shared_families(recipe.models, data_dir)


def check_files(recipe: Recipe) -> None:
    """Files that the recipe names must be there before anything is spent."""
    for place, path in [
        *(("relabel.files", f.path) for f in recipe.relabel.files),
        *(("deduplicate.against", a) for a in recipe.deduplicate.against if HubRef.of(a) is None),
        *(
            (f"families.{name}.files", file.path)
            for name, family in recipe.families.items()
            for file in family.files
        ),
    ]:
        if not input_path(path).exists():
            raise InputError(
                f"there is no {path}", place=place, hint="paths are relative to where the command is run"
            )


def fetch_earlier(context: RunContext) -> None:
    """Published releases that the questions must stay clear of (`org/name@v1.0.0`), once and for all."""
    for place in context.recipe.deduplicate.against:
        if HubRef.of(place) is not None:
            fetch_release(place, context.hub_cache)
