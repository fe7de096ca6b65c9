"""Agreement between reviewers."""

from __future__ import annotations

from tasks.review.events import current_verdicts, reviewer_agreement
from tests.tasks.review.test_standing import said

ADA = ["good", "very_good", "offensive", "repetition", "good", "discuss"]
BEN = ["very_good", "very_good", "offensive", "good", "good", "good"]
WORDS = current_verdicts(
    {
        "Ada": [said("Ada", i, f"q_{i}", verdict=v) for i, v in enumerate(ADA)],
        "Ben": [said("Ben", i, f"q_{i}", verdict=v) for i, v in enumerate(BEN)],
        "Cleo": [said("Cleo", 0, "q_9", verdict="good")],
    }
)


def test_agreement_rests_on_what_two_or_more_saw() -> None:
    found = reviewer_agreement(WORDS)
    assert found.shared == 6
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.shared) == ("Ada", "Ben", 6)


def test_keeping_is_agreed_on_more_than_how_good_it_is() -> None:
    found = reviewer_agreement(WORDS)
    (pair,) = found.pairs
    assert found.alpha_labels is not None
    assert found.alpha_decisions is not None
    assert found.alpha_labels.value < found.alpha_decisions.value
    assert pair.kappa_decisions is not None
    assert pair.kappa_decisions.n == 5, "who wants to discuss decides nothing"


def test_nobody_shares_anything() -> None:
    alone = current_verdicts({"Ada": [said("Ada", verdict="good")]})
    found = reviewer_agreement(alone)
    assert (found.shared, found.pairs, found.alpha_labels) == (0, (), None)


def test_edits_are_one_decision_whatever_their_texts() -> None:
    words = current_verdicts(
        {
            "Ada": [said("Ada", action="edit", template="A?")],
            "Ben": [said("Ben", action="edit", template="B?")],
        }
    )
    assert reviewer_agreement(words).shared == 1
    assert reviewer_agreement(words).alpha_decisions is None
