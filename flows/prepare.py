"""Prepare a build: read, check and estimate its recipe. Nothing is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from flows.workspace import UNNAMED, Workspace, limited_recipe, read_recipe, recipe_workspace, salvage_recipe
from schemas.errors import InputError, Problems
from schemas.gate import Passport
from schemas.places import explain_path
from schemas.recipe import Recipe
from schemas.tables import content_hash
from tasks.audit.passports import collect_passports
from tasks.estimate import BuildEstimate, RefreshWork, estimate, refuse_over_budget
from tasks.expand import NO_TABLE, complete_families, read_own_table
from tasks.families import conditions_of
from tasks.files.own_questions import OwnTable
from tasks.files.vocabulary import input_path, read_attribute, read_concept
from tasks.judges.verdicts import read_judging_rubric
from tasks.models import ModelSettings, run_async
from tasks.models.model_families import refuse_shared_families
from tasks.models.preflight import check_models, describe_missing, ping
from tasks.publish.fetching import fetch_dataset, fetch_release
from tasks.relabel.job import fingerprint_input
from tasks.release.references import HubRef
from tasks.run.store import RunContext, Step, vocabulary_hashes, write_bytes


@dataclass(frozen=True)
class PreparedBuild:
    """A checked recipe with its estimate."""

    workspace: Workspace
    context: RunContext
    estimate: BuildEstimate
    passports: tuple[Passport, ...]
    """Passports of the audited judges."""
    material: Step | None = None
    """The step that made topics of the recipe's material."""
    suspects: tuple[str, ...] = ()
    """Ids of questions of the last release that a model knows by heart."""


def prepare(
    recipe_path: Path,
    *,
    budget_usd: float | None,
    reach: bool,
    limit: int | None = None,
    change: Callable[[Recipe], Recipe] | None = None,
    refresh: Callable[[RunContext], RefreshWork] | None = None,
) -> PreparedBuild:
    """Read a recipe, check its models, templates, files and prices, and estimate it.

    All problems are collected before an error is raised.

    Args:
        recipe_path: Path of the recipe.
        budget_usd: Limit in dollars. The default is the recipe's.
        limit: Number of questions of a limited build. It has a run and a release of its own.
        change: Changes the recipe after it is read, such as its seed.
        refresh: Returns what a refresh adds to the build.
        reach: Also download earlier releases, compare the estimate with the budget, and call every endpoint.

    Raises:
        InputError: If something in the recipe is not usable.
        BudgetError: If the estimate is over the budget, or a price is unknown.
        GateError: If a judge is below the bar and the recipe stops then.
    """
    workspace = recipe_workspace(recipe_path)
    problems = Problems()
    recipe = limited_recipe(read_or_salvage(recipe_path, problems), limit)
    recipe = change(recipe) if change else recipe
    context = workspace.context(recipe, budget_usd=budget_usd)
    if refresh is not None:  # refreshes of one recipe share a run directory, and every period has its budget
        place = Path(context.run_dir) / f"refresh-{recipe.seed}"
        context = context.model_copy(update={"spending_dir": str(place)})
    well_formed = not problems.errors
    own = NO_TABLE
    has_questions = False
    with problems.collect():
        fetch_questions(context)  # a plan counts them, so that it needs them as well
        own = read_own_table(context)
        recipe = complete_families(recipe, own)
        context = context.model_copy(update={"recipe": recipe})
        has_questions = well_formed
    settings = ModelSettings.of(context)
    names = [name for name in recipe.every_model() if name != UNNAMED]
    semantic = recipe.deduplicate.semantic
    with problems.collect():
        check_models(names, settings, embedders=[semantic.model] if semantic else [], keys=reach)
    check_judges(recipe, settings.data_dir, problems)
    check_files(recipe, problems)
    with problems.collect():
        check_suites(recipe)
    check_attributes(recipe, settings.data_dir, problems)
    plan = None
    if has_questions:
        with problems.collect():
            if refresh is not None:
                plan = estimate(context, own, refresh(context))
            else:
                plan = cached_estimate(context, own) if reach else estimate(context, own)
    problems.refuse()
    assert plan is not None
    if reach:
        fetch_earlier(context)
    passports = collect_passports(context, workspace.passports, make_own=reach)
    if reach:
        refuse_over_budget(plan)
        run_async(ping(names, settings))
    else:
        plan = plan.model_copy(
            update={"before_build": (*describe_missing(names, settings), *over_budget(plan))}
        )
    return PreparedBuild(workspace, context, plan, passports)


