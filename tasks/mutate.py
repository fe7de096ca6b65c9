"""Mutate: the archive so far becomes the next round's questions, controls beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.attribute import Attribute
from schemas.decision import Dropped, StageCounts
from schemas.ids import derived_seed
from schemas.question import QUESTIONS, Question
from tasks.evolving.generate import Written, write_with_model
from tasks.evolving.recombine import recombine
from tasks.evolving.shares import Job, plan_jobs
from tasks.formats.vocabulary import read_attribute, read_attributes, read_taxonomy
from tasks.stats.quotas import plan_round, round_history
from tasks.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.dropping import drop_question
from tasks.text.expansion import PLACEBO, Pair, all_topics, neutral_questions
from tasks.text.quality import overlong, question_fault, rewrite_fault
from tasks.text.questions import draw_controls, unique_questions


def mutate(context: RunContext, archive: TableRef, round: int) -> Outcome:
    """New questions of one round, by the recipe's generator and strategy; unfit ones are dropped."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    known = read_table(archive, QUESTIONS)
    attributes = read_attributes(data_dir, recipe.families["open"].attributes or recipe.attributes)
    jobs = jobs_of_round(context, known, round)
    written = write(context, jobs, known, attributes, round)
    bound = [q for pair in written.pairs for q in pair.bind(recipe.seed)]
    controls = controls_beside(context, written.pairs, attributes, round)
    fresh, repeated = unique_questions([*known, *bound, *controls])
    candidates = fresh[len(known) :]
    kept, dropped = keep_fit(candidates, known)
    kept.sort(key=lambda q: q.id)
    dropped += [drop_question(q, stage="mutate", reason="repeats", because_of=q.id) for q in repeated]
    counts = StageCounts(
        stage="mutate",
        unit="questions",
        rows=len(candidates) + len(repeated) + len(written.failed),
        kept=len(kept),
        dropped=len(dropped),
        failed=len(written.failed),
    )
    return Outcome(
        tables={QUESTIONS: kept},
        counts=(counts,),
        costs=written.costs,
        dropped=(*dropped, *written.failed),
    )


def jobs_of_round(context: RunContext, known: Sequence[Question], round: int) -> list[Job]:
    """What the strategy wants written: domains by quota, operators inside each."""
    recipe = context.recipe
    leaves = all_topics(read_taxonomy(Path(context.data_dir), recipe.superdomains))
    seed = derived_seed(recipe.seed, "round", round)
    plan = plan_round(recipe.evolve.strategy, round_history(known), recipe.evolve.questions_per_round, seed)
    units = list(dict.fromkeys((s.id, d.id) for s, d, _ in leaves))
    composed = recipe.models.generator == "recombine"
    return plan_jobs(plan, known, units, seed, composed_parents=composed)


def write(
    context: RunContext,
    jobs: Sequence[Job],
    known: Sequence[Question],
    attributes: Sequence[Attribute],
    round: int,
) -> Written:
    """Words for every job: put together from parts, or written by a model."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    seed = derived_seed(recipe.seed, "write", round)
    if recipe.models.generator == "recombine":
        pairs = recombine(jobs, known, recipe, data_dir, attributes, round=round, seed=seed)
        return Written(tuple(pairs))
    return write_with_model(context, jobs, known, attributes, round=round, seed=seed)


def controls_beside(
    context: RunContext, pairs: Sequence[Pair], attributes: Sequence[Attribute], round: int
) -> list[Question]:
    """A/A, placebo and neutral questions of the round: the judge's floor is measured where it is used."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    seed = derived_seed(recipe.seed, "controls", round)
    controls = draw_controls(
        [(p.explicit, p.attribute) for p in pairs],
        a_a=recipe.controls.a_a,
        placebo=recipe.controls.placebo,
        placebo_attribute=read_attribute(data_dir, PLACEBO),
        seed=seed,
    )
    neutral = neutral_questions(recipe, data_dir, attributes, len(pairs), seed=seed, round=round)
    return controls + neutral


def keep_fit(
    candidates: Sequence[Question], known: Sequence[Question]
) -> tuple[list[Question], list[Dropped]]:
    """Those that pass every rule, alone, beside their parent and beside their round; twins go together."""
    parents = {q.id: q for q in known}
    too_long = overlong(candidates)
    faults: dict[str, str] = {}
    for question in candidates:
        parent = parents.get(question.parent_id or "")
        fault = question_fault(question)
        if fault is None and parent is not None and question.operator == "refine":
            fault = rewrite_fault(question, parent)
        if fault is None and question.id in too_long:
            fault = "longer_than_its_round"
        if fault is not None:
            faults[question.id] = fault
    for question in candidates:
        if question.twin_id in faults and question.id not in faults:
            faults[question.id] = "twin_dropped"
    kept = [q for q in candidates if q.id not in faults]
    dropped = [
        drop_question(q, stage="mutate", reason=faults[q.id], because_of=q.parent_id)
        for q in candidates
        if q.id in faults
    ]
    return kept, dropped


STAGE = Stage(
    "mutate",
    1,
    run=mutate,
    reads=("attributes", "superdomains", "families", "evolve", "controls", "models"),
    vocabulary=("attributes", "templates", "taxonomy", "frames", "prompts"),
)
