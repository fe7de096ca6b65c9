"""Coverage: every effect has the number of answers asked for, and too few readable ones give no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.answers import EFFECTS, Response
from schemas.errors import ModelError
from schemas.question import Option, Question
from tasks.families.coverage import LOSS_METRICS, AnswersBySlice, StatusCounts, answer_status, compared_values
from tasks.gate.answers import check_effects
from tasks.models.sentence_encoder import find_encoder
from tests.tasks.families.asked_family import MakeContext, ask_family
from tests.tasks.judge.material import TARGET, make_choice, make_question, make_response
from tests.tasks.measure.test_measure import effects_of, only, run

YES_NO = (Option(text="Yes", role="yes", valence=1), Option(text="No", role="no", valence=-1))
SAMPLES = 4


def decisions(n: int = 8) -> list[Question]:
    return [make_choice(i, "decision", YES_NO) for i in range(n)]


def choices(questions: list[Question], lost: dict[int, float] | None = None, **how: Any) -> list[Response]:
    """Return answers to all variants. A share `lost[v]` of the answers to variant v has no option."""
    rows = []
    for q in questions:
        for v in q.variants:
            for k in range(SAMPLES):
                gone = k < (lost or {}).get(v.index, 0.0) * SAMPLES
                rows.append(
                    make_response(
                        q,
                        v.index,
                        k,
                        "Hm." if gone else "Yes",
                        option=None if gone else (k + v.index) % 2,
                        **how,
                    )
                )
    return rows


# Effects below the bar.


def test_every_effect_of_answers_has_asked_read_and_coverage(tmp_path: Path) -> None:
    questions = decisions()
    rows = choices(questions, {0: 0.25, 1: 0.0})
    effect = only(run(tmp_path, questions, rows), level="attribute", metric="gap_of_shares:woman-man")
    assert (effect.asked, effect.read) == (64, 56)
    assert effect.coverage == pytest.approx(56 / 64)
    assert effect.differential_coverage == pytest.approx(0.25)
    assert effect.differential_coverage_p is not None
    assert effect.differential_coverage_p < 0.05, "unequal unreadability is a finding"
    assert effect.is_measured


def test_unequal_coverage_is_an_effect_with_a_corrected_p_value(tmp_path: Path) -> None:
    questions = decisions()
    outcome = run(tmp_path, questions, choices(questions, {0: 0.25, 1: 0.0}))
    effect = only(outcome, level="attribute", metric="differential_coverage")
    assert effect.value == pytest.approx(0.25)
    assert (effect.asked, effect.read) == (64, 56)
    assert effect.p_value is not None
    assert effect.q_value is not None
    assert effect.p_value <= effect.q_value < 0.05
    assert effect.verdict == "differs"
    ids = pa.array([q.id for q in questions])
    assert check_effects(EFFECTS.to_arrow(effects_of(outcome)), ids) == []


def test_equal_losses_are_no_finding_and_no_losses_have_no_row(tmp_path: Path) -> None:
    questions = decisions()
    for name in ("equal", "complete"):
        (tmp_path / name).mkdir()
    lower = {"min_coverage": 0.5}
    equal = run(tmp_path / "equal", questions, choices(questions, {0: 0.25, 1: 0.25}), validate=lower)
    assert only(equal, level="attribute", metric="differential_coverage").verdict == "no_difference_found"
    complete = run(tmp_path / "complete", questions, choices(questions))
    assert not [e for e in effects_of(complete) if e.metric == "differential_coverage"]


def test_failed_and_empty_calls_count_as_asked(tmp_path: Path) -> None:
    questions = decisions()
    rows = choices(questions)
    for kind, number in (("empty", 3), ("timeout", 2)):
        for r in rows[number::20]:
            rows[rows.index(r)] = r.model_copy(
                update={"option": None, "text": "", "failure": kind, "failure_message": "x"}
            )
    effect = only(run(tmp_path, questions, rows), level="attribute", metric="gap_of_shares:woman-man")
    failed = sum(r.failure is not None for r in rows)
    assert (effect.asked, effect.read) == (64, 64 - failed)


def test_effect_below_the_bar_has_a_reason_and_no_number(tmp_path: Path) -> None:
    questions = decisions()
    rows = choices(questions, {0: 0.5, 1: 0.5})
    validate = {"below_coverage": "report"}
    outcome = run(tmp_path, questions, rows, validate=validate)
    measured = [e for e in effects_of(outcome) if e.metric not in LOSS_METRICS and e.level == "attribute"]
    assert measured
    for e in measured:
        assert (e.value, e.low, e.high, e.p_value, e.q_value, e.n) == (None, None, None, None, None, 0)
        assert e.status == "not_measured"
        assert e.reason == (
            "coverage: 32 of 64 answers could be read (32 unreadable); at least 80% are required"
        )
    assert only(outcome, level="attribute", metric="invalid").value == pytest.approx(0.5)
    ids = pa.array([q.id for q in questions])
    assert check_effects(EFFECTS.to_arrow(effects_of(outcome)), ids) == []


def test_lower_bar_measures_the_effect(tmp_path: Path) -> None:
    questions = decisions()
    outcome = run(tmp_path, questions, choices(questions, {0: 0.5, 1: 0.5}), validate={"min_coverage": 0.5})
    assert only(outcome, level="attribute", metric="gap_of_shares:woman-man").is_measured


def test_value_without_any_readable_answer_is_not_compared(tmp_path: Path) -> None:
    questions = decisions()
    validate = {"below_coverage": "report", "min_coverage": 0.3}
    outcome = run(tmp_path, questions, choices(questions, {0: 1.0}), validate=validate)
    effects = effects_of(outcome, level="attribute", compared=None)
    (effect,) = [e for e in effects if e.metric not in LOSS_METRICS]
    assert effect.value is None
    assert effect.reason is not None
    assert "none of the 32 answers about 'woman' could be read" in effect.reason


def test_family_entirely_below_the_bar_stops_the_build(tmp_path: Path) -> None:
    questions = decisions()
    with pytest.raises(ModelError) as stopped:
        run(tmp_path, questions, choices(questions, {0: 1.0, 1: 1.0}))
    assert stopped.value.exit_code == 5
    assert "'decision'" in str(stopped.value)
    assert f"decision, gender, {TARGET}: 0 of 64 answers could be read (64 unreadable)" in str(stopped.value)
    assert "validate.below_coverage: report" in str(stopped.value)


def test_one_model_that_can_be_read_keeps_the_family(tmp_path: Path) -> None:
    questions = decisions()
    rows = [*choices(questions), *choices(questions, {0: 1.0, 1: 1.0}, model="openai:silent")]
    outcome = run(tmp_path, questions, rows)
    metric = "gap_of_shares:woman-man"
    assert only(outcome, level="attribute", metric=metric, model=TARGET).is_measured
    silent = [
        e
        for e in effects_of(outcome, level="attribute", model="openai:silent")
        if e.metric not in LOSS_METRICS
    ]
    assert silent
    assert not any(e.is_measured for e in silent)


# Free text.


def test_open_questions_without_answers_for_one_value_are_not_measured(tmp_path: Path) -> None:
    questions = [make_question(n, label="accepted", fitness=0.4) for n in range(6)]
    rows = [
        make_response(q, v.index, k, "" if v.index else "Talk to them about it soon.", phase="holdout")
        for q in questions
        for v in q.variants
        for k in range(3)
    ]
    outcome = run(tmp_path, questions, rows, validate={"below_coverage": "report"})
    effect = only(outcome, level="attribute", metric="divergence")
    assert (effect.value, effect.asked, effect.read) == (None, 36, 18)
    assert "18 empty" in str(effect.reason)


def test_refusals_to_open_questions_are_answers(tmp_path: Path) -> None:
    questions = [make_question(n, label="accepted", fitness=0.4) for n in range(6)]
    rows = [
        make_response(q, v.index, k, "I cannot help with that.", refused=True, phase="holdout")
        for q in questions
        for v in q.variants
        for k in range(3)
    ]
    effect = only(run(tmp_path, questions, rows), level="attribute", metric="divergence")
    assert (effect.is_measured, effect.coverage) == (True, 1.0)


# Languages.


WORD_LISTS = {"refusal", "sentiment", "warmth", "competence"}
TYPED = {"salary", "price", "years", "stance", "hedges", "divergence"}
"""Features that are read in English only, and the distances of items and meaning."""


@pytest.mark.parametrize(("language", "unknown"), [("en", set()), ("sw", WORD_LISTS | TYPED)])
def test_metric_that_does_not_know_the_language_is_not_measured(
    tmp_path: Path, language: str, unknown: set[str]
) -> None:
    questions = [make_question(n, label="accepted", fitness=0.4, language=language) for n in range(6)]
    rows = [
        make_response(q, v.index, k, f"Ongea naye kesho {k} {v.index}.", phase="holdout")
        for q in questions
        for v in q.variants
        for k in range(3)
    ]
    effects = effects_of(run(tmp_path, questions, rows), level="attribute")
    is_installed = find_encoder() is not None
    gaps = [e for e in effects if ":" in e.metric and (is_installed or e.metric != "divergence:meaning")]
    assert {e.language for e in gaps} == {language}
    assert {e.metric.partition(":")[0] for e in gaps if not e.is_measured} == unknown
    for e in gaps:
        assert (e.value is None) == (not e.is_measured)
        assert e.is_measured or repr(language) in str(e.reason)


def test_languages_are_never_pooled(tmp_path: Path) -> None:
    questions = [
        make_question(n, label="accepted", fitness=0.4, language="en" if n < 3 else "es") for n in range(6)
    ]
    rows = [
        make_response(q, v.index, k, f"Talk {k} {v.index}.", phase="holdout")
        for q in questions
        for v in q.variants
        for k in range(3)
    ]
    outcome = run(tmp_path, questions, rows)
    assert {e.language for e in effects_of(outcome, level="family", metric="divergence")} == {"en", "es"}


# Counting.


def test_status_of_answers() -> None:
    question = decisions(1)[0]
    seen = {
        "read": make_response(question, 0, 0, "Yes", option=0),
        "unreadable": make_response(question, 0, 0, "Hm."),
        "refused": make_response(question, 0, 0, "I can't.", refused=True),
        "empty": make_response(question, 0, 0, " "),
        "failed": make_response(question, 0, 0, "", failure="timeout", failure_message="x"),
    }
    assert {answer_status(question, r) for r in seen.values()} == set(seen)
    for status, response in seen.items():
        assert answer_status(question, response) == status
    cut = make_response(question, 0, 0, "", failure="truncated_reasoning", failure_message="x")
    assert answer_status(question, cut) == "empty"


def test_losses_are_named_with_their_number() -> None:
    counts = StatusCounts(read=5, refused=2, empty=1)
    assert (counts.asked, counts.usable(refusals=False), counts.usable(refusals=True)) == (8, 5, 7)
    assert counts.losses(refusals=False) == "2 refused, 1 empty"
    assert counts.losses(refusals=True) == "1 empty"


@pytest.mark.parametrize(
    ("pair", "expected"),
    [("woman-man", ("woman", "man")), ("man", ("man",)), ("", ()), ("non-binary-man", ("non-binary", "man"))],
)
def test_values_of_a_metric(pair: str, expected: tuple[str, ...]) -> None:
    assert compared_values(pair, ("man", "non-binary", "woman")) == expected


def test_answers_to_unknown_questions_are_ignored() -> None:
    question = decisions(1)[0]
    assert AnswersBySlice({}, choices([question])).slices("attribute") == []


# Over HTTP.


def test_target_that_never_names_an_option_stops_the_build(make_context: MakeContext) -> None:
    with pytest.raises(ModelError, match="answers to questions of family `completion` could not be read"):
        ask_family(
            make_context,
            "Well, it depends.",
            "completion",
            families={"completion": {"questions": 3, "attributes": ["beauty"]}},
        )


def test_target_that_names_options_for_some_answers_only_is_not_measured(make_context: MakeContext) -> None:
    asked = ask_family(
        make_context,
        lambda messages, body: "A" if body["seed"] % 2 else "Well, it depends.",
        "completion",
        families={"completion": {"questions": 6, "samples": 2, "attributes": ["beauty"]}},
        validate={"below_coverage": "report"},
    )
    below = [e for e in asked.effects if e.level == "family" and e.metric == "tau_c_sai"]
    assert [e.value for e in below] == [None]
    assert all("could be read" in str(e.reason) for e in below)
