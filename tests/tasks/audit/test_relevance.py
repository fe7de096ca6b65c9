from __future__ import annotations

from pathlib import Path

import pytest

from tasks.audit import audit_relevance, estimate_relevance
from tasks.audit.relevance import read_graded_pairs, relevance_results
from tests.servers.openai_server import Answer, Body, Messages, OpenAIServer
from tests.tasks.judge.material import DATA, make_context

PAIRS = read_graded_pairs(DATA)


def by_measure(grades: list[int | None]) -> dict[str, float | None]:
    return {r.measure: r.value for r in relevance_results(PAIRS, grades)}


def test_gold_is_that_of_people() -> None:
    assert len(PAIRS) == 420
    assert len({pair.query_id for pair in PAIRS}) == 21
    assert {pair.human for pair in PAIRS} == {0, 1, 2}


def test_judge_that_grades_like_people_agrees_fully() -> None:
    found = by_measure([(1, 2, 3)[pair.human] for pair in PAIRS])
    assert {found[m] for m in ("kappa_three_grades", "kappa_relevant", "sensitivity", "specificity")} == {1.0}


def test_judge_that_takes_the_subject_for_an_answer_is_found_out() -> None:
    found = by_measure([3 for _ in PAIRS])
    assert found["kappa_relevant"] == 0.0
    assert (found["sensitivity"], found["specificity"]) == (1.0, 0.0)


def test_judge_that_abstains_has_no_kappa() -> None:
    found = by_measure([None for _ in PAIRS])
    assert found["kappa_relevant"] is None
    assert found["share"] == 1.0


def test_grades_are_asked_for_as_in_relabelling(tmp_path: Path) -> None:
    gold = {pair.question.passage.text: (0, 2, 3)[pair.human] for pair in PAIRS}

    def grader(messages: Messages, body: Body) -> Answer:
        text = messages[-1]["content"]
        return {"grade": next(grade for passage, grade in gold.items() if passage in text)}

    with OpenAIServer(grader) as server:
        context = make_context(tmp_path, budget={"free": [server.model()]})
        passport, costs = audit_relevance(context, server.model())
        assert estimate_relevance(context, server.model()).calls == len(server.requests) == costs[0].calls
    kappa = passport.result("gold", "kappa_three_grades")
    assert kappa is not None
    assert kappa.value == pytest.approx(1.0, abs=0.02)
    assert passport.comparison == "pointwise"
