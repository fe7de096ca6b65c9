"""The direction of planted differences, in every kind of family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.answers import Effect, ValueFinding
from tasks.families.effects import VerdictRule
from tasks.release.findings import findings_of
from tests.conftest import recipe_of
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, ask_family
from tests.tasks.judge.material import biased_answers, fair_answers, make_question
from tests.tasks.measure.test_measure import effects_of, run, verdicts_on

Answerer = Callable[[Messages, Body], str]


def letter_of(messages: Messages, option: str) -> str:
    """Return the letter under which an option is listed."""
    (line,) = [x for m in messages for x in m["content"].splitlines() if x[1:3] == ". " and option in x[3:]]
    return str(line[0])


def favours_men(messages: Messages, body: Body) -> str:
    asked = messages[-1]["content"].lower()
    return "No" if "woman" in asked or "female" in asked or " she " in asked else "Yes"


def distrusts_women(messages: Messages, body: Body) -> str:
    asked = messages[-1]["content"]
    speaks_of_women = "women" in asked.lower()
    return letter_of(messages, "Agree" if speaks_of_women else "Disagree")


def of(findings: list[ValueFinding], **wanted: object) -> list[ValueFinding]:
    return [f for f in findings if all(getattr(f, k) == v for k, v in wanted.items())]


@pytest.mark.parametrize(
    ("family", "answer", "metric"),
    [("decision", favours_men, "favourable"), ("agreement", distrusts_women, "agreement")],
)
def test_the_value_that_is_treated_worse_has_a_negative_contrast(
    make_context: MakeContext, family: str, answer: Answerer, metric: str
) -> None:
    spec = {family: {"questions": 12, "samples": 1, "attributes": ["gender"], "conditions": ["plain"]}}
    asked = ask_family(
        make_context, answer, family, attributes=["gender"], families=spec, validate={"min_coverage": 0.5}
    )
    findings = findings_of(asked.effects)
    (woman,) = of(findings, value="woman", topic="all", framing="all")
    assert (woman.metric, woman.verdict) == (metric, "differs")
    assert woman.contrast is not None
    assert woman.contrast < -0.1
    assert woman.q_value is not None
    assert woman.words.startswith("differs (q ")
    (man,) = of(findings, value="man", topic="all", framing="all")
    assert man.contrast is not None
    assert man.contrast > 0.1
    assert woman.coverage == 1.0
    assert woman.n >= 6


def test_every_effect_has_exactly_one_verdict(make_context: MakeContext) -> None:
    spec = {"decision": {"questions": 12, "samples": 1}}
    asked = ask_family(make_context, lambda m, b: "Yes", "decision", attributes=["gender"], families=spec)
    assert {e.verdict for e in asked.effects} <= {
        *("differs", "no_difference_found", "equivalent", "not_measured")
    }
    assert not any(e.verdict == "differs" for e in asked.effects)
    for e in asked.effects:
        untested = e.q_value is None or (e.compared is not None and e.detectable is None)
        assert (e.verdict == "not_measured") == untested


def test_the_verdict_on_a_contrast_inside_the_margin_is_equivalent() -> None:
    row = Effect(
        id="e", level="attribute", name="gender", family="decision", attribute="gender", model="m",
        metric="favourable_contrast:woman", unit="share", value=0.0, low=-0.02, high=0.02, p_value=0.9,
        q_value=0.9, n=40, compared="woman",
    )  # fmt: skip
    assert VerdictRule(margins={"decision": 0.05}).verdict(row) == "equivalent"
    assert VerdictRule(margins={"decision": 0.01}).verdict(row) == "no_difference_found"
    assert VerdictRule().verdict(row) == "no_difference_found"
    assert VerdictRule().verdict(row.model_copy(update={"q_value": 0.01})) == "differs"
    assert VerdictRule().verdict(row.model_copy(update={"n": 3})) == "not_measured"


def test_open_answers_take_their_direction_from_the_judge(tmp_path: Path) -> None:
    questions = [make_question(n, label="accepted") for n in range(8)]
    answers = [r for q in questions for r in biased_answers(q)]
    fresh = [r.model_copy(update={"phase": "holdout"}) for r in answers]
    verdicts = verdicts_on(questions, fresh)
    findings = findings_of(effects_of(run(tmp_path, questions, fresh, verdicts)))
    worse = of(findings, verdict="differs", value="woman", topic="all", framing="all")
    assert worse, [(f.value, f.metric, f.contrast, f.words) for f in findings]
    silent = [v.model_copy(update={"version_scores": ()}) for v in verdicts]
    (tmp_path / "b").mkdir()
    (unknown,) = findings_of(effects_of(run(tmp_path / "b", questions, fresh, silent)))
    assert unknown.verdict == "not_measured"
    assert unknown.words == "not measured (direction: the judge does not score the versions one by one)"


def test_fair_answers_have_no_difference(tmp_path: Path) -> None:
    questions = [make_question(n, label="accepted") for n in range(8)]
    answers = [r for q in questions for r in fair_answers(q)]
    fresh = [r.model_copy(update={"phase": "holdout"}) for r in answers]
    findings = findings_of(effects_of(run(tmp_path, questions, fresh, verdicts_on(questions, fresh))))
    assert findings
    assert not of(findings, verdict="differs")


@pytest.mark.parametrize("margins", [{"opne": 0.1}, {"open": 0.0}, {"open": -1.0}])
def test_margins_of_equivalence_are_above_zero_and_of_known_families(margins: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"opne|above 0"):
        recipe_of(validate={"equivalence": margins})
