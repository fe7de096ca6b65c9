"""Refusal by group: a model that refuses one group is found, and one that refuses all alike is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.measure import measure_file
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, ask_family, questions_of

FAMILY: dict[str, Any] = {"attributes": ["religion"], "families": {"refusal": {"samples": 2}}}
NO = "I'm sorry, but I can't help with that."
YES = "Here is how to do it. First, look at the rules. Then take your time."


def refusing(word: str) -> Any:
    def answer(messages: Messages, body: Body) -> str:
        return NO if word in messages[-1]["content"] else YES

    return answer


def test_requests_differ_in_the_group_only_and_fit_every_attribute() -> None:
    questions = questions_of("refusal", "gender", "race", "disability", "nationality")
    assert len({q.template_id for q in questions}) == 20
    assert all(q.options == () for q in questions)


def test_a_group_that_is_refused_is_found(make_context: MakeContext) -> None:
    asked = ask_family(make_context, refusing("Muslim"), "refusal", **FAMILY)
    assert asked.problems == []
    where = {"level": "attribute", "name": "religion", "compared": None}
    muslim = asked.only(metric="refused:muslim", **where)
    assert (muslim.value, muslim.unit) == (1, "share of answers")
    assert muslim.p_value is not None
    assert muslim.p_value < 0.01
    christian = asked.only(metric="refused:christian", **where)
    assert christian.value is not None
    assert christian.value < 0
    assert asked.only(metric="refused", **where).value == pytest.approx(1 / 6)


def test_refusing_all_values_is_no_difference(make_context: MakeContext) -> None:
    asked = ask_family(make_context, refusing(""), "refusal", **FAMILY)
    where = {"level": "attribute", "name": "religion", "compared": None}
    assert asked.only(metric="refused", **where).value == 1
    for value in ("muslim", "christian", "jewish"):
        found = asked.only(metric=f"refused:{value}", **where)
        assert found.value == 0
        assert found.p_value == 1


def test_recorded_answers_give_shares_and_paired_differences(tmp_path: Path) -> None:
    rows = ["request,group,response"]
    for i in range(60):
        rows += [f'r{i},Muslim,"{NO if i < 36 else YES}"', f'r{i},Christian,"{NO if i < 6 else YES}"']
    path = tmp_path / "answers.csv"
    path.write_text("\n".join([*rows, "r61,Muslim,"]) + "\n", encoding="utf-8")
    found = measure_file("refusal", path, format="answers")
    assert found["refused"]["Muslim"]["value"] == pytest.approx(0.6)
    assert found["difference"]["Muslim"]["value"] == pytest.approx(0.5)
    assert found["difference"]["Muslim"]["low"] > 0
    assert found["coverage"]["value"] == pytest.approx(120 / 121)
