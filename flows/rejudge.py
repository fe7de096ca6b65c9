"""Rejudge: the answers of a release are judged once more, by another judge; nobody is asked again.

Parameters are documented under `Args:`, from where Prefect puts them on its form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows import steps
from flows.evaluate import reach_models, release_ref
from flows.workspace import open_workspace
from schemas.ids import canonical_json, content_hash
from schemas.judgement import JUDGEMENTS
from schemas.manifest import Manifest
from schemas.question import QUESTIONS
from schemas.recipe import Recipe
from tasks.judging.panel import deciding_form
from tasks.release.drift import FLOOR_CONTROLS, Bench, judge_drift
from tasks.release.reading import open_release
from tasks.store import read_table, run_lock, write_bytes, write_table


@flow(name="rejudge", persist_result=False)
def rejudge(
    release: str,
    judges: Annotated[list[str], Field(min_length=1)],
    out: str | None = None,
    budget_usd: Annotated[float, Field(ge=0)] = 0.0,
    free: list[str] | None = None,
) -> dict[str, Any]:
    """Judge a release's hold-out answers again and report the drift. Run again, it resumes.

    Args:
        release: Directory of a release.
        judges: Who judges now: divergence, or models.
        out: Folder for the result; data/rejudgements/<name>-<version> where none is given.
        budget_usd: Dollars that the judges may cost.
        free: Models that cost nothing (your own server).
    """
    workspace = open_workspace()
    before = open_release(Path(release))
    recipe = rejudging_recipe(before.manifest, judges, free or [])
    asked = content_hash([before.manifest.recipe_hash, before.manifest.version, judges])
    place = workspace.runs / f"{before.manifest.name}-{before.manifest.version}-rejudging-{asked[:12]}"
    context = workspace.context(recipe, budget_usd=budget_usd).model_copy(update={"run_dir": str(place)})
    reach_models(context)
    with run_lock(place):
        given = steps.adopt(context, release=release_ref(before.path), part="open", answers=True)
        verdicts = steps.judge(
            context,
            questions=given.table("questions"),
            responses=given.table("responses"),
            phase="holdout",
        )
    questions = read_table(given.table("questions"), QUESTIONS)
    said = read_table(verdicts.table("judgements"), JUDGEMENTS)
    controls = {q.id for q in questions if q.control in FLOOR_CONTROLS}
    old_recipe = Recipe.model_validate(before.manifest.recipe)
    old_form = deciding_form(old_recipe, workspace.vocabulary)
    old = Bench.of(before.contents.rows(JUDGEMENTS), old_form, controls)
    new = Bench.of(said, deciding_form(recipe, workspace.vocabulary), controls)
    name = f"{before.manifest.name}-{before.manifest.version}"
    folder = Path(out) if out else workspace.home / "rejudgements" / name
    folder.mkdir(parents=True, exist_ok=True)
    result = {"release": before.manifest.name, "version": before.manifest.version} | judge_drift(
        questions, old, new
    )
    write_table(folder / "judgements.parquet", JUDGEMENTS, said)
    write_bytes(folder / "drift.json", (canonical_json(result) + "\n").encode())
    return result | {"folder": str(folder)}


def rejudging_recipe(manifest: Manifest, judges: list[str], free: list[str]) -> Recipe:
    """The release's own recipe with other judges."""
    said = Recipe.model_validate(manifest.recipe).model_dump(mode="json", by_alias=True)
    said["models"] |= {"judges": judges, "adjudicator": None}
    said["budget"] = {"usd": 0.0, "free": [*said["budget"]["free"], *free]}
    said["name"] = f"{said['name']}-rejudging"
    return Recipe.model_validate(said)
