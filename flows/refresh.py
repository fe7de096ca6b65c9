"""Build the next release with new seeds, and decide whether to publish it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.build import run_build
from flows.engine import describe_decision, show_decision
from flows.evaluate import run_evaluation
from flows.lazy_flow import lazy_flow
from flows.material import add_material, read_sources
from flows.next_refresh import find_linked, last_release, prepare_refresh, probe_options, this_period
from flows.options import read_options, takes
from flows.outputs import check_releases_folder
from flows.publish import open_hub
from flows.workspace import Workspace, open_workspace, read_recipe
from schemas.errors import InputError
from schemas.options import EvaluateOptions, RefreshOptions
from schemas.recipe import Recipe
from schemas.release import RefreshDecision, ReviewItem
from tasks.files.tables import write_csv
from tasks.models.budget import spent_in
from tasks.package.decide import decide
from tasks.publish import publish as publish_release
from tasks.release import ReleaseDirectory, ReleaseRef, open_release
from tasks.release.recipe_changes import RecipeChange, compare_recipes
from tasks.report.chain import change_since
from tasks.report.contamination import not_probed
from tasks.run.store import RunContext


@lazy_flow("refresh")
@takes(RefreshOptions)
def refresh(options: RefreshOptions) -> dict[str, Any]:
    """Build the next release of a recipe and compare it with the last one.

    If nothing changed, nothing happens. A safe release is published. A risky one is proposed in a pull
    request, with a list of items to review.
    """
    workspace = open_workspace()
    releases = options.out or workspace.releases
    check_releases_folder(releases)
    before = last_release(releases, read_recipe(options.recipe).name)
    prepared = prepare_refresh(
        options.recipe,
        before,
        period=options.period or this_period(),
        contamination=options.contamination,
        budget_usd=options.budget_usd,
        reach=True,
    )
    changes = recipe_changes(before, prepared.context.recipe)
    if not options.accept_changes:
        refuse_changes(before, changes)
    linked = find_linked(before, prepared.context.recipe.seed)
    contamination = probe_last(linked, prepared.context, options)
    prepared = replace(prepared, suspects=reproduced_questions(contamination))
    if prepared.context.recipe.refresh.material:
        items = read_sources(prepared.context.recipe, prepared.context.hub_cache)
        prepared = add_material(prepared, items)
    path = run_build(prepared, releases, linked=linked)
    after = open_release(Path(path))
    recipe, data_dir = prepared.context.recipe, prepared.workspace.vocabulary
    decision = with_contamination(decision_of(before, after, recipe, data_dir), contamination)
    result: dict[str, Any] = {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "release": path,
        "version": after.manifest.version,
        "review": write_review(workspace, after, decision),
        "recipe_changes": [change.model_dump(mode="json") for change in changes],
        "slices": [slice_.model_dump(mode="json") for slice_ in decision.slices],
        "equated": change_since(after, recipe.refresh.base, data_dir),
        "contamination": contamination,
        "cost_usd": spent_in(prepared.context.spending_path),
    }
    repo = options.repo or recipe.release.repo
    if decision.verdict != "unchanged" and options.send and repo:
        result["published"] = publish_release(
            after.path,
            repo,
            open_hub(options.token_block),
            private=options.private,
            propose=decision.verdict == "risky",
            description=describe_decision(decision, after, data_dir, changes),
        ).model_dump(mode="json")
    show_decision(decision, after, data_dir, changes)
    return result


def recipe_changes(before: ReleaseDirectory | None, recipe: Recipe) -> tuple[RecipeChange, ...]:
    """Return the keys of the recipe that differ from those of the last release."""
    if before is None:
        return ()
    return compare_recipes(before.manifest.recipe, recipe.model_dump(mode="json", by_alias=True))


def refuse_changes(before: ReleaseDirectory | None, changes: tuple[RecipeChange, ...]) -> None:
    """Raise `InputError` if a change alters the meaning of scores. All of them are named."""
    altered = [change for change in changes if change.meaning]
    if before is None or not altered:
        return
    lines = "\n".join(f"  {change}" for change in altered)
    raise InputError(
        f"the recipe changes the meaning of scores since {before.manifest.name} {before.manifest.version}:\n"
        f"{lines}",
        hint="undo the changes, or add --accept-changes for a new major version, or give the recipe another "
        "`name` to begin a new series",
    )


def decision_of(
    before: ReleaseDirectory | None, after: ReleaseDirectory, recipe: Recipe, data_dir: Path
) -> RefreshDecision:
    """Compare two releases and decide: unchanged, safe or risky."""
    comparison = after.manifest.comparison
    # A build without changes returns the last release.
    if before is not None and after.path.resolve() == before.path.resolve():
        comparison = comparison.model_copy(update={"bump": "none"})
    return decide(
        comparison,
        before.contents if before else None,
        after.contents,
        data_dir,
        margin=recipe.refresh.margin,
        margins=recipe.refresh.margins,
        min_coverage=recipe.validation.min_coverage,
    )


def probe_last(linked: ReleaseRef | None, context: RunContext, options: RefreshOptions) -> dict[str, Any]:
    """Test if the targets know the questions of the last release, which were published.

    The tests are those of `evaluate --contamination`, with the judges of the recipe. They come before the
    build, which spends the rest of the budget.

    Args:
        linked: The last release of an earlier period.
        context: The recipe, budget and spending record of the new release.
        options: Options of the command.
    """
    if not options.contamination:
        return not_probed("the models were not probed; add --contamination")
    if linked is None:
        return not_probed("there is no earlier release")
    last = open_release(Path(linked.path))
    chosen = probe_options(last, context.recipe, options.recipe, context.budget_usd)
    evaluated = run_evaluation(read_options(EvaluateOptions, chosen), context.spending_path)
    found: dict[str, Any] = evaluated["contamination"]
    return found


def reproduced_questions(contamination: dict[str, Any]) -> tuple[str, ...]:
    """Return the ids of the questions that a flagged model reproduced."""
    flagged = [model["reproduced"] for model in contamination["models"] if model["flagged"]]
    return tuple(sorted({question for ids in flagged for question in ids}))


def with_contamination(decision: RefreshDecision, contamination: dict[str, Any]) -> RefreshDecision:
    """Return the decision, which is not safe if a model knows the published questions."""
    items = []
    for model in contamination["models"]:
        tests = [
            f"{test['test']} (p = {test['corrected']:.2g}, effect {test['effect']:+.2f})"
            for test in model["tests"]
            if test["flagged"]
        ]
        if tests:
            why = f"it knows the published questions: {', '.join(tests)}"
            items.append(ReviewItem(kind="contamination", subject=model["model"], why=why))
    if not items or decision.verdict == "unchanged":
        return decision
    reasons = () if decision.verdict == "safe" else decision.reasons
    return decision.model_copy(
        update={
            "verdict": "risky",
            "reasons": (*reasons, *(f"contamination: {item.subject}: {item.why}" for item in items)),
            "review": (*decision.review, *items),
        }
    )


def write_review(workspace: Workspace, after: ReleaseDirectory, decision: RefreshDecision) -> str | None:
    """Write the items to review to a CSV file and return its path, or None if there are none."""
    if not decision.review:
        return None
    name = f"{after.manifest.name}-{after.manifest.version}.csv"
    path = workspace.home / "reviews" / name
    write_csv(path, ("kind", "subject", "why"), [r.model_dump() for r in decision.review])
    return str(path)
