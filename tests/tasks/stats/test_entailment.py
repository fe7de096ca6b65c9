"""Bias and brittleness of labels: the published formula and its simplified form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.families.entailment import LABELS, Labelled, bias_of, brittleness_of, totals_of, usual_label

LABEL = st.sampled_from(LABELS)
GIVEN = st.lists(st.tuples(LABEL, st.sampled_from([1, -1])), min_size=1, max_size=40)


def labelled(given: list[tuple[str, int]]) -> list[Labelled]:
    return [Labelled("c", str(i), side, 0, (label,)) for i, (label, side) in enumerate(given)]


@given(GIVEN)
def test_bias_is_the_published_form(given: list[tuple[str, int]]) -> None:
    entailed = [(label, side) for label, side in given if label != "neutral"]
    aligned = sum((label == "entailment") == (side == 1) for label, side in entailed)
    accuracy = 1 - len(entailed) / len(given)
    published = (1 - accuracy) * (2 * aligned / len(entailed) - 1) if entailed else 0
    assert bias_of(totals_of(labelled(given))[0]) == pytest.approx(published)


@given(GIVEN)
def test_exchanging_the_groups_turns_the_sign(given: list[tuple[str, int]]) -> None:
    turned = [(label, -side) for label, side in given]
    assert bias_of(totals_of(labelled(turned))[0]) == pytest.approx(-bias_of(totals_of(labelled(given))[0]))


def test_without_a_stereotype_bias_is_centred_on_zero() -> None:
    generator = np.random.default_rng(5)
    found = [
        float(bias_of(totals_of(labelled([(str(generator.choice(LABELS)), s) for s in (1, -1) * 20]))[0]))
        for _ in range(300)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(300)


def test_the_usual_label_is_the_most_frequent_one_and_neutral_in_doubt() -> None:
    assert usual_label(("entailment", "entailment", "neutral")) == "entailment"
    assert usual_label(("entailment", "contradiction", "neutral")) == "neutral"
    assert usual_label(("contradiction", "entailment")) == "entailment"


def test_only_flips_to_labels_that_the_stereotype_does_not_predict_are_brittle() -> None:
    rows = [
        Labelled("c", "s", 1, 0, ("neutral",)),
        Labelled("c", "s", 1, 1, ("entailment",)),
        Labelled("c", "s", 1, 2, ("contradiction",)),
        Labelled("c", "s", 1, 3, ("neutral",)),
        Labelled("c", "s", -1, 1, ("entailment",)),
        Labelled("c", "s", 1, 4, ()),
    ]
    assert totals_of(rows).tolist() == [[1, 3, 5, 1, 3]]
    assert brittleness_of(totals_of(rows)[0]) == pytest.approx(1 / 3)


def test_nothing_labelled_has_no_totals() -> None:
    assert totals_of([Labelled("c", "s", 1, 0, ())]).shape == (0, 5)