def read_or_salvage(recipe_path: Path, problems: Problems) -> Recipe:
    """Return the recipe. If its form is wrong, collect these mistakes and return its valid part.

    The other checks then run on the valid part, so that all problems are listed at once.

    Raises:
        InputError: If the recipe has no valid part.
    """
    try:
        return read_recipe(recipe_path)
    except InputError as error:
        part = salvage_recipe(recipe_path)
        if part is None:
            raise
        with problems.collect():
            raise error
    return part


def check_suites(recipe: Recipe) -> None:
    """Raise `InputError` if a suite of `validate.suites` cannot be read."""
    if recipe.validation.suites:
        from tasks.gate.own_suites import read_own_suites  # loads the gate, which a plan does not need

        read_own_suites(recipe.validation.suites)


def cached_estimate(context: RunContext, own: OwnTable) -> BuildEstimate:
    """Return the estimate of a build. A resumed build reads it from the run directory.

    The file is named by a hash of the program version, the recipe, the vocabulary, the own questions and the
    other files that the recipe names.
    """
    from flows.engine import VOCABULARY

    recipe = context.recipe
    named = [
        *(file.path for file in recipe.relabel.files),
        *(file.path for family in recipe.families.values() for file in family.files),
    ]
    parts = {
        "program": {name: version(name) for name in ("counterfoil", "genai-prices")},
        "recipe": recipe.model_dump(mode="json"),
        "budget": context.budget_usd,
        "vocabulary": vocabulary_hashes(Path(context.data_dir), sorted({*VOCABULARY, "prices.yaml"})),
        "questions": [question.model_dump(mode="json") for question in own.questions],
        "files": {path: fingerprint_input(input_path(path)) for path in named if input_path(path).exists()},
    }
    place = Path(context.run_dir) / f"estimate-{content_hash(parts)[:16]}.json"
    try:
        return BuildEstimate.model_validate_json(place.read_bytes())
    except (OSError, ValidationError):
        pass
    plan = estimate(context, own)
    place.parent.mkdir(parents=True, exist_ok=True)
    for old in place.parent.glob("estimate-*.json"):
        old.unlink(missing_ok=True)
    write_bytes(place, plan.model_dump_json().encode())
    return plan


def over_budget(plan: BuildEstimate) -> list[str]:
    """Return a line if the estimate exceeds the budget."""
    if plan.total_cost_usd <= plan.budget_usd:
        return []
    return [f"the estimate of ${plan.total_cost_usd:.2f} exceeds the budget of ${plan.budget_usd:.2f}"]


def check_attributes(recipe: Recipe, data_dir: Path, problems: Problems) -> None:
    """Collect the attributes and conditions of the recipe that do not exist or are not valid."""
    named = [*recipe.attributes, *(a for family in recipe.families.values() for a in family.attributes)]
    for name in dict.fromkeys(named):
        with problems.collect():
            try:
                read_attribute(data_dir, name)
            except InputError as error:
                unknown = error.place == str(data_dir / "attributes")  # a folder of the cache
                place = "attributes" if unknown else error.place
                raise InputError(error.message, place=place, hint=error.hint) from None
    for family in recipe.families:
        with problems.collect():
            conditions_of(recipe, data_dir, family)


def check_judges(recipe: Recipe, data_dir: Path, problems: Problems) -> None:
    """Collect the problems of the rubric and the adjudicator, and models that judge their own family."""
    with problems.collect():
        read_judging_rubric(data_dir, recipe.judging.rubric)
    if recipe.judging.comparison == "pairwise_scored":
        with problems.collect():
            read_concept(data_dir, recipe.judging.concept)
    with problems.collect():
        if recipe.models.adjudicator in recipe.models.judges:
            raise InputError(
                f"{recipe.models.adjudicator} is a judge and the adjudicator",
                place="models.adjudicator",
                hint="choose an adjudicator that is not in `models.judges`",
            )
    with problems.collect():
        refuse_shared_families(recipe.models, data_dir)


def check_files(recipe: Recipe, problems: Problems) -> None:
    """Collect the files of the recipe that do not exist."""
    for place, path in [
        *(("relabel.files", f.path) for f in recipe.relabel.files),
        *(("deduplicate.against", a) for a in recipe.deduplicate.against if HubRef.of(a) is None),
        *(
            (f"families.{name}.files", file.path)
            for name, family in recipe.families.items()
            for file in family.files
        ),
    ]:
        with problems.collect():
            if reason := explain_path(path):
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
