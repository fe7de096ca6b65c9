"""Build the next release with new seeds, and decide whether to publish it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from flows.build import build
from flows.engine import show_decision
from flows.lazy_flow import lazy_flow
from flows.options import takes
from flows.publish import open_hub
from flows.workspace import Workspace, open_workspace, read_recipe
from schemas.options import RefreshOptions
from schemas.recipe import Recipe
from schemas.release import RefreshDecision
from schemas.tables import derived_seed
from tasks.files.tables import write_csv
from tasks.package.compare import decide
from tasks.publish import publish as publish_release
from tasks.release import ReleaseDirectory, find_last_release, open_release
from tasks.release.measuring import continued_recipe
from tasks.run.store import write_bytes

PERIOD = "%G-W%V"
"""A week. All refreshes of a week ask the same questions, so that their answers come from the cache."""


@lazy_flow("refresh")
@takes(RefreshOptions)
def refresh(options: RefreshOptions) -> dict[str, Any]:
    """Build the next release of a recipe and compare it with the last one.

    If nothing changed, nothing happens. A safe release is published. A risky one is proposed in a pull
    request, with a list of items to review.
    """
    workspace = open_workspace()
    releases = options.out or workspace.releases
    written = read_recipe(options.recipe)
    last = find_last_release(releases, written.name)
    before = open_release(Path(last.path)) if last else None
    recipe = next_recipe(written, before, options.period or f"{datetime.date.today():{PERIOD}}")
    path = build.fn(str(write_recipe(workspace, recipe)), out=str(releases), budget_usd=options.budget_usd)
    after = open_release(Path(path))
    decision = decision_of(before, after)
    result: dict[str, Any] = {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "release": path,
        "version": after.manifest.version,
        "review": write_review(workspace, after, decision),
    }
    repo = options.repo or recipe.release.repo
    if decision.verdict != "unchanged" and options.send and repo:
        result["published"] = publish_release(
            after.path,
            repo,
            open_hub(options.token_block),
            private=options.private,
            propose=decision.verdict == "risky",
        ).model_dump(mode="json")
    show_decision(decision, path)
    return result


def next_recipe(written: Recipe, before: ReleaseDirectory | None, period: str) -> Recipe:
    """Return the recipe of the last release, or the written one for the first release, with a new seed.

    The last release decides what is measured. Models, keys, limits, budget and paths are those of the written
    recipe, because the release may have been downloaded. The comparison with the last release decides the
    version.
    """
    recipe = continued_recipe(before.manifest, written) if before else written
    return recipe.model_copy(
        update={
            "seed": derived_seed(written.seed, "refresh", period) % 2**31,
            "release": recipe.release.model_copy(update={"version": None}),
        }
    )


def write_recipe(workspace: Workspace, recipe: Recipe) -> Path:
    """Write the recipe that is built into its run directory."""
    folder = workspace.runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "refresh.yaml"
    write_bytes(path, recipe.model_dump_json(indent=1, by_alias=True).encode())
    return path


def decision_of(before: ReleaseDirectory | None, after: ReleaseDirectory) -> RefreshDecision:
    """Compare two releases and decide: unchanged, safe or risky."""
    # A build without changes returns the last release.
    if before is not None and after.path.resolve() == before.path.resolve():
        unchanged = after.manifest.comparison.model_copy(update={"bump": "none"})
        return decide(unchanged, before.contents, after.contents)
    old = before.contents if before else None
    return decide(after.manifest.comparison, old, after.contents)


def write_review(workspace: Workspace, after: ReleaseDirectory, decision: RefreshDecision) -> str | None:
    """Write the items to review to a CSV file and return its path, or None if there are none."""
    if not decision.review:
        return None
    name = f"{after.manifest.name}-{after.manifest.version}.csv"
    path = workspace.home / "reviews" / name
    write_csv(path, ("kind", "subject", "why"), [r.model_dump() for r in decision.review])
    return str(path)
