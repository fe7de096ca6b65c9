"""Mutate stage: turn the archive into the questions of the next round, with controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas.labels import PROPOSALS, Dropped, StageCounts
from schemas.notes import MutationNotes
from schemas.question import QUESTIONS, Question
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, Superdomain
from tasks.evolve.explore import Exploration, open_new_domains
from tasks.evolve.generate import FLUENCY_FAULT, FluencyCheck, WrittenDrafts, check_fluency, write_with_model
from tasks.evolve.jobs import SearchState, WritingJob
from tasks.evolve.recombine import recombine
from tasks.evolve.strategies import plan_jobs
from tasks.files.vocabulary import read_attributes, read_taxonomy
from tasks.models.structured import sum_call_costs
from tasks.questions.binding import split_unique
from tasks.questions.composition import (
    DraftPair,
    draw_neutral_controls,
    draw_recipe_controls,
    supports_implicit,
)
from tasks.questions.quality import drop_question, find_overlong, question_fault, rewrite_fault
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table


def mutate(context: RunContext, archive: TableRef, round: int) -> Outcome:
    """Write the questions of one round with the recipe's generator and strategy, and drop unfit ones.

    Every model call is cached, so a round that was killed repeats no paid call.
    """
    recipe, data_dir = context.recipe, Path(context.data_dir)
    known = read_table(archive, QUESTIONS)
    attributes = read_attributes(data_dir, recipe.families["open"].attributes or recipe.attributes)
    languages = {attribute.language for attribute in attributes}
    taxonomy = [s for s in read_taxonomy(data_dir, recipe.superdomains) if s.language in languages]
    search = build_search_state(context, known, attributes, taxonomy, round)
    explored = open_new_domains(context, plan_jobs(recipe.evolve.strategy, search), search, taxonomy, round)
    written = write_drafts(context, explored.jobs, known, attributes, taxonomy, round)
    bound = [q for pair in written.pairs for q in pair.bind(recipe.seed)]
    controls = draw_round_controls(context, written.pairs, attributes, round)
    unique, repeated = split_unique([*known, *bound, *controls])
    candidates = unique[len(known) :]
    faults = find_rule_faults(candidates, known)
    fluency = check_fluency(context, [q for q in candidates if q.id not in faults])
    faults = add_twin_faults(candidates, faults | dict.fromkeys(fluency.unfit, FLUENCY_FAULT))
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
    proposed = StageCounts(
        stage=PROPOSALS,
        unit="topics",
        rows=explored.proposals,
        kept=explored.proposals - explored.unmet,
        dropped=explored.unmet,
        failed=0,
    )
    generated = [(recipe.models.generator, spent) for spent in (*explored.spent, *written.spent)]
    return Outcome(
        tables={QUESTIONS: kept},
        counts=(counts, proposed) if proposed.rows else (counts,),
        costs=sum_call_costs("mutate", [*generated, *((fluency.judge, spent) for spent in fluency.spent)]),
        dropped=(*dropped, *written.failed),
        notes=describe_round(explored, fluency, round).to_json(),
    )


def build_search_state(
    context: RunContext,
    known: Sequence[Question],
    attributes: Sequence[Attribute],
    taxonomy: Sequence[Superdomain],
    round: int,
) -> SearchState:
    """Collect the input of a strategy.

    Without a generator model, questions come from the taxonomy and from parents with known parts. With one,
    domains opened in earlier rounds count like those of the taxonomy.
    """
    recipe = context.recipe
    has_generator = recipe.models.generator != "recombine"
    searched = [q for q in known if q.family == "open" and q.control == "none"]
    opened = sorted({(q.superdomain, q.domain) for q in searched}) if has_generator else []
    return SearchState(
        archive=known,
        units=tuple(dict.fromkeys([*((s.id, d.id) for s in taxonomy for d in s.domains), *opened])),
        attributes=[a.id for a in attributes],
        questions=recipe.evolve.questions_per_round,
        seed=derived_seed(recipe.seed, "round", round),
        named_attributes=[a.id for a in attributes if supports_implicit(recipe.families["open"], a)],
        composed_parents=not has_generator,
        opens_units=has_generator,
        attributes_by_superdomain={
            s.id: [a.id for a in attributes if a.language == s.language] for s in taxonomy
        },
    )


def write_drafts(
    context: RunContext,
    jobs: Sequence[WritingJob],
    known: Sequence[Question],
    attributes: Sequence[Attribute],
    taxonomy: Sequence[Superdomain],
    round: int,
) -> WrittenDrafts:
    """Write a draft for every job, by recombination or with a model."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    seed = derived_seed(recipe.seed, "write", round)
    if recipe.models.generator == "recombine":
        pairs = recombine(jobs, known, recipe, data_dir, attributes, round=round, seed=seed)
        return WrittenDrafts(tuple(pairs))
    return write_with_model(context, jobs, known, attributes, taxonomy, round=round, seed=seed)


def draw_round_controls(
    context: RunContext, pairs: Sequence[DraftPair], attributes: Sequence[Attribute], round: int
) -> list[Question]:
    """Draw A/A, placebo and neutral controls from the drafts of the round.

    Every round has its own controls, so that the noise floor is measured on the same kind of questions.
    """
    recipe, data_dir = context.recipe, Path(context.data_dir)
    seed = derived_seed(recipe.seed, "controls", round)
    controls = draw_recipe_controls(recipe, data_dir, (p.source for p in pairs), seed=seed)
    neutral = draw_neutral_controls(recipe, data_dir, attributes, len(pairs), seed=seed, round=round)
    return controls + neutral


def find_rule_faults(candidates: Sequence[Question], known: Sequence[Question]) -> dict[str, str]:
    """Return the broken rule of each unfit question by id.

    Rules apply to the question alone, to a rewrite and its parent, and to its length within the round.
    """
    parents = {q.id: q for q in known}
    too_long = find_overlong(candidates)
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
    return add_twin_faults(candidates, faults)


def add_twin_faults(candidates: Sequence[Question], faults: Mapping[str, str]) -> dict[str, str]:
    """Return the faults, with `twin_dropped` for every question with a faulty twin."""
    twins = {q.id: "twin_dropped" for q in candidates if q.twin_id in faults}
    return {**twins, **faults}


def drop_unfit(question: Question, fault: str) -> Dropped:
    """Return the dropped row of a question with a fault."""
    return drop_question(question, stage="mutate", reason=fault, because_of=question.parent_id)


def describe_round(explored: Exploration, fluency: FluencyCheck, round: int) -> MutationNotes:
    """Return the opened domains and the outcome of the fluency check."""
    return MutationNotes(
        round=round,
        opened=tuple("/".join(unit) for unit in explored.opened),
        fluency_read=fluency.read,
        fluency_abstained=fluency.abstained,
    )


STAGE = Stage(
    "mutate",
    4,
    run=mutate,
    reads=("attributes", "superdomains", "families", "evolve", "judging", "controls", "models", "validation"),
    vocabulary=("attributes", "templates", "taxonomy", "frames", "prompts"),
)
