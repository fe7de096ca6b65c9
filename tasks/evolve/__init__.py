"""Mutate: the archive so far becomes the next round's questions, controls beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas.labels import Dropped, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, Superdomain
from tasks.evolve.explore import Explored, open_units
from tasks.evolve.generate import FAULT, FluencyCheck, Written, read_variants, write_with_model
from tasks.evolve.jobs import SearchState, WritingJob, costs_of_calls
from tasks.evolve.recombine import recombine
from tasks.evolve.strategies import plan_jobs
from tasks.files.vocabulary import read_attributes, read_taxonomy
from tasks.questions.binding import draw_controls, unique_questions
from tasks.questions.composition import DraftPair, neutral_questions, read_placebo, wants_names
from tasks.questions.quality import drop_question, overlong, question_fault, rewrite_fault
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table


def mutate(context: RunContext, archive: TableRef, round: int) -> Outcome:
    """New questions of one round, by the recipe's generator and strategy; unfit ones are dropped.

    Calls are cached one by one: a round that was killed anywhere pays for nothing again.
    """
    recipe, data_dir = context.recipe, Path(context.data_dir)
    known = read_table(archive, QUESTIONS)
    attributes = read_attributes(data_dir, recipe.families["open"].attributes or recipe.attributes)
    languages = {attribute.language for attribute in attributes}
    taxonomy = [s for s in read_taxonomy(data_dir, recipe.superdomains) if s.language in languages]
    search = search_of(context, known, attributes, taxonomy, round)
    explored = open_units(context, plan_jobs(recipe.evolve.strategy, search), search, taxonomy, round)
    written = write(context, explored.jobs, known, attributes, taxonomy, round)
    bound = [q for pair in written.pairs for q in pair.bind(recipe.seed)]
    controls = controls_beside(context, written.pairs, attributes, round)
    fresh, repeated = unique_questions([*known, *bound, *controls])
    candidates = fresh[len(known) :]
    faults = faults_by_rule(candidates, known)
    reading = read_variants(context, [q for q in candidates if q.id not in faults])
    faults = with_twins(candidates, faults | dict.fromkeys(reading.unfit, FAULT))
    kept = sorted((q for q in candidates if q.id not in faults), key=lambda q: q.id)
    dropped = [drop_unfit(q, faults[q.id]) for q in candidates if q.id in faults]
    dropped += [drop_question(q, stage="mutate", reason="repeats", because_of=q.id) for q in repeated]
    counts = StageCounts(
        stage="mutate",
        unit="questions",
        rows=len(candidates) + len(repeated) + len(written.failed),
        kept=len(kept),
        dropped=len(dropped),
        failed=len(written.failed),
    )
    generated = [(recipe.models.generator, spent) for spent in (*explored.spent, *written.spent)]
    return Outcome(
        tables={QUESTIONS: kept},
        counts=(counts,),
        costs=costs_of_calls([*generated, *((reading.reader, spent) for spent in reading.spent)]),
        dropped=(*dropped, *written.failed),
        notes=json.dumps(describe_round(explored, reading, round), sort_keys=True),
    )


def search_of(
    context: RunContext,
    known: Sequence[Question],
    attributes: Sequence[Attribute],
    taxonomy: Sequence[Superdomain],
    round: int,
) -> SearchState:
    """What the strategy may know. Without a model, questions come from the taxonomy and from parents whose
    parts are known; with one, domains that earlier rounds opened count like those of the taxonomy."""
    recipe = context.recipe
    writes = recipe.models.generator != "recombine"
    asked = [q for q in known if q.family == "open" and q.control == "none"]
    opened = sorted({(q.superdomain, q.domain) for q in asked}) if writes else []
    return SearchState(
        archive=known,
        units=tuple(dict.fromkeys([*((s.id, d.id) for s in taxonomy for d in s.domains), *opened])),
        attributes=[a.id for a in attributes],
        questions=recipe.evolve.questions_per_round,
        seed=derived_seed(recipe.seed, "round", round),
        named=[a.id for a in attributes if wants_names(recipe.families["open"], a)],
        composed_parents=not writes,
        opens_units=writes,
        speaking={s.id: [a.id for a in attributes if a.language == s.language] for s in taxonomy},
    )


def write(
    context: RunContext,
    jobs: Sequence[WritingJob],
    known: Sequence[Question],
    attributes: Sequence[Attribute],
    taxonomy: Sequence[Superdomain],
    round: int,
) -> Written:
    """Words for every job: put together from parts, or written by a model."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    seed = derived_seed(recipe.seed, "write", round)
    if recipe.models.generator == "recombine":
        pairs = recombine(jobs, known, recipe, data_dir, attributes, round=round, seed=seed)
        return Written(tuple(pairs))
    return write_with_model(context, jobs, known, attributes, taxonomy, round=round, seed=seed)


def controls_beside(
    context: RunContext, pairs: Sequence[DraftPair], attributes: Sequence[Attribute], round: int
) -> list[Question]:
    """A/A, placebo and neutral questions of the round: the judge's floor is measured where it is used."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    seed = derived_seed(recipe.seed, "controls", round)
    controls = [
        control
        for language in sorted({p.attribute.language for p in pairs})
        for control in draw_controls(
            [(p.explicit, p.attribute) for p in pairs if p.attribute.language == language],
            a_a=recipe.controls.a_a,
            placebo=recipe.controls.placebo,
            placebo_attribute=read_placebo(data_dir, language),
            seed=seed,
        )
    ]
    neutral = neutral_questions(recipe, data_dir, attributes, len(pairs), seed=seed, round=round)
    return controls + neutral


def faults_by_rule(candidates: Sequence[Question], known: Sequence[Question]) -> dict[str, str]:
    """Ids of those that break a rule, alone, beside their parent, or beside their round; with the rule."""
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
    return with_twins(candidates, faults)


def with_twins(candidates: Sequence[Question], faults: Mapping[str, str]) -> dict[str, str]:
    """Twins go together: the other one leaves as `twin_dropped`."""
    left_alone = {q.id: "twin_dropped" for q in candidates if q.twin_id in faults}
    return {**left_alone, **faults}


def drop_unfit(question: Question, fault: str) -> Dropped:
    return drop_question(question, stage="mutate", reason=fault, because_of=question.parent_id)


def describe_round(explored: Explored, reading: FluencyCheck, round: int) -> dict[str, object]:
    """What was opened and what was read, for progress and the report."""
    return {
        "round": round,
        "opened": ["/".join(unit) for unit in explored.opened],
        "proposals_unmet": explored.unmet,
        "fluency_read": reading.read,
        "fluency_abstained": reading.abstained,
    }


STAGE = Stage(
    "mutate",
    2,
    run=mutate,
    reads=("attributes", "superdomains", "families", "evolve", "judging", "controls", "models"),
    vocabulary=("attributes", "templates", "taxonomy", "frames", "prompts"),
)
