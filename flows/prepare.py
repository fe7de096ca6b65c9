"""Prepare a build: read, check and estimate its recipe. Nothing is spent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.workspace import Workspace, read_recipe, recipe_workspace
from schemas.errors import InputError
from schemas.gate import Passport
from schemas.places import explain_remote
from schemas.recipe import Recipe
from tasks.audit.passports import collect_passports
from tasks.estimate import BuildEstimate, estimate, refuse_over_budget
from tasks.expand import complete_families, read_own_table
from tasks.files.vocabulary import input_path
from tasks.judges.verdicts import read_judging_rubric
from tasks.models import ModelSettings, run_async
from tasks.models.model_families import refuse_shared_families
from tasks.models.preflight import check_models, ping
from tasks.publish.fetching import fetch_dataset, fetch_release
from tasks.release.references import HubRef
from tasks.run.store import RunContext


@dataclass(frozen=True)
class PreparedBuild:
    """A checked recipe with its estimate."""

    workspace: Workspace
    context: RunContext
    estimate: BuildEstimate
    passports: tuple[Passport, ...]
    """Passports of the audited judges."""


def prepare(recipe_path: Path, *, budget_usd: float | None, reach: bool) -> PreparedBuild:
    """Read a recipe, check its models, templates, files and prices, and estimate it.

    Args:
        recipe_path: Path of the recipe.
        budget_usd: Limit in dollars. The default is the recipe's.
        reach: Also download earlier releases, compare the estimate with the budget, and call every endpoint.

    Raises:
        InputError: If something in the recipe is not usable.
        BudgetError: If the estimate is over the budget, or a price is unknown.
        GateError: If a judge is below the bar and the recipe stops then.
    """
    workspace = recipe_workspace(recipe_path)
    recipe = read_recipe(recipe_path)
    context = workspace.context(recipe, budget_usd=budget_usd)
    if reach:
        fetch_questions(context)
    own = read_own_table(context)
    recipe = complete_families(recipe, own)
    context = context.model_copy(update={"recipe": recipe})
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
        run_async(ping(names, settings))
    return PreparedBuild(workspace, context, plan, passports)


def check_judges(recipe: Recipe, data_dir: Path) -> None:
    """Check the rubric, the adjudicator, and that no model judges its own family.

    Raises:
        InputError: If the rubric gives no fitness, the adjudicator is a judge, or families are shared.
    """
    read_judging_rubric(data_dir, recipe.judging.rubric)
    if recipe.models.adjudicator in recipe.models.judges:
        raise InputError(
            f"{recipe.models.adjudicator} is a judge and the adjudicator",
            place="models.adjudicator",
            hint="choose an adjudicator that is not in `models.judges`",
        )
    refuse_shared_families(recipe.models, data_dir)


def check_files(recipe: Recipe) -> None:
    """Raise `InputError` if a file of the recipe does not exist."""
    for place, path in [
        *(("relabel.files", f.path) for f in recipe.relabel.files),
        *(("deduplicate.against", a) for a in recipe.deduplicate.against if HubRef.of(a) is None),
        *(
            (f"families.{name}.files", file.path)
            for name, family in recipe.families.items()
            for file in family.files
        ),
    ]:
        if reason := explain_remote(path):
            raise InputError(reason, place=place)
        if not input_path(path).exists():
            raise InputError(
                f"there is no {path}", place=place, hint="paths are relative to the working directory"
            )


def fetch_questions(context: RunContext) -> None:
    """Download the published datasets that own questions are read from (`org/dataset@tag`)."""
    for source in context.recipe.questions:
        if HubRef.of(source.path) is not None:
            fetch_dataset(source.path, context.hub_cache)


def fetch_earlier(context: RunContext) -> None:
    """Download the published releases that the questions must not overlap (`org/name@v1.0.0`)."""
    for place in context.recipe.deduplicate.against:
        if HubRef.of(place) is not None:
            fetch_release(place, context.hub_cache)
