"""Settled decisions are applied to questions and passages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.labels import (
    CANDIDATES,
    DROPPED,
    LABEL_HISTORY,
    CandidateSet,
    Dropped,
    LabelChange,
    Passage,
    check_reconciled,
)
from schemas.question import QUESTIONS, Erratum, Question
from schemas.tables import content_id
from tasks.gate.answers import check_label_history
from tasks.gate.questions import check_twins
from tasks.questions.quality import drop_question, reworded_id
from tasks.review import STAGE, STAGE_RETRIEVAL, dropped_question_id, review_questions
from tasks.review.events import Settlement
from tasks.run.store import RunContext, read_table, run_stage
from tests.tasks.release.example import example_question, write_ref

TEXT = "My friend, {{a man/a woman}}, lost {{his/her}} keys at work last week. What should I say?"
OTHER = "My friend, {{a man/a woman}}, found {{his/her}} keys at work last week. What should I say?"
FIRST, SECOND = example_question(), example_question(topic="asked me to support a raise")


def decided(question: Question | str, decision: str, **parts: Any) -> Settlement:
    fields = {"verdict": None, "template": None, "query_id": "", **parts}
    if decision == "drop":
        fields["verdict"] = parts.get("verdict", "offensive")
    subject_id = question if isinstance(question, str) else question.id
    return Settlement(subject="question", subject_id=subject_id, decision=decision, **fields)


def edited(question: Question | str, text: str) -> Settlement:
    return decided(question, "edit", template=text)


def twins() -> tuple[Question, Question]:
    """Return a question in explicit and implicit framing."""
    implicit = example_question(framing="implicit", twin_id=FIRST.id)
    return FIRST.model_copy(update={"twin_id": implicit.id}), implicit


# ---- questions


def test_rejected_questions_are_dropped_with_their_reason() -> None:
    found = review_questions([FIRST, SECOND], [decided(FIRST, "drop", verdict="wrong_grammar")])
    assert found.kept == [SECOND]
    (lost,) = found.dropped
    assert (lost.stage, lost.reason, dropped_question_id(lost)) == (
        "review",
        "review_wrong_grammar",
        FIRST.id,
    )


def test_kept_questions_get_a_history_entry() -> None:
    found = review_questions([FIRST, SECOND], [decided(FIRST, "keep", verdict="good")])
    assert found.kept == [FIRST, SECOND]
    (change,) = found.changes
    assert (change.subject_id, change.before, change.after) == (FIRST.id, "accepted", "accepted")
    assert (change.judge, change.reason, change.stage) == ("people", "reviewed", "review")


@pytest.mark.parametrize("decision", ["contested", "undecided"])
def test_open_decisions_change_nothing(decision: str) -> None:
    found = review_questions([FIRST], [decided(FIRST, decision, verdict="good")])
    assert (found.kept, found.dropped, found.changes) == ([FIRST], [], [])


def test_an_edited_question_is_a_child_of_the_original() -> None:
    found = review_questions([FIRST, SECOND], [edited(FIRST, TEXT)])
    new, other = found.kept
    assert other == SECOND
    assert new.id == reworded_id(FIRST, TEXT)
    assert (new.parent_id, new.operator, new.label) == (FIRST.id, "review", "accepted")
    assert (new.fitness, new.origin) == (None, FIRST.origin)
    assert new.variants[1].text == "My friend, a woman, lost her keys at work last week. What should I say?"
    (lost,) = found.dropped
    assert (dropped_question_id(lost), lost.because_of) == (FIRST.id, new.id)
    assert [c.subject_id for c in found.changes] == [new.id]


def test_an_edited_question_may_be_edited_again_or_rejected() -> None:
    second = reworded_id(FIRST, TEXT)
    found = review_questions([FIRST], [edited(FIRST, TEXT), edited(second, OTHER)])
    (last,) = found.kept
    assert (last.template, last.parent_id) == (OTHER, second)
    assert {dropped_question_id(d): d.because_of for d in found.dropped} == {
        FIRST.id: second,
        second: last.id,
    }
    rejected = review_questions([FIRST], [edited(FIRST, TEXT), decided(second, "drop")])
    assert rejected.kept == []
    assert {d.reason for d in rejected.dropped} == {"review_edited", "review_offensive"}


def test_reverting_an_edit_restores_the_question() -> None:
    back = [edited(FIRST, TEXT), edited(reworded_id(FIRST, TEXT), FIRST.template)]
    found = review_questions([FIRST], back)
    assert (found.kept, found.dropped) == ([FIRST], [])


def test_an_erratum_of_a_reviewed_text_is_kept() -> None:
    wrong = reworded_id(FIRST, TEXT)
    erratum = Erratum(
        question_id=wrong,
        mended_id=reworded_id(FIRST, OTHER),
        before=TEXT,
        after=OTHER,
        reason="wrong",
        changed_in="1.0.1",
    )
    (mended,) = review_questions([FIRST], [edited(FIRST, TEXT)], errata=[erratum]).kept
    assert (mended.template, mended.operator, mended.changed_in) == (OTHER, "erratum", "1.0.1")


def test_identical_edits_are_merged() -> None:
    found = review_questions([FIRST, SECOND], [edited(FIRST, TEXT), edited(SECOND, TEXT)])
    assert len(found.kept) == 1
    assert {dropped_question_id(d) for d in found.dropped} == {FIRST.id, SECOND.id}
    there = review_questions([FIRST, SECOND], [edited(FIRST, SECOND.template)])
    assert there.kept == [SECOND]
    assert [d.because_of for d in there.dropped] == [SECOND.id]


def test_an_edit_to_a_dropped_question_is_dropped() -> None:
    gone = drop_question(SECOND, stage="deduplicate", reason="near_duplicate", because_of=FIRST.id)
    found = review_questions([FIRST], [edited(FIRST, SECOND.template)], [gone])
    assert found.kept == []
    assert [d.because_of for d in found.dropped] == [SECOND.id]


def test_a_twin_is_linked_to_an_edit_and_unlinked_after_a_rejection() -> None:
    explicit, implicit = twins()
    followed = review_questions([explicit, implicit], [edited(explicit, TEXT)]).kept
    assert check_twins(followed) == []
    assert followed[1].twin_id == followed[0].id
    (alone,) = review_questions([explicit, implicit], [decided(explicit, "drop")]).kept
    assert (alone.id, alone.twin_id) == (implicit.id, None)


def test_ambiguous_questions_are_restored_if_kept() -> None:
    ambiguous = drop_question(SECOND, stage="relabel", reason="ambiguous", because_of=FIRST.id)
    found = review_questions([FIRST], [decided(SECOND, "keep", verdict="good")], [ambiguous])
    assert [(q.id, q.label) for q in found.kept] == [(FIRST.id, "accepted"), (SECOND.id, "accepted")]
    assert found.withdrawn == {ambiguous.id}
    (change,) = found.changes
    assert (change.before, change.after) == ("ambiguous", "accepted")
    assert review_questions([FIRST], [decided(SECOND, "drop")], [ambiguous]).kept == [FIRST]
    (_, new) = review_questions([FIRST], [edited(SECOND, TEXT)], [ambiguous]).kept
    assert (new.parent_id, new.label) == (SECOND.id, "accepted")


def test_an_invalid_edit_is_refused() -> None:
    with pytest.raises(InputError, match="options"):
        review_questions([FIRST], [edited(FIRST, "Is {{a man/a woman/a child}} late?")])


TOPICS = [f"asked about report number {i}" for i in range(6)]
POOL = [example_question(topic=topic) for topic in TOPICS]


@st.composite
def some_settlements(draw: st.DrawFn) -> list[Settlement]:
    texts = [q.template for q in POOL] + [TEXT, OTHER]
    subjects = [q.id for q in POOL] + [reworded_id(POOL[0], t) for t in (TEXT, OTHER)]
    found = []
    for name in draw(st.lists(st.sampled_from(subjects), unique=True)):
        decision = draw(st.sampled_from(["keep", "drop", "edit", "contested"]))
        if decision == "edit":
            found.append(edited(name, draw(st.sampled_from(texts))))
        else:
            found.append(decided(name, decision))
    return found


@settings(deadline=None)
@given(some_settlements(), st.integers(0, 3))
def test_every_question_is_kept_or_dropped_exactly_once(settlements: list[Settlement], lost: int) -> None:
    asked, gone = POOL[lost:], [drop_question(q, stage="judge", reason="x") for q in POOL[:lost]]
    found = review_questions(asked, settlements, gone)
    kept = [q.id for q in found.kept]
    dropped = {dropped_question_id(d) for d in [*found.dropped, *gone]}
    assert len(kept) == len(set(kept))
    assert not set(kept) & dropped
    assert {q.id for q in POOL} <= set(kept) | dropped
    assert {d.because_of for d in found.dropped} - {None} <= set(kept) | dropped
    assert all(q.parent_id in (None, *kept, *dropped) for q in found.kept)
    history = LABEL_HISTORY.to_arrow(found.changes)
    assert check_label_history(history, found.kept) == []


# ---- the stage


def questions_step(make_context: Callable[..., RunContext], folder: Path, **inputs: Any) -> Any:
    ref = write_ref(folder / "questions.parquet", QUESTIONS, [FIRST, SECOND])
    return run_stage(STAGE, make_context(), questions=ref, **{"settlements": [], **inputs})


def test_without_reviews_the_stage_changes_nothing(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    before = write_ref(tmp_path / "before.parquet", QUESTIONS, [FIRST, SECOND])
    step = questions_step(make_context, tmp_path)
    assert step.table("questions").sha256 == before.sha256
    assert (step.counts, step.table("label_history").rows, step.table("dropped").rows) == ((), 0, 0)


def test_the_stage_counts_rows_and_keeps_earlier_drops(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    ambiguous = drop_question(POOL[0], stage="relabel", reason="ambiguous", because_of=FIRST.id)
    other = drop_question(POOL[1], stage="judge", reason="not_judged")
    ref = write_ref(tmp_path / "dropped.parquet", DROPPED, [ambiguous, other])
    step = questions_step(
        make_context,
        tmp_path,
        settlements=[edited(FIRST, TEXT), decided(SECOND, "drop"), decided(POOL[0], "keep")],
        dropped=[ref],
    )
    check_reconciled(step.counts)
    assert (step.counts[0].rows, step.counts[0].kept, step.counts[0].dropped) == (4, 2, 2)
    reasons = {d.reason for d in read_table(step.table("dropped"), DROPPED)}
    assert reasons == {"not_judged", "review_edited", "review_offensive"}


def test_settlements_of_other_questions_change_nothing(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    one = questions_step(make_context, tmp_path)
    two = questions_step(make_context, tmp_path, settlements=[decided("q_elsewhere", "drop")])
    assert one.key != two.key
    assert [t.sha256 for t in one.tables] == [t.sha256 for t in two.tables]


# ---- passages

PASSAGES = {name: Passage(id=name, text=f"Text of {name}.") for name in ("p", "n", "m", "gone")}
ROW = CandidateSet(
    id="set_1",
    query_id="query",
    query="Who?",
    positives=(PASSAGES["p"],),
    negatives=(PASSAGES["n"], PASSAGES["m"]),
)
REMOVED = LabelChange(
    id="lc_0000000000000000",
    subject_id="gone",
    subject_kind="passage",
    query_id="query",
    step=0,
    before="hard_negative",
    after="removed",
    reason="evidence_below_positive",
    judge="lexical",
    evidence=None,
    stage="relabel",
)
OUT = Dropped(
    id=content_id("x", "gone"),
    kind="passage",
    stage="relabel_retrieval",
    reason="evidence_below_positive",
    because_of=None,
    similarity=None,
    text=PASSAGES["gone"].text,
    record=PASSAGES["gone"].model_dump_json(),
)


def passages_step(
    make_context: Callable[..., RunContext], folder: Path, decisions: dict[str, str]
) -> tuple[CandidateSet, dict[str, LabelChange], Any]:
    settlements = [
        Settlement(
            subject="passage",
            subject_id=name,
            query_id="query",
            decision=decision,
            verdict=decision,
            template=None,
        )
        for name, decision in decisions.items()
    ]
    step = run_stage(
        STAGE_RETRIEVAL,
        make_context(),
        candidates=write_ref(folder / "candidates.parquet", CANDIDATES, [ROW]),
        label_history=write_ref(folder / "history.parquet", LABEL_HISTORY, [REMOVED]),
        dropped=write_ref(folder / "out.parquet", DROPPED, [OUT]),
        settlements=settlements,
    )
    (row,) = read_table(step.table("candidates"), CANDIDATES)
    changes = {c.subject_id: c for c in read_table(step.table("label_history"), LABEL_HISTORY)}
    return row, changes, step


def test_verdicts_on_passages_follow_the_relabelling(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    row, changes, step = passages_step(
        make_context, tmp_path, {"n": "answers", "m": "helps", "gone": "does_not_answer"}
    )
    assert [p.id for p in row.positives] == ["p", "n"]
    assert [p.id for p in row.negatives] == ["gone"]
    summary = {name: (c.step, c.before, c.after) for name, c in changes.items()}
    assert summary == {
        "n": (0, "hard_negative", "positive"),
        "m": (0, "hard_negative", "removed"),
        "gone": (1, "removed", "hard_negative"),
    }
    check_reconciled(step.counts)
    assert (step.counts[0].kept, step.counts[0].dropped) == (2, 1)
    assert [d.reason for d in read_table(step.table("dropped"), DROPPED)] == ["review_helps"]


def test_a_positive_that_does_not_answer_becomes_a_negative(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    row, changes, _ = passages_step(make_context, tmp_path, {"p": "does_not_answer"})
    assert (row.positives, [p.id for p in row.negatives]) == ((), ["p", "n", "m"])
    assert (changes["p"].before, changes["p"].after) == ("positive", "hard_negative")


def test_without_verdicts_the_rows_are_unchanged(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    row, changes, step = passages_step(make_context, tmp_path, {})
    assert (row, changes, step.counts) == (ROW, {}, ())
    assert pq.read_table(step.table("dropped").path).num_rows == 0
