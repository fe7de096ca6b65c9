"""Refresh: the last release is built again with new seeds; what changed decides whether it goes out.

Parameters are documented under `Args:`, from where Prefect puts them on its form.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.build import build
from flows.engine import show_decision
from flows.publish import run_publish
from flows.workspace import Workspace, open_workspace, read_recipe
from schemas.recipe import Recipe
from schemas.release import RefreshDecision
from schemas.tables import derived_seed
from tasks.files.tables import write_csv
from tasks.package.compare import decide
from tasks.release import ReleaseDirectory, last_release, open_release
from tasks.run.store import write_bytes

PERIOD = "%G-W%V"
"""A week: all refreshes of one week ask the same questions, and answers come from the cache."""


@flow(name="refresh", persist_result=False)
def refresh(
    recipe: str,
    period: str | None = None,
    repo: str | None = None,
    send: bool = True,
    private: bool = False,
    token_block: str | None = None,
    out: str | None = None,
    budget_usd: Annotated[float | None, Field(ge=0)] = None,
) -> dict[str, Any]:
    """Build the next release of a recipe and decide: unchanged, nothing happens; risky, a pull request and a
    list for people to look at; safe, it is published.

    Args:
        recipe: Path of the recipe that the first release is made with; later ones use the last release's own.
        period: Decides the seeds, such as 2026-W47; the current week where none is given.
        repo: Dataset on the Hub, such as org/everyday-advice; the recipe's where none is given.
        send: Publish or propose; without it, the release stays in its folder.
        private: Create the dataset private.
        token_block: Name of the Prefect Secret block with the Hub's token; HF_TOKEN where none is given.
        out: Folder for releases; data/releases where none is given.
        budget_usd: Dollars that the build may cost; the recipe's where none are given.
    """
    workspace = open_workspace()
    releases = Path(out) if out else workspace.releases
    written = read_recipe(Path(recipe))
    found = last_release(releases, written.name)
    before = open_release(Path(found.path)) if found else None
    fresh = next_recipe(written, before, period or f"{datetime.date.today():{PERIOD}}")
    place = build.fn(str(write_recipe(workspace, fresh)), out=str(releases), budget_usd=budget_usd)
    after = open_release(Path(place))
    decision = decision_of(before, after)
    result: dict[str, Any] = {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "release": place,
        "version": after.manifest.version,
        "review": write_review(workspace, after, decision),
    }
    where = repo or fresh.release.repo
    if decision.verdict != "unchanged" and send and where:
        result["published"] = run_publish(
            after.path, where, private=private, propose=decision.verdict == "risky", token_block=token_block
        )
    show_decision(decision, place)
    return result


def next_recipe(written: Recipe, before: ReleaseDirectory | None, period: str) -> Recipe:
    """The last release's recipe, or the written one for the first release, with the period's seed. The
    version is for the comparison to decide."""
    said = Recipe.model_validate(before.manifest.recipe) if before else written
    return said.model_copy(
        update={
            "seed": derived_seed(written.seed, "refresh", period) % 2**31,
            "release": said.release.model_copy(update={"version": None}),
        }
    )


def write_recipe(workspace: Workspace, recipe: Recipe) -> Path:
    """The recipe that is built, where people can see it."""
    folder = workspace.runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "refresh.yaml"
    write_bytes(path, recipe.model_dump_json(indent=1, by_alias=True).encode())
    return path


def decision_of(before: ReleaseDirectory | None, after: ReleaseDirectory) -> RefreshDecision:
    """What became of it; a build that changed nothing gives the last release itself."""
    if before is not None and after.path.resolve() == before.path.resolve():
        unchanged = after.manifest.comparison.model_copy(update={"bump": "none"})
        return decide(unchanged, before.contents, after.contents)
    old = before.contents if before else None
    return decide(after.manifest.comparison, old, after.contents)


def write_review(workspace: Workspace, after: ReleaseDirectory, decision: RefreshDecision) -> str | None:
    """What people should look at, as a sheet; none where there is nothing."""
    if not decision.review:
        return None
    name = f"{after.manifest.name}-{after.manifest.version}.csv"
    path = workspace.home / "reviews" / name
    write_csv(path, ("kind", "subject", "why"), [r.model_dump() for r in decision.review])
    return str(path)
