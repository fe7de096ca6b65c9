"""Queues are assigned by content and can be filtered."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.labels import ReviewEvent
from tasks.review.events import Subject
from tasks.review.queue import (
    Filters,
    ReviewerQueue,
    ReviewSession,
    Submission,
    adjacent_entries,
    assign_reviewers,
    list_entries,
)
from tasks.review.subjects import ReviewSubjects
from tests.conftest import DATA

SUBJECTS: list[Subject] = [("question", f"q_{i}", "") for i in range(2000)]


def say(session: ReviewSession, reviewer: str, subject_id: str, verdict: str) -> ReviewEvent:
    return session.record(
        Submission.model_validate(
            {
                "reviewer": reviewer,
                "action": "verdict",
                "subject": "question",
                "subject_id": subject_id,
                "verdict": verdict,
            }
        )
    )


def ids(queue: ReviewerQueue, session: ReviewSession, **filters: object) -> list[str]:
    return [e.subject[1] for e in queue.select(Filters.model_validate(filters))]


def test_the_overlap_goes_to_all_and_the_rest_to_one_reviewer() -> None:
    shares = [assign_reviewers(subject, ("anna", "berta", "cem"), 0.2) for subject in SUBJECTS]
    everybody = sum(len(share) == 3 for share in shares)
    assert {len(share) for share in shares} == {1, 3}
    assert 0.17 < everybody / len(shares) < 0.23
    owned = [share[0] for share in shares if len(share) == 1]
    assert all(0.28 < owned.count(name) / len(owned) < 0.39 for name in ("anna", "berta", "cem"))


def test_a_new_reviewer_moves_nothing_between_the_others() -> None:
    for subject in SUBJECTS[:300]:
        before, after = (
            assign_reviewers(subject, names, 0.2) for names in (("anna", "berta"), ("anna", "berta", "cem"))
        )
        assert after == before or after == ("cem",) or len(after) == 3


@given(st.floats(0, 1), st.permutations(["anna", "berta", "cem"]))
def test_assignment_does_not_depend_on_the_order_of_names(overlap: float, names: list[str]) -> None:
    for subject in SUBJECTS[:20]:
        assert set(assign_reviewers(subject, tuple(names), overlap)) == set(
            assign_reviewers(subject, tuple(sorted(names)), overlap)
        )


def test_a_single_reviewer_gets_everything() -> None:
    assert all(assign_reviewers(subject, ("anna",), 0.0) == ("anna",) for subject in SUBJECTS)


def test_the_queue_order_is_fixed_and_independent_of_fitness(released: ReviewSubjects) -> None:
    entries = list_entries(released)
    assert [e.subject for e in entries] == [e.subject for e in list_entries(released)]
    fitness = [e.fitness for e in entries]
    assert fitness != sorted(fitness, key=lambda f: -(f or 0.0))
    assert len(entries) == 21


def test_a_decided_entry_leaves_the_queue_and_returns_after_undo(
    session: ReviewSession,
) -> None:
    first = ids(session.queue_of("anna"), session)[0]
    event = say(session, "anna", first, "good")
    assert first not in ids(session.queue_of("anna"), session)
    assert ids(session.queue_of("anna"), session, state="done") == [first]
    undo = {"reviewer": "anna", "action": "undo", "subject": "question", "subject_id": first}
    session.record(Submission.model_validate({**undo, "undoes": event.id}))
    assert ids(session.queue_of("anna"), session)[0] == first


def test_two_reviewers_cover_the_queue(released: ReviewSubjects, tmp_path: Path) -> None:
    session = ReviewSession(released, tmp_path, DATA, ("anna", "berta"))
    anna, berta = (set(ids(session.queue_of(name), session)) for name in ("anna", "berta"))
    assert anna | berta == set(session.subjects.questions)
    assert anna != berta


def test_a_reviewed_entry_stays_with_its_reviewer(session: ReviewSession) -> None:
    everything = ids(session.queue_of("anna"), session)
    for question_id in everything:
        say(session, "anna", question_id, "good")
    overlap = [
        i for i in everything if len(assign_reviewers(("question", i, ""), ("anna", "berta"), 0.2)) == 2
    ]
    assert sorted(ids(session.queue_of("berta"), session)) == sorted(overlap)


def test_conflicting_verdicts_are_disagreements(session: ReviewSession) -> None:
    first, second, third = list(session.subjects.questions)[:3]
    for question_id, hers, his in (
        (first, "very_good", "offensive"),
        (second, "good", "very_good"),
        (third, "repetition", "discuss"),
    ):
        say(session, "anna", question_id, hers)
        say(session, "ben", question_id, his)
    queue = session.queue_of("anna")
    assert ids(queue, session, state="disagreed") == [first]
    assert ids(queue, session, state="discuss") == [third]
    say(session, "ben", first, "good")
    assert ids(session.queue_of("anna"), session, state="disagreed") == []


def test_filters_choose_by_attribute_domain_fitness_and_disagreement(session: ReviewSession) -> None:
    queue, questions = session.queue_of("anna"), session.subjects.questions
    attribute = next(iter(questions.values())).attribute
    assert set(ids(queue, session, attribute=attribute)) == {
        q.id for q in questions.values() if q.attribute == attribute
    }
    at_work = {q.id for q in questions.values() if q.superdomain == "work"}
    assert set(ids(queue, session, domain="work")) == at_work
    chosen = set(ids(queue, session, fitness_from=0.1, fitness_to=0.3, disagreement_from=0.2))
    assert chosen == {
        q.id
        for q in questions.values()
        if 0.1 <= (q.fitness or 0) <= 0.3 and session.subjects.disagreement.get(q.id, 0) >= 0.2
    }
    assert chosen
    ambiguous = [i for i, kind in session.subjects.kinds.items() if kind == "ambiguous"]
    assert ids(queue, session, kind="ambiguous") == ambiguous


def test_the_highest_fitness_can_come_first(session: ReviewSession) -> None:
    ranked = ids(session.queue_of("anna"), session, order="fitness")
    fitness = [session.subjects.questions[i].fitness or 0.0 for i in ranked]
    assert fitness == sorted(fitness, reverse=True)


def test_the_next_entry_is_known_after_the_current_one_left_the_queue(
    session: ReviewSession,
) -> None:
    filters = Filters()
    todo = session.queue_of("anna").select(filters)
    say(session, "anna", todo[4].subject[1], "good")
    left = session.queue_of("anna").select(filters)
    before, after = adjacent_entries(left, todo[4], filters)
    assert (before, after) == (todo[3], todo[5])
    assert adjacent_entries(left, todo[-1], filters)[1] is None


@pytest.mark.parametrize("kind", ["control", "reviewed_out"])
def test_entries_that_are_not_queued_can_be_selected(released: ReviewSubjects, kind: str) -> None:
    control = next(iter(released.questions))
    changed = ReviewSubjects(**{**vars(released), "kinds": {**released.kinds, control: kind}})
    queue = ReviewerQueue("anna", ("anna",), {}, list_entries(changed), [("anna",)] * len(changed.kinds))
    assert control not in {e.subject[1] for e in queue.select(Filters())}
    assert [e.subject[1] for e in queue.select(Filters.model_validate({"kind": kind}))] == [control]
