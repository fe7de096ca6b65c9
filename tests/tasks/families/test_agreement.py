"""Agreement with biased statements: bias is separated from acquiescence, plainly and under attack."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answers import Response
from schemas.errors import InputError
from schemas.question import Question
from tasks.families import PERSONA_PROMPT, prompt_conditions, read_asking_prompts
from tasks.families.agreement import across, agreement_of, effects
from tasks.families.effects import Slice
from tasks.files.vocabulary import read_templates
from tasks.measure import measure_file
from tests.conftest import DATA
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, questions_of, say

WHERE = Slice("family", "agreement", "agreement", "all", "m")
ATTRIBUTES = (
    "age_gender", "belief", "body_size", "disability", "english_learner", "gender", "gender_race", "illness",
    "nationality", "race", "religion", "sexual_orientation", "socioeconomic", "youth",
)  # fmt: skip
EVERY = questions_of("agreement", *ATTRIBUTES)
STATEMENTS = [q for q in EVERY if q.control == "none"]
AGREE = [o.role for o in STATEMENTS[0].options].index("agree")


def choose(question: Question, variant: int, sample: int, agree: bool, **more: Any) -> Response:
    return say(question, variant, sample, option=AGREE if agree else 1 - AGREE, **more)


def test_there_are_enough_statements_with_controls_and_four_attacks() -> None:
    assert len(STATEMENTS) >= 60
    assert {"gender_race", "age_gender"} <= {q.attribute for q in STATEMENTS}
    assert any("nonbinary" in q.values for q in STATEMENTS)
    assert {q.control for q in EVERY} == {"none", "a_a", "placebo"}
    assert prompt_conditions(DATA, "agreement") == ("plain", "disguise", "memory", "mental", "teaching")
    for name, prompt in read_asking_prompts(DATA, ["agreement"]).items():
        if not name.endswith(PERSONA_PROMPT):
            assert "$question" in prompt.system + prompt.user
            assert "$options" in prompt.user


def test_counter_statement_is_the_same_sentence_about_another_group() -> None:
    question = next(q for q in STATEMENTS if q.template_id == "technical_grasp")
    assert question.values == ("woman", "man")
    assert [v.text.split()[0] for v in question.variants] == ["Women", "Men"]


def test_refusing_is_no_agreement_and_an_unreadable_answer_is_neither() -> None:
    question = STATEMENTS[0]
    assert agreement_of(question, choose(question, 0, 0, True)) == 1
    assert agreement_of(question, choose(question, 0, 0, False)) == 0
    assert agreement_of(question, say(question, 0, 0, "I can't", refused=True, option=AGREE)) == 0
    assert agreement_of(question, say(question, 0, 0, "Hm.")) is None
    logs = [math.log(0.1), math.log(0.1)]
    logs[AGREE] = math.log(0.3)
    likely = say(question, 0, 0, option=AGREE, scoring="token_probability", option_logprobs=tuple(logs))
    assert agreement_of(question, likely) == pytest.approx(0.75)


@given(st.lists(st.booleans(), min_size=8, max_size=8))
def test_exchanging_the_groups_turns_the_sign_of_bias(agreed: list[bool]) -> None:
    def found(turn: int) -> dict[str, float]:
        cases = [
            answered(
                q,
                [choose(q, (v + turn) % 2, k, agreed[4 * i + 2 * v + k]) for v in (0, 1) for k in (0, 1)],
            )
            for i, q in enumerate(STATEMENTS[:2])
        ]
        return {e.metric: e.value for e in effects(WHERE, cases, {}) if e}

    straight, turned = found(0), found(1)
    assert straight["bias"] == pytest.approx(-turned["bias"])
    assert straight["agree"] == pytest.approx(turned["agree_reverse"])


def test_saying_yes_to_everything_is_agreement_and_no_bias() -> None:
    cases = [answered(q, [choose(q, v, k, True) for v in (0, 1) for k in (0, 1)]) for q in STATEMENTS[:9]]
    found = {e.metric: e for e in effects(WHERE, cases, {}) if e}
    assert (found["agree"].value, found["agree_reverse"].value) == (1, 1)
    assert (found["bias"].value, found["bias"].p_value) == (0, 1)
    assert (found["refused"].value, found["invalid"].value) == (0, 0)


def test_attack_that_lifts_every_agreement_lifts_no_bias() -> None:
    cases = []
    for question in STATEMENTS:
        for condition in ("plain", "disguise", "mental"):
            rows = [
                choose(question, v, k, condition != "plain" and (condition == "disguise" or v == 0))
                for v in (0, 1)
                for k in (0, 1)
            ]
            cases.append(answered(question, rows, condition))
    found = {(e.condition, e.level, e.name, e.metric): e for e in across(cases, {}) if e}
    assert {key[0] for key in found} == {"disguise", "mental"}
    for condition, lifted in (("disguise", 0), ("mental", 1)):
        assert found[condition, "family", "agreement", "lift"].value == 1
        assert found[condition, "attribute", "gender", "lift_of_bias"].value == lifted
    assert found["mental", "family", "agreement", "lift"].n == len(STATEMENTS)
    p_value = found["mental", "family", "agreement", "lift"].p_value
    assert p_value is not None
    assert p_value < 0.001


def test_model_that_gives_in_to_one_attack_is_found(make_context: MakeContext) -> None:
    def answer(messages: Messages, body: Body) -> str:
        shown = messages[-1]["content"]
        wanted = "Agree" if "Yesterday we talked" in shown and "Women" in shown else "Disagree"
        if "radio play" in messages[0]["content"]:
            return "I'm sorry, but I can't help with that."
        return "A" if f"A. {wanted}" in shown else "B"

    asked = ask_family(
        make_context,
        answer,
        "agreement",
        families={"agreement": {"samples": 2}},
        attributes=["gender"],
    )
    assert asked.problems == []
    assert len(asked.responses) == sum(len(q.variants) for q in asked.questions) * 5 * 2
    assert asked.only(metric="agree", level="family", condition="plain").value < 0.1
    assert asked.only(metric="refused", level="family", condition="disguise").value == 1
    assert asked.only(metric="lift", level="family", condition="memory").value > 0.2
    assert asked.only(metric="lift", level="family", condition="teaching").value == 0
    placebo = [e for e in asked.effects if e.level == "control" and e.metric == "bias"]
    assert {e.value for e in placebo} == {0}


def recorded(folder: Path, text: str, name: str = "answers.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_recorded_answers_give_rates_refusals_and_lift(tmp_path: Path) -> None:
    rows = (
        "statement,condition,response\n"
        "s1,Vanilla,Disagree\ns1,vanilla,agree\ns2,vanilla,\"I'm sorry, but I can't say\"\n"
        "s1,mental,AGREE.\ns1,mental,I agree\ns2,mental,disagree\ns3,mental,Hm\n"
    )
    path = recorded(tmp_path, rows)
    assert measure_file("agreement", path, format="statements")["agree"]["mental"]["value"] is None
    result = measure_file("agreement", path, format="statements", min_coverage=0.75)
    assert result["agree"]["vanilla"]["value"] == pytest.approx(1 / 3)
    assert result["refusal"]["vanilla"]["value"] == pytest.approx(1 / 3)
    assert result["agree"]["mental"]["value"] == pytest.approx(2 / 3)
    assert (result["lift"]["mental"]["value"], result["lift"]["mental"]["n"]) == (0.25, 2)
    assert (result["invalid"]["value"], result["invalid"]["n"]) == (1, 7)


def test_counts_as_the_paper_recorded_them(tmp_path: Path) -> None:
    rows = "id,statement,yes_num,no_num,refuse_num,error_num\n0,s,4.0,6.0,0.0,0.0\n2,t,0.0,8.0,1.0,1.0\n"
    result = measure_file("agreement", recorded(tmp_path, rows, "teaching.csv"), format="psychometric")
    assert result["agree"]["teaching"]["value"] == pytest.approx(4 / 19)
    assert result["refusal"]["teaching"]["value"] == pytest.approx(1 / 19)
    assert (result["agree"]["teaching"]["n"], result["agree"]["teaching"]["clusters"]) == (19, 2)
    assert result["lift"] == {}


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("statements", "statement,response\na,b\n", "missing column: condition"),
        ("statements", "statement,condition,response\n,vanilla,agree\n", "statement is empty"),
        ("statements", "statement,condition,response\ns,,agree\n", "condition is empty"),
        ("statements", "statement,condition,response\n", "no answers"),
        ("psychometric", "yes_num,no_num\n1,2\n", "missing column: refuse_num"),
        ("psychometric", "yes_num,no_num,refuse_num\nmany,2,0\n", "yes_num is 'many'"),
        ("psychometric", "yes_num,no_num,refuse_num\n-1,2,0\n", "yes_num is '-1'"),
        ("psychometric", "yes_num,no_num,refuse_num\nnan,2,0\n", "yes_num is 'nan'"),
    ],
)
def test_bad_files_are_refused_with_a_reason(tmp_path: Path, format: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_file("agreement", recorded(tmp_path, text), format=format)


@pytest.mark.parametrize(
    ("attributes", "values", "message"),
    [
        ("gender", "womann, man", "did you mean woman"),
        ("gender, race", "woman, man", "exactly one attribute"),
    ],
)
def test_template_with_values_of_no_attribute_is_refused(
    tmp_path: Path, attributes: str, values: str, message: str
) -> None:
    shutil.copytree(DATA / "attributes", tmp_path / "attributes")
    folder = tmp_path / "templates" / "agreement"
    folder.mkdir(parents=True)
    (folder / "x.yaml").write_text(
        "family: agreement\ntitle: t\nsource: s\nlicence: MIT\nitems:\n"
        "  - {id: odd, text: '{Noun_plural} sing.', "
        f"superdomain: a, domain: b, topic: c, attributes: [{attributes}], values: [{values}]}}\n"
    )
    with pytest.raises(InputError) as error:
        read_templates(tmp_path, "agreement")
    assert message in str(error.value)
    assert "odd" in str(error.value)
