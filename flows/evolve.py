"""Evolve: mutate, ask, judge, select; round after round. Round 0 asks the seeds."""

from __future__ import annotations

import json
from pathlib import Path

from prefect import flow

from flows import engine as steps
from schemas.recipe import Recipe
from schemas.tables import Row
from tasks.relabel.file import fingerprint_input
from tasks.run.store import RunContext, Step, TableRef


class Evolved(Row):
    """What evolution leaves: the archive of judged questions, and every step that led to it."""

    archive: TableRef
    steps: tuple[Step, ...]

    def tables(self, name: str) -> tuple[TableRef, ...]:
        """The tables of that name, step by step."""
        return tuple(ref for step in self.steps for ref in step.tables if ref.table == name)

    def generated(self) -> tuple[TableRef, ...]:
        """The questions that were made, round by round."""
        made = [s for s in self.steps if s.stage in ("expand", "mutate")]
        return tuple(s.table("questions") for s in made)


@flow(name="evolve", persist_result=False)
def evolve(context: RunContext) -> Evolved:
    """All rounds of the recipe; each sub-step is found done when it was done before."""
    fresh = steps.expand(
        context, families=context.recipe.evolved_families, content=question_content(context.recipe)
    )
    chosen: Step | None = None
    taken: list[Step] = []
    for number in range(context.recipe.evolve.rounds + 1):
        if chosen is not None:
            fresh = steps.mutate(context, archive=chosen.table("questions"), round=number)
        answers = steps.respond(context, questions=fresh.table("questions"), phase="search")
        verdicts = steps.judge(
            context,
            questions=fresh.table("questions"),
            responses=answers.table("responses"),
            phase="search",
        )
        chosen = steps.select(
            context,
            questions=fresh.table("questions"),
            judgements=verdicts.table("judgements"),
            archive=chosen and chosen.table("questions"),
            round=number,
        )
        taken += [fresh, answers, verdicts, chosen]
        if enough_saved(context, chosen):
            break
    assert chosen is not None
    return Evolved(archive=chosen.table("questions"), steps=tuple(taken))


def question_content(recipe: Recipe) -> list[str]:
    """Hashes of the question files that the recipe reads in."""
    files = [file for family in recipe.families.values() for file in family.files]
    return [fingerprint_input(Path(file.path)) for file in files]


def enough_saved(context: RunContext, chosen: Step) -> bool:
    """Whether as many questions are accepted as the recipe asks for."""
    wanted = context.recipe.evolve.max_saved
    return wanted is not None and int(json.loads(chosen.notes)["accepted_in_all"]) >= wanted
