"""Agreement between reviewers."""

from __future__ import annotations

from tasks.review.events import current_verdicts, reviewer_agreement
from tests.tasks.review.test_settlements import make_event

ADA = ["good", "very_good", "offensive", "repetition", "good", "discuss"]
BEN = ["very_good", "very_good", "offensive", "good", "good", "good"]
VERDICTS = current_verdicts(
    {
        "Ada": [make_event("Ada", i, f"q_{i}", verdict=v) for i, v in enumerate(ADA)],
        "Ben": [make_event("Ben", i, f"q_{i}", verdict=v) for i, v in enumerate(BEN)],
        "Cleo": [make_event("Cleo", 0, "q_9", verdict="good")],
    }
)


def test_agreement_uses_subjects_with_two_or_more_verdicts() -> None:
    found = reviewer_agreement(VERDICTS)
    assert found.shared == 6
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.shared) == ("Ada", "Ben", 6)


def test_decisions_agree_more_than_labels() -> None:
    found = reviewer_agreement(VERDICTS)
    (pair,) = found.pairs
    assert found.alpha_labels is not None
    assert found.alpha_decisions is not None
    assert found.alpha_labels.value < found.alpha_decisions.value
    assert pair.kappa_decisions is not None
    assert pair.kappa_decisions.n == 5, "who wants to discuss decides nothing"


def test_without_shared_subjects_there_is_no_agreement() -> None:
    alone = current_verdicts({"Ada": [make_event("Ada", verdict="good")]})
    found = reviewer_agreement(alone)
    assert (found.shared, found.pairs, found.alpha_labels) == (0, (), None)


def test_edits_are_one_decision_with_any_text() -> None:
    verdicts = current_verdicts(
        {
            "Ada": [make_event("Ada", action="edit", template="A?")],
            "Ben": [make_event("Ben", action="edit", template="B?")],
        }
    )
    assert reviewer_agreement(verdicts).shared == 1
    assert reviewer_agreement(verdicts).alpha_decisions is None
