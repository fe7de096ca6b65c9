"""The recipe of the next refresh, the release that it is linked to, and its estimate."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flows.prepare import PreparedBuild, prepare
from flows.workspace import open_workspace, read_recipe
from schemas.errors import InputError
from schemas.options import EvaluateOptions, PlanOptions
from schemas.recipe import Recipe
from schemas.release import Manifest
from schemas.tables import derived_seed, file_hash
from tasks.estimate import BuildEstimate, RefreshWork
from tasks.estimate.refresh import Probe, plan_refresh
from tasks.release import (
    MANIFEST,
    ReleaseDirectory,
    ReleaseRef,
    find_earlier_release,
    find_last_release,
    open_release,
)
from tasks.run.store import RunContext

PERIOD = "%G-W%V"
"""A week. All refreshes of a week ask the same questions, so that their answers come from the cache."""


def this_period() -> str:
    """Return the current week."""
    return f"{datetime.date.today():{PERIOD}}"


def last_release(releases: Path, name: str) -> ReleaseDirectory | None:
    """Open the last release of a benchmark. `None` if there is none."""
    last = find_last_release(releases, name)
    return open_release(Path(last.path)) if last else None


def next_recipe(written: Recipe, period: str) -> Recipe:
    """Return the written recipe with the seed of the period. Its version follows from the changes.

    The written recipe decides everything. The last release may have been downloaded, and is only compared.
    """
    return written.model_copy(
        update={
            "seed": derived_seed(written.seed, "refresh", period) % 2**31,
            "release": written.release.model_copy(update={"version": None}),
        }
    )


def find_linked(last: ReleaseDirectory | None, seed: int) -> ReleaseRef | None:
    """Return the release of the questions that are carried over: the last one of an earlier period.

    A refresh that is repeated in its period finds its own release, and is linked to the one before it.

    Args:
        last: The last release.
        seed: Seed of the period.
    """
    while last is not None and last.manifest.seed == seed:
        last = find_earlier_release(last)
    return ReleaseRef(path=str(last.path), sha256=file_hash(last.path / MANIFEST)) if last else None


def prepare_refresh(
    recipe: Path,
    before: ReleaseDirectory | None,
    *,
    period: str,
    contamination: bool,
    budget_usd: float | None,
    reach: bool,
) -> PreparedBuild:
    """Read, check and estimate the recipe of a refresh, with anchors, material and a test for contamination.

    Args:
        recipe: Path of the recipe.
        before: The last release.
        period: Period that determines the seeds.
        contamination: Whether the targets are tested for contamination.
        budget_usd: Limit in dollars. The default is the recipe's.
        reach: As in `prepare`.
    """

    def work(context: RunContext) -> RefreshWork:
        probe, linked = None, find_linked(before, context.recipe.seed)
        if contamination and linked is not None:
            last = open_release(Path(linked.path))
            probe = probe_of(last, probe_options(last, context.recipe, recipe, budget_usd))
        return plan_refresh(context, linked, probe)

    change: Callable[[Recipe], Recipe] = partial(next_recipe, period=period)
    return prepare(recipe, budget_usd=budget_usd, reach=reach, change=change, refresh=work)


def probe_options(
    before: ReleaseDirectory, recipe: Recipe, recipe_path: Path, budget_usd: float | None
) -> dict[str, Any]:
    """Return the options of `evaluate` that test if the targets know the questions of the last release.

    The judges are those of the recipe.
    """
    return {
        "release": str(before.path),
        "models": list(recipe.models.targets),
        "recipe": str(recipe_path),
        "budget_usd": budget_usd if budget_usd is not None else recipe.budget.usd,
        "free": list(recipe.budget.free),
        "contamination": True,
    }


def probe_of(before: ReleaseDirectory, values: dict[str, Any]) -> Probe:
    """Return the test for contamination, without running it."""
    from flows.evaluate import evaluation_context, evaluation_recipe, find_private_file

    options = EvaluateOptions.model_validate(values)
    manifest: Manifest = before.manifest
    workspace = open_workspace().with_attributes(options.release)
    context = evaluation_context(
        workspace, manifest, evaluation_recipe(manifest, options), options.budget_usd
    )
    private = find_private_file(options, workspace, manifest)
    return Probe(context, before, Path(private.path) if private else None)


def plan_next_refresh(options: PlanOptions) -> BuildEstimate:
    """Estimate the next refresh of a recipe offline."""
    releases = options.out or open_workspace().releases
    try:
        before = last_release(releases, read_recipe(options.recipe).name)
    except InputError:
        before = None  # `prepare` lists all problems of the recipe
    prepared = prepare_refresh(
        options.recipe,
        before,
        period=options.period or this_period(),
        contamination=options.contamination,
        budget_usd=None,
        reach=False,
    )
    return prepared.estimate
