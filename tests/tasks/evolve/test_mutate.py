"""Recombination: operators change only their part, counts of rounds add up, and no question is repeated."""

from __future__ import annotations

import json
from collections.abc import Callable

from schemas.labels import check_reconciled
from schemas.question import QUESTIONS, Question
from tasks.evolve import find_rule_faults, mutate
from tasks.expand import expand_family
from tasks.run.store import Outcome, RunContext, TableRef, write_step
from tests.conftest import DATA, recipe_of

MakeContext = Callable[..., RunContext]
EVOLVING = {
    "evolve": {"rounds": 2, "questions_per_round": 10},
    "families": {"open": {"questions": 40, "samples": 2}},
}


def archive_of(context: RunContext, tmp: str, questions: list[Question]) -> TableRef:
    from pathlib import Path

    step = write_step(
        Path(tmp) / "archive-0", "select", "0", Outcome(tables={QUESTIONS: questions}, counts=())
    )
    return step.table("questions")


def judged(context: RunContext) -> list[Question]:
    """Seeds as `select` would leave them: every second question is accepted."""
    seeds = [q for q in expand_family(context.recipe, DATA, "open") if q.control == "none"]
    return [
        q.model_copy(update={"fitness": 1 - i / 100, "label": "accepted" if i % 2 == 0 else "unlabelled"})
        for i, q in enumerate(seeds)
    ]


def mutated(context: RunContext, round: int = 1) -> tuple[list[Question], list[Question], Outcome]:
    known = judged(context)
    outcome = mutate(context, archive_of(context, context.run_dir, known), round)
    return known, [q for q in outcome.tables[QUESTIONS] if isinstance(q, Question)], outcome


def test_round_writes_the_requested_questions_and_reconciles(make_context: MakeContext) -> None:
    _, made, outcome = mutated(make_context(**EVOLVING))
    check_reconciled(outcome.counts)
    assert sum(q.control == "none" for q in made) + len(outcome.dropped) >= 10
    assert {q.control for q in made} >= {"none", "a_a", "placebo"}
    assert all(q.round == 1 for q in made)


def test_refined_question_keeps_its_topic_and_records_its_parent(make_context: MakeContext) -> None:
    known, made, _ = mutated(make_context(**EVOLVING))
    parents = {q.id: q for q in known}
    refined = [q for q in made if q.operator == "refine" and q.control == "none"]
    assert refined
    for child in refined:
        parent = parents[child.parent_id or ""]
        assert parent.label != "accepted"
        assert child.topic == parent.topic
        assert child.template != parent.template
        kept = ("situation", "relation", "place")
        old, new = json.loads(parent.composition or ""), json.loads(child.composition or "")
        assert [old[k] for k in kept] == [new[k] for k in kept]


def test_no_question_is_repeated(make_context: MakeContext) -> None:
    known, made, _ = mutated(make_context(**EVOLVING))
    assert not {q.id for q in known} & {q.id for q in made}


def test_same_archive_same_round_same_questions(make_context: MakeContext) -> None:
    runs = [[q.id for q in mutated(make_context(**EVOLVING))[1]] for _ in range(2)]
    assert runs[0] == runs[1]


def test_twin_of_an_unfit_question_is_dropped_with_it() -> None:
    recipe = recipe_of(families={"open": {"questions": 2, "framings": ["explicit", "implicit"]}})
    questions = [q for q in expand_family(recipe, DATA, "open") if q.control == "none"]
    bad = questions[0]
    broken = bad.model_copy(
        update={
            "variants": tuple(v.model_copy(update={"text": "I answer this myself."}) for v in bad.variants)
        }
    )
    faults = find_rule_faults([broken, *questions[1:]], [])
    assert faults[bad.twin_id or ""] == "twin_dropped"
    assert faults[bad.id] != "twin_dropped"
