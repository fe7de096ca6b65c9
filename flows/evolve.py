"""Search for questions: rounds of mutate, respond, judge and select. Round 0 asks the seeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from flows import engine as steps
from flows.lazy_flow import lazy_flow
from schemas.notes import SelectionNotes
from schemas.tables import Row
from tasks.expand import find_source
from tasks.relabel.job import fingerprint_input
from tasks.run.store import RunContext, Step, TableRef


class Evolved(Row):
    """Result of the search."""

    archive: TableRef
    """Judged questions of all rounds."""
    steps: tuple[Step, ...]
    """Every step, in the order in which they were taken."""


@lazy_flow("evolve")
def evolve(context: RunContext, seeds: Step | None = None) -> Evolved:
    """Run all rounds of the recipe. Finished steps are not run again.

    Args:
        context: Context of the run.
        seeds: Questions of round 0. Default: those of the recipe.
    """
    fresh = seeds or expand_open(context)
    chosen: Step | None = None
    taken: list[Step] = []
    for number in range(context.recipe.evolve.rounds + 1):
        one_round = partial(take_round, context, number, fresh, chosen)
        taken += steps.run_round(one_round, context, number)
        chosen = taken[-1]
        if enough_saved(context, chosen):
            break
    assert chosen is not None
    return Evolved(archive=chosen.table("questions"), steps=tuple(taken))


def take_round(context: RunContext, number: int, seeds: Step, chosen: Step | None) -> list[Step]:
    """Run one round and return its steps, the selection last.

    Args:
        context: Context of the run.
        number: Number of the round. Round 0 asks the seeds.
        seeds: The seeds.
        chosen: Selection of the round before.
    """
    fresh = seeds
    if chosen is not None:
        fresh = steps.mutate(context, archive=chosen.table("questions"), round=number)
    answers = steps.respond(context, questions=fresh.table("questions"), phase="search")
    verdicts = steps.judge(
        context,
        questions=fresh.table("questions"),
        responses=answers.table("responses"),
        phase="search",
    )
    selected = steps.select(
        context,
        questions=fresh.table("questions"),
        judgements=verdicts.table("judgements"),
        archive=chosen and chosen.table("questions"),
        round=number,
    )
    return [fresh, answers, verdicts, selected]


def expand_open(context: RunContext) -> Step:
    """Make the open questions of the recipe."""
    return steps.expand(context, families=context.recipe.evolved_families, content=question_content(context))


def question_content(context: RunContext) -> list[str]:
    """Return the hashes of the question files of the recipe."""
    recipe = context.recipe
    files = [file for family in recipe.families.values() for file in family.files]
    own = [find_source(source.path, context.hub_cache) for source in recipe.questions]
    return [fingerprint_input(path) for path in (*(Path(file.path) for file in files), *own)]


def enough_saved(context: RunContext, chosen: Step) -> bool:
    """Return whether `evolve.max_saved` questions are accepted."""
    wanted = context.recipe.evolve.max_saved
    return wanted is not None and chosen.read_notes(SelectionNotes).accepted_in_all >= wanted
