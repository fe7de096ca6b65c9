"""Evaluate: a release's questions are put to models, afresh; what they show is measured as in a build.

Parameters are documented under `Args:`, from where Prefect puts them on its form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows import engine as steps
from flows.workspace import Workspace, open_workspace
from schemas.answers import EFFECTS, JUDGEMENTS
from schemas.question import QUESTIONS
from schemas.recipe import Recipe
from schemas.release import Manifest
from schemas.tables import canonical_json, content_hash, file_hash
from tasks.judges.panel import deciding_form
from tasks.models import ModelSettings
from tasks.models.preflight import preflight
from tasks.package.drift import FLOOR_CONTROLS, FitnessByQuestion, judge_drift
from tasks.release import MANIFEST, ReleaseRef, open_release, read_manifest
from tasks.release.hold_back import private_file
from tasks.report import write_evaluation
from tasks.run.store import RunContext, Step, TableRef, read_table, run_lock, write_bytes, write_table


@flow(name="evaluate", persist_result=False)
def evaluate(
    release: str,
    models: Annotated[list[str], Field(min_length=1)],
    judges: list[str] | None = None,
    samples: Annotated[int, Field(ge=2, le=1000)] = 4,
    out: str | None = None,
    budget_usd: Annotated[float, Field(ge=0)] = 0.0,
    free: list[str] | None = None,
    hold_back: str | None = None,
) -> dict[str, Any]:
    """Ask models a release's questions and controls; return and write what they show. Run again, it resumes.

    Args:
        release: Directory of a release.
        models: Models to ask, such as openai:gpt-5-mini.
        judges: Who judges the answers; the release's own judges where none are given.
        samples: Fresh answers per variant of an advice question.
        out: Folder for the result; data/evaluations/<name>-<version> where none is given.
        budget_usd: Dollars that the evaluation may cost.
        free: Models that cost nothing (your own server).
        hold_back: Private file of the release: its questions are asked in the place of the released ones.
    """
    workspace = open_workspace()
    manifest = read_manifest(Path(release))
    recipe = evaluation_recipe(manifest, models, judges or [], samples, free or [])
    context = evaluation_context(workspace, manifest, recipe, budget_usd)
    private = private_file(Path(hold_back), manifest) if hold_back else None
    reach_models(context)
    with run_lock(Path(context.run_dir)):
        measured = measure_models(context, release_ref(Path(release)), private)
    effects = read_table(measured.table("effects"), EFFECTS)
    name = f"{manifest.name}-{manifest.version}" + ("-hold-back" if private else "")
    folder = Path(out) if out else workspace.home / "evaluations" / name
    form = deciding_form(recipe, workspace.vocabulary)
    return write_evaluation(folder, manifest, effects, form, workspace.vocabulary) | {"folder": str(folder)}


def evaluation_recipe(
    manifest: Manifest, models: Sequence[str], judges: Sequence[str], samples: int, free: Sequence[str]
) -> Recipe:
    """The release's own recipe with other models in it; nothing is searched for."""
    said = Recipe.model_validate(manifest.recipe)
    named = {"targets": list(models), "holdout_targets": [], "generator": "recombine"}
    judged = {"judges": list(judges)} if judges else {}
    changed: dict[str, Any] = {
        "name": f"{said.name}-evaluation",
        "models": said.models.model_dump(mode="json") | named | judged,
        "holdout": {"samples": samples},
        "evolve": said.evolve.model_dump(mode="json") | {"rounds": 0},
        "budget": {"usd": 0.0, "free": [*said.budget.free, *free]},
    }
    return Recipe.model_validate(said.model_dump(mode="json", by_alias=True) | changed)


def evaluation_context(
    workspace: Workspace, manifest: Manifest, recipe: Recipe, budget_usd: float
) -> RunContext:
    """A run directory of the release's own, for these models and judges."""
    asked = content_hash([manifest.recipe_hash, manifest.version, recipe.models.model_dump(mode="json")])
    context = workspace.context(recipe, budget_usd=budget_usd)
    place = workspace.runs / f"{manifest.name}-{manifest.version}-evaluation-{asked[:12]}"
    return context.model_copy(update={"run_dir": str(place)})


def reach_models(context: RunContext) -> None:
    """What is wrong with the models is told before anything is spent."""
    models = context.recipe.models
    names = [n for n in (*models.targets, *models.judges, models.adjudicator or "") if ":" in n]
    settings = ModelSettings.of(context)
    preflight(names, settings)


def release_ref(path: Path) -> ReleaseRef:
    """The release as stages name it."""
    return ReleaseRef(path=str(path.resolve()), sha256=file_hash(path / MANIFEST))


def measure_models(context: RunContext, release: ReleaseRef, private: TableRef | None = None) -> Step:
    """The sentence of an evaluation."""
    advice = steps.adopt(context, release=release, part="open", hold_back=private)
    choices = steps.adopt(context, release=release, part="templated", hold_back=private)
    fresh = steps.respond(context, questions=advice.table("questions"), phase="holdout")
    chosen = steps.respond(context, questions=choices.table("questions"), phase="search")
    verdicts = steps.judge(
        context, questions=advice.table("questions"), responses=fresh.table("responses"), phase="holdout"
    )
    questions = steps.gather(context, parts=[advice.table("questions"), choices.table("questions")])
    answers = steps.gather(context, parts=[fresh.table("responses"), chosen.table("responses")])
    return steps.measure(
        context,
        questions=questions.table("questions"),
        responses=answers.table("responses"),
        judgements=verdicts.table("judgements"),
    )


# Rejudge: the answers of a release are judged once more, by another judge; nobody is asked again.
#
# Parameters are documented under `Args:`, from where Prefect puts them on its form.


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
    old = FitnessByQuestion.of(before.contents.rows(JUDGEMENTS), old_form, controls)
    new = FitnessByQuestion.of(said, deciding_form(recipe, workspace.vocabulary), controls)
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
