"""Build: a recipe goes in, a verified release comes out.

Each call below is a Prefect task that does its stage or finds it done; what they hand on are references to
tables, never rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows import steps
from flows.evolve import evolve
from flows.preparing import prepare
from tasks.journal import start_journal
from tasks.store import RunContext, run_lock


@flow(name="build", persist_result=False)
def build(
    recipe: Annotated[str, Field(description="Path of the recipe, e.g. data/recipes/quickstart.yaml")],
    out: Annotated[str | None, Field(description="Folder for releases; default: data/releases")] = None,
    budget_usd: Annotated[float | None, Field(ge=0, description="Dollars; overrides the recipe's")] = None,
) -> str:
    """Turn a recipe into a validated release and return its path. Run again, it resumes."""
    prepared = prepare(Path(recipe), budget_usd=budget_usd, reach=True)
    releases = Path(out) if out else prepared.workspace.releases
    with run_lock(Path(prepared.context.run_dir)):
        start_journal(prepared.context)
        return build_release(prepared.context, releases, prepared.estimate.costs)


def build_release(context: RunContext, releases: Path, planned: Any) -> str:
    """The sentence of the pipeline."""
    templated = steps.expand(context, families=context.recipe.templated_families)
    choices = steps.respond(context, questions=templated.table("questions"), phase="search")
    evolved = evolve(context)
    answers = steps.gather(context, parts=[*evolved.tables("responses"), choices.table("responses")])

    relabelled = steps.relabel(context, questions=evolved.archive, responses=answers.table("responses"))
    files = [steps.relabel_retrieval(context, index=i) for i in range(len(context.recipe.relabel.files))]
    pool = steps.gather(context, parts=[relabelled.table("questions"), templated.table("questions")])
    unique = steps.deduplicate(context, questions=pool.table("questions"))

    fresh = steps.respond(context, questions=unique.table("questions"), phase="holdout")
    verdicts = steps.judge(
        context, questions=unique.table("questions"), responses=fresh.table("responses"), phase="holdout"
    )
    everything = steps.gather(context, parts=[answers.table("responses"), fresh.table("responses")])
    judged = steps.gather(context, parts=[*evolved.tables("judgements"), verdicts.table("judgements")])
    measured = steps.measure(
        context,
        questions=unique.table("questions"),
        responses=everything.table("responses"),
        judgements=judged.table("judgements"),
    )
    taken = [templated, choices, *evolved.steps, relabelled, *files, unique, fresh, verdicts, measured]
    assembled = steps.assemble(
        context,
        generated=[templated.table("questions"), *evolved.generated()],
        questions=measured.table("questions"),
        responses=[everything.table("responses")],
        judgements=[judged.table("judgements")],
        label_history=[s.table("label_history") for s in (relabelled, *files)],
        dropped=[s.table("dropped") for s in taken],
        effects=measured.table("effects"),
    )
    return finish(context, assembled, [*taken, assembled], releases, planned)
