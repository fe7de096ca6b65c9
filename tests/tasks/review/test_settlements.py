"""Current verdicts and settled decisions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.labels import ReviewEvent
from schemas.tables import content_id
from tasks.review.events import Settlement, current_verdicts, settle_verdicts

REVIEWERS = ("Ada", "Ben", "Cleo", "Dov")


def make_event(reviewer: str, number: int = 0, subject_id: str = "q_1", **parts: Any) -> ReviewEvent:
    """Return an event, by default a verdict on a question."""
    fields = {"action": "verdict", "subject": "question", "subject_id": subject_id, **parts}
    return ReviewEvent(
        id=content_id("r", reviewer, number, fields), reviewer=reviewer, number=number, **fields
    )


def settled(*verdicts: str | tuple[str, str]) -> Settlement:
    """Settle the verdicts on one question, one per reviewer. `("edit", text)` is an edit."""
    events = {
        name: [
            make_event(name, action="edit", template=v[1])
            if isinstance(v, tuple)
            else make_event(name, verdict=v)
        ]
        for name, v in zip(REVIEWERS, verdicts, strict=False)
    }
    (found,) = settle_verdicts(current_verdicts(events))
    return found


@pytest.mark.parametrize(
    ("verdicts", "decision", "verdict"),
    [
        (["good"], "keep", "good"),
        (["very_good", "good", "offensive"], "keep", "very_good"),
        (["offensive", "wrong_grammar", "good"], "drop", "wrong_grammar"),
        (["repetition", "offensive", "offensive"], "drop", "offensive"),
        (["good", "offensive"], "contested", None),
        (["good", "good", "offensive", "repetition"], "contested", None),
        (["discuss"], "undecided", None),
        (["other", "discuss"], "undecided", None),
        (["discuss", "good"], "keep", "good"),
    ],
)
def test_majority_of_deciding_reviewers_settles(
    verdicts: list[str], decision: str, verdict: str | None
) -> None:
    found = settled(*verdicts)
    assert (found.decision, found.verdict) == (decision, verdict)
    assert found.settled == (decision in ("keep", "drop"))


def test_an_edit_is_contested_by_another_text_or_a_keep() -> None:
    assert settled(("edit", "A?")).template == "A?"
    assert settled(("edit", "A?"), ("edit", "A?"), "good").decision == "edit"
    assert settled(("edit", "A?"), ("edit", "B?")).decision == "contested"
    assert settled(("edit", "A?"), "good").decision == "contested"
    assert settled(("edit", "A?"), "good", "good").decision == "keep"


def test_the_last_word_counts_and_undoing_gives_back_the_one_before() -> None:
    first, second = make_event("Ada", 0, verdict="good"), make_event("Ada", 1, verdict="offensive")
    undo = make_event("Ada", 2, action="undo", undoes=second.id)
    assert settle_verdicts(current_verdicts({"Ada": [first, second]}))[0].decision == "drop"
    assert settle_verdicts(current_verdicts({"Ada": [first, second, undo]}))[0].decision == "keep"
    gone = make_event("Ada", 3, action="undo", undoes=first.id)
    assert settle_verdicts(current_verdicts({"Ada": [first, second, undo, gone]})) == ()


def test_passages_are_settled_separately_for_each_query() -> None:
    verdicts = current_verdicts(
        {
            "Ada": [
                make_event("Ada", 0, "p", subject="passage", query_id="x", verdict="answers"),
                make_event("Ada", 1, "p", subject="passage", query_id="y", verdict="does_not_answer"),
            ],
            "Ben": [make_event("Ben", 0, "p", subject="passage", query_id="y", verdict="helps")],
        }
    )
    found = {(s.query_id, s.decision) for s in settle_verdicts(verdicts)}
    assert found == {("x", "answers"), ("y", "contested")}


verdicts = st.sampled_from(["very_good", "good", "too_specific", "offensive", "discuss", "other"])


@st.composite
def histories(draw: st.DrawFn) -> dict[str, list[ReviewEvent]]:
    """Draw events of reviewers on three questions: verdicts, edits, and undone events."""
    found = {}
    for name in draw(st.lists(st.sampled_from(REVIEWERS), unique=True, min_size=1)):
        events: list[ReviewEvent] = []
        for number in range(draw(st.integers(1, 6))):
            subject = draw(st.sampled_from(["q_1", "q_2", "q_3"]))
            what = draw(st.sampled_from(["verdict", "edit", "undo"]))
            if what == "undo" and events:
                undone = draw(st.sampled_from(events))
                parts = {"action": "undo", "undoes": undone.id, "subject_id": undone.subject_id}
                events.append(make_event(name, number, **parts))
            elif what == "edit":
                text = draw(st.sampled_from(["A?", "B?"]))
                events.append(make_event(name, number, subject, action="edit", template=text))
            else:
                events.append(make_event(name, number, subject, verdict=draw(verdicts)))
        found[name] = events
    return found


@settings(deadline=None)
@given(histories(), st.randoms())
def test_the_order_of_reviewers_does_not_matter(events: dict[str, list[ReviewEvent]], chance: Any) -> None:
    names = list(events)
    chance.shuffle(names)
    assert settle_verdicts(current_verdicts({name: events[name] for name in names})) == settle_verdicts(
        current_verdicts(events)
    )


@settings(deadline=None)
@given(histories())
def test_undo_restores_the_previous_settlement(
    events: dict[str, list[ReviewEvent]],
) -> None:
    before = settle_verdicts(current_verdicts(events))
    again = {}
    for name, done in events.items():
        more = make_event(name, len(done), "q_1", verdict="repetition")
        undo = make_event(name, len(done) + 1, "q_1", action="undo", undoes=more.id)
        again[name] = [*done, more, undo]
    assert settle_verdicts(current_verdicts(again)) == before


@settings(deadline=None)
@given(histories())
def test_settled_decisions_have_a_majority(
    events: dict[str, list[ReviewEvent]],
) -> None:
    verdicts = current_verdicts(events)
    for settlement in settle_verdicts(verdicts):
        given = verdicts["question", settlement.subject_id, ""].values()
        keeps = sum(e.verdict in ("very_good", "good") and e.action == "verdict" for e in given)
        decides = sum(e.action == "edit" or e.verdict not in ("discuss", "other") for e in given)
        assert (settlement.decision == "keep") == (2 * keeps > decides)
